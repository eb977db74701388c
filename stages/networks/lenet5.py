"""LeNet-5 (LeCun et al. 1998, "Gradient-based learning applied to document recognition")."""

from collections.abc import Sequence

import torch
from torch import nn

from stages.common.params import LeNet5Params

# The maps of S2 that each map of C3 sees: table I of LeCun et al. 1998.
C3_CONNECTIONS = (
    *((i, (i + 1) % 6, (i + 2) % 6) for i in range(6)),
    *((i, (i + 1) % 6, (i + 2) % 6, (i + 3) % 6) for i in range(6)),
    *((i, (i + 1) % 6, (i + 3) % 6, (i + 4) % 6) for i in range(3)),
    (0, 1, 2, 3, 4, 5),
)


def layers(recipe: LeNet5Params, classes: int) -> list[nn.Module]:
    """List the layers from normalised images, float32 [N, 1, 28, 28], to logits, [N, classes].

    Both variants have the paper's maps and units. ``modern`` has batch norm, ReLU in place
    of the scaled tanh, max pooling in place of the trained average, and C3 connected to all of S2's
    maps; ``classic`` has the paper's own layers. Both have a linear output layer in place of the
    radial basis functions, whose centres are drawings of characters.
    """
    make = _classic_layers if recipe.variant == "classic" else _modern_layers
    return make(recipe, classes)


def _modern_layers(recipe: LeNet5Params, classes: int) -> list[nn.Module]:
    return [
        nn.Conv2d(1, 6, 5, padding=2, bias=False),  # C1; the paper pads its images to 32x32
        nn.MaxPool2d(2),  # S2, ahead of norm and activation, which quarters their work
        nn.BatchNorm2d(6),
        nn.ReLU(),
        nn.Conv2d(6, 16, 5, bias=False),  # C3
        nn.MaxPool2d(2),  # S4
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.Conv2d(16, 120, 5, bias=False),  # C5
        nn.BatchNorm2d(120),
        nn.ReLU(),
        nn.Flatten(),
        nn.Dropout(recipe.dropout),
        nn.Linear(120, 84, bias=False),  # F6
        nn.BatchNorm1d(84),
        nn.ReLU(),
        nn.Linear(84, classes),
    ]


def _classic_layers(recipe: LeNet5Params, classes: int) -> list[nn.Module]:
    classic = [
        nn.Conv2d(1, 6, 5, padding=2),  # C1
        ScaledTanh(),
        TrainedAveragePool(6),  # S2
        ScaledTanh(),
        PartlyConnectedConv2d(C3_CONNECTIONS, 5),  # C3
        ScaledTanh(),
        TrainedAveragePool(16),  # S4
        ScaledTanh(),
        nn.Conv2d(16, 120, 5),  # C5
        ScaledTanh(),
        nn.Flatten(),
        nn.Dropout(recipe.dropout),
        nn.Linear(120, 84),  # F6
        ScaledTanh(),
        nn.Linear(84, classes),
    ]
    for layer in classic:
        if isinstance(layer, (nn.Conv2d, nn.Linear)):  # the paper's appendix A, C3 as if connected
            bound = 2.4 / layer.weight[0].numel()
            nn.init.uniform_(layer.weight, -bound, bound)
    return classic


class ScaledTanh(nn.Module):
    """The squashing function of LeCun et al. 1998: 1.7159 tanh(2a/3)."""

    def forward(self, sums: torch.Tensor) -> torch.Tensor:
        """Squash every element."""
        return 1.7159 * torch.tanh(sums * (2 / 3))


class TrainedAveragePool(nn.AvgPool2d):
    """The sum of 2x2 units times a trained coefficient plus a trained bias, one of each per map."""

    def __init__(self, maps: int) -> None:
        super().__init__(2, divisor_override=1)
        self.coefficient = nn.Parameter(torch.full((maps,), 0.25))
        self.bias = nn.Parameter(torch.zeros(maps))

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """Pool float32 [N, maps, H, W] to [N, maps, H / 2, W / 2]."""
        return super().forward(maps) * self.coefficient[:, None, None] + self.bias[:, None, None]


class PartlyConnectedConv2d(nn.Conv2d):
    """A convolution whose output maps each see only some of the input maps.

    ``connections`` lists, for each output map, the input maps that it sees.
    """

    def __init__(self, connections: Sequence[Sequence[int]], kernel_size: int) -> None:
        inputs = 1 + max(max(seen) for seen in connections)
        super().__init__(inputs, len(connections), kernel_size)
        mask = torch.zeros(len(connections), inputs, 1, 1)
        for output, seen in enumerate(connections):
            mask[output, list(seen)] = 1
        self.register_buffer("mask", mask)

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """Convolve float32 [N, inputs, H, W], unpadded, to [N, outputs, ...]."""
        return self._conv_forward(maps, self.weight * self.mask, self.bias)
