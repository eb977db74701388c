"""The networks: raw images in, logits out."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn

from stages.common.fashion_mnist import CLASS_NAMES, IMAGE_SIZE
from stages.common.params import LeNet5Params, RecipeParams, TwoConvParams
from stages.common.tensors import read_tensors, refuse, write_tensors


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


class TwoConv(ImageClassifier):
    """Exactly two convolutions and one linear layer.

    The first is pooled before its norm and activation, which quarters their work; the second
    halves the image by its stride, at a quarter of the work of pooling after it.
    """

    def __init__(self, recipe: TwoConvParams) -> None:
        first, second = recipe.channels
        kernel, padding = recipe.kernel_size, recipe.kernel_size // 2
        super().__init__(
            nn.Conv2d(1, first, kernel, padding=padding, bias=False),
            nn.MaxPool2d(2),
            nn.BatchNorm2d(first),
            nn.ReLU(),
            nn.Conv2d(first, second, kernel, stride=2, padding=padding, bias=False),
            nn.BatchNorm2d(second),
            nn.ReLU(),
            FlattenChannelsLast(),
            nn.Dropout(recipe.dropout),
            nn.Linear(second * (IMAGE_SIZE // 4) ** 2, len(CLASS_NAMES)),
        )


class FlattenChannelsLast(nn.Module):
    """Flatten maps pixel by pixel, the order that they have in memory, which copies nothing."""

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """Flatten float32 [N, maps, H, W] to [N, H x W x maps]."""
        return maps.permute(0, 2, 3, 1).flatten(1)


class LeNet5(ImageClassifier):
    """LeNet-5 with the paper's maps and units (LeCun et al. 1998).

    The variant ``modern`` has batch norm, ReLU for the scaled tanh, max pooling for the trained
    average, and C3 connected to all of S2's maps. ``classic`` has the paper's own layers. Both
    have a linear output layer for the radial basis functions, whose centres are drawings of
    characters.
    """

    def __init__(self, recipe: LeNet5Params) -> None:
        layers = _classic_layers if recipe.variant == "classic" else _modern_layers
        super().__init__(*layers(recipe))


def _modern_layers(recipe: LeNet5Params) -> list[nn.Module]:
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
        nn.Linear(84, len(CLASS_NAMES)),
    ]


def _classic_layers(recipe: LeNet5Params) -> list[nn.Module]:
    layers = [
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
        nn.Linear(84, len(CLASS_NAMES)),
    ]
    for layer in layers:
        if isinstance(layer, (nn.Conv2d, nn.Linear)):  # the paper's appendix A, C3 as if connected
            bound = 2.4 / layer.weight[0].numel()
            nn.init.uniform_(layer.weight, -bound, bound)
    return layers


# The maps of S2 that each map of C3 sees: table I of LeCun et al. 1998.
C3_CONNECTIONS = (
    *((i, (i + 1) % 6, (i + 2) % 6) for i in range(6)),
    *((i, (i + 1) % 6, (i + 2) % 6, (i + 3) % 6) for i in range(6)),
    *((i, (i + 1) % 6, (i + 3) % 6, (i + 4) % 6) for i in range(3)),
    (0, 1, 2, 3, 4, 5),
)


class ScaledTanh(nn.Module):
    """The squashing function of LeCun et al. 1998: 1.7159 tanh(2a/3)."""

    def forward(self, sums: torch.Tensor) -> torch.Tensor:
        """Squash each of float32 [...]."""
        return 1.7159 * torch.tanh(sums * (2 / 3))


class TrainedAveragePool(nn.AvgPool2d):
    """The sum of 2x2 units times a trained coefficient plus a trained bias, one each a map."""

    def __init__(self, maps: int) -> None:
        super().__init__(2, divisor_override=1)
        self.coefficient = nn.Parameter(torch.full((maps,), 0.25))
        self.bias = nn.Parameter(torch.zeros(maps))

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """Pool float32 [N, maps, H, W] to [N, maps, H / 2, W / 2]."""
        return super().forward(maps) * self.coefficient[:, None, None] + self.bias[:, None, None]


class PartlyConnectedConv2d(nn.Conv2d):
    """A convolution whose output maps see some of the input maps each.

    Parameters
    ----------
    connections : sequence of sequence of int
        For each output map, the input maps that it sees.
    kernel_size : int
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


NETWORKS: dict[str, type[ImageClassifier]] = {"two_conv": TwoConv, "lenet5": LeNet5}


def build_network(name: str, recipe: RecipeParams) -> ImageClassifier:
    """Build a network with fresh weights from torch's global generator."""
    return NETWORKS[name](recipe).to(memory_format=torch.channels_last)


def count_parameters(network: nn.Module) -> int:
    """Count the weights, those that ``PartlyConnectedConv2d`` masks too."""
    return sum(parameter.numel() for parameter in network.parameters())


def write_network(path: Path, name: str, network: ImageClassifier) -> None:
    """Write the weights and buffers of a network."""
    write_tensors(path, network.state_dict(), {"network": name})


def read_network(path: Path, name: str, recipe: RecipeParams) -> ImageClassifier:
    """Read a trained network, in evaluation mode.

    Raises
    ------
    StageError
        If the file is missing, damaged, not finite, or of another network.
    """
    rebuild = f"train@{name}"
    tensors, content = read_tensors(path, rebuild)
    if content.get("network") != name:
        found = content.get("network", "no network")
        raise refuse(path, f"expected the weights of {name}, found {found}", rebuild)
    network = build_network(name, recipe)
    expected = network.state_dict()
    for key in sorted(expected.keys() | tensors.keys()):
        wanted, found = _describe(expected.get(key)), _describe(tensors.get(key))
        if wanted != found:
            reason = f"expected {key} to be {wanted} by params.yaml, found {found}"
            raise refuse(path, reason, rebuild)
        if not tensors[key].isfinite().all():
            raise refuse(path, f"expected numbers in {key}, found NaN or infinity", rebuild)
    network.load_state_dict(tensors)
    return network.eval()


def _describe(tensor: torch.Tensor | None) -> str:
    return "absent" if tensor is None else f"{tensor.dtype} {list(tensor.shape)}"
