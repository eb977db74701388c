"""two_conv: two convolutions and a linear layer."""

import torch
from torch import nn

from stages.classifier.image_classifier import build_network, count_parameters
from stages.networks.two_conv import FlattenChannelsLast
from tests.conftest import PARAMS


def test_two_conv_is_two_convolutions_and_a_linear_layer() -> None:
    network = build_network("two_conv", PARAMS)
    convolutions, linear = (
        [module for module in network.modules() if isinstance(module, kind)]
        for kind in (nn.Conv2d, nn.Linear)
    )
    assert (len(convolutions), len(linear)) == (2, 1)
    assert count_parameters(network) <= 200_000


def test_two_conv_flattens_its_maps_without_a_copy() -> None:
    network = build_network("two_conv", PARAMS)
    (flatten,) = (module for module in network.modules() if isinstance(module, FlattenChannelsLast))
    seen = []
    flatten.register_forward_hook(lambda _, inputs, flat: seen.append((*inputs, flat)))
    network(torch.zeros(3, 1, 28, 28, dtype=torch.uint8))
    ((maps, flat),) = seen
    assert flat.shape == (3, maps[0].numel())
    assert flat.data_ptr() == maps.data_ptr()
