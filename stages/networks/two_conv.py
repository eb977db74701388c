"""Two convolutions and one linear layer."""

import torch
from torch import nn

from stages.common.mnist_format import IMAGE_SIZE
from stages.common.params import TwoConvParams


def layers(recipe: TwoConvParams, classes: int) -> list[nn.Module]:
    """List the layers from normalised images, float32 [N, 1, 28, 28], to logits, [N, classes].

    The first convolution is pooled before its norm and activation, which quarters their work; the
    second halves the image by its stride, at a quarter of the work of pooling after it.
    """
    first, second = recipe.channels
    kernel, padding = recipe.kernel_size, recipe.kernel_size // 2
    return [
        nn.Conv2d(1, first, kernel, padding=padding, bias=False),
        nn.MaxPool2d(2),
        nn.BatchNorm2d(first),
        nn.ReLU(),
        nn.Conv2d(first, second, kernel, stride=2, padding=padding, bias=False),
        nn.BatchNorm2d(second),
        nn.ReLU(),
        FlattenChannelsLast(),
        nn.Dropout(recipe.dropout),
        nn.Linear(second * (IMAGE_SIZE // 4) ** 2, classes),
    ]


class FlattenChannelsLast(nn.Module):
    """Flatten maps pixel by pixel, the order that they have in memory, which copies nothing."""

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """Flatten float32 [N, maps, H, W] to [N, H x W x maps]."""
        return maps.permute(0, 2, 3, 1).flatten(1)
