"""lenet5: the layers of LeCun et al. 1998."""

import torch
from torch import nn

from stages.classifier.image_classifier import ImageClassifier, build_network
from tests.conftest import PARAMS


def shapes(network: ImageClassifier) -> list[tuple[int, ...]]:
    """List the shapes of what the layers with weights put out, without the norms."""
    found = []

    def note(module: nn.Module, _inputs: object, output: torch.Tensor) -> None:
        if isinstance(module, (nn.Conv2d, nn.Linear, nn.MaxPool2d, nn.AvgPool2d)):
            found.append(tuple(output.shape[1:]))

    for module in network.modules():
        module.register_forward_hook(note)
    network.eval()(torch.zeros(1, 1, 28, 28, dtype=torch.uint8))
    return found


def test_lenet5_has_the_maps_and_units_of_the_paper() -> None:
    network = build_network("lenet5", PARAMS)
    c1, s2, c3, s4, c5, f6, output = (6, 28, 28), (6, 14, 14), (16, 10, 10), (16, 5, 5), 120, 84, 10
    assert shapes(network) == [c1, s2, c3, s4, (c5, 1, 1), (f6,), (output,)]


def test_the_classic_lenet5_has_the_trained_weights_of_the_paper() -> None:
    recipe = PARAMS.lenet5.model_copy(update={"variant": "classic"})
    network = build_network("lenet5", PARAMS.model_copy(update={"lenet5": recipe}))
    c1, s2, c3, s4, c5, f6, output = (6, 28, 28), (6, 14, 14), (16, 10, 10), (16, 5, 5), 120, 84, 10
    assert shapes(network) == [c1, s2, c3, s4, (c5, 1, 1), (f6,), (output,)]

    images = torch.randint(256, (64, 1, 28, 28), dtype=torch.uint8)
    network(images).square().sum().backward()
    used = sum(weight.grad.count_nonzero().item() for weight in network.parameters())
    assert used == 60_000 + 850  # the paper counts its output layer, here linear, as not trained
