"""What all networks have in common: raw images in, logits out."""

from importlib import import_module

import torch
from torch import nn

from stages.classifier.convolution import fix_convolutions
from stages.common.params import RecipeParams


class ImageClassifier(nn.Module):
    """Layers behind the normalisation of the pixels, so that no caller can preprocess differently.

    Parameters
    ----------
    *layers : nn.Module
        From normalised images, float32 [N, 1, 28, 28], to logits, float32 [N, 10].
    """

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.register_buffer("pixel_mean", torch.tensor(0.0))
        self.register_buffer("pixel_std", torch.tensor(1.0))
        self.layers = nn.Sequential(*layers)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Compute logits, float32 [N, 10], from images, uint8 [N, 1, 28, 28]."""
        pixels = (images.float() - self.pixel_mean) / self.pixel_std
        return self.layers(pixels.contiguous(memory_format=torch.channels_last))


def build_network(name: str, recipe: RecipeParams) -> ImageClassifier:
    """Build the network of ``stages/networks/<name>.py``, its weights from the global generator."""
    network = ImageClassifier(*build_layers(name, recipe)).to(memory_format=torch.channels_last)
    fix_convolutions(network)
    return network


def build_layers(name: str, recipe: RecipeParams) -> list[nn.Module]:
    """Build the layers of ``stages/networks/<name>.py`` as they stand there."""
    # By name, so that a stage loads, and depends on, the file of its own network alone.
    return import_module(f"stages.networks.{name}").layers(recipe)


def count_parameters(network: nn.Module) -> int:
    """Count the parameters, with those that ``PartlyConnectedConv2d`` masks out."""
    return sum(parameter.numel() for parameter in network.parameters())
