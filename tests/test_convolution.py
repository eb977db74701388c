"""Convolutions: each form is torch's own sum, and says which code it needs."""

import copy
import re

import pytest
import torch
from torch import nn

from stages.classifier.convolution import convolve, fix_convolutions, needs_avx2
from stages.classifier.image_classifier import build_network
from tests.conftest import PARAMS, Clone

FORMS = {
    "one map": (nn.Conv2d(1, 6, 5, padding=2), 28),
    "one map, stride, no bias": (nn.Conv2d(1, 6, 3, (2, 3), bias=False), 28),
    "one map, padded alike": (nn.Conv2d(1, 4, 4, padding="same"), 9),
    "one map, padded in a circle": (nn.Conv2d(1, 4, 3, padding=1, padding_mode="circular"), 9),
    "as large as its maps": (nn.Conv2d(16, 12, 5), 5),
    "as large as its padded maps": (nn.Conv2d(3, 12, 5, padding=1), 5),
    "long sums": (nn.Conv2d(33, 4, 5, 2, padding=2), 14),
    "long sums of gradients": (nn.Conv2d(3, 129, 5, padding="valid"), 8),
    "oneDNN's own": (nn.Conv2d(32, 128, 5, 2, padding=2), 14),
    "in groups": (nn.Conv2d(4, 8, 3, groups=2), 8),
    "dilated": (nn.Conv2d(1, 8, 3, dilation=2), 8),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_torchs_own_maps_and_gradients(form: str) -> None:
    layer, size = FORMS[form]
    generator = torch.Generator().manual_seed(1)
    maps = torch.randn(3, layer.in_channels, size, size, generator=generator)
    computed = []
    for of in (layer, fixed(layer)):
        inputs = maps.contiguous(memory_format=torch.channels_last).requires_grad_()
        outputs = of(inputs)
        computed.append(
            [outputs, *torch.autograd.grad(outputs.square().sum(), [inputs, *of.parameters()])]
        )
    for ours, torchs in zip(*computed, strict=True):
        torch.testing.assert_close(ours, torchs, rtol=1e-3, atol=1e-3)


def fixed(layer: nn.Conv2d) -> nn.Conv2d:
    ours = nn.Sequential(copy.deepcopy(layer)).to(memory_format=torch.channels_last)
    fix_convolutions(ours)
    assert ours[0]._conv_forward.__func__ is convolve
    return ours[0]


@pytest.mark.parametrize(
    ("network", "changes", "expected"),
    [
        ("two_conv", {}, False),
        ("two_conv", {"kernel_size": 7, "channels": [64, 256]}, False),
        ("lenet5", {}, False),
        ("lenet5", {"variant": "classic"}, False),
    ],
)
def test_what_params_offer_needs_no_avx2(network: str, changes: dict, expected: bool) -> None:
    recipe = PARAMS.recipe(network).model_copy(update=changes)
    built = build_network(network, PARAMS.model_copy(update={network: recipe}))
    images = torch.zeros(1, 1, 28, 28, dtype=torch.uint8)
    assert needs_avx2(built, images) is expected


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(1, 4, 3, padding=1, dilation=2),
        nn.Conv2d(1, 8, 17),
        nn.Conv2d(1, 8, (5, 1)),
        nn.Sequential(nn.Conv2d(1, 16, 3), nn.Conv2d(16, 16, 3, padding=1)),
        nn.Sequential(nn.Conv2d(1, 8, 3), nn.Conv2d(8, 8, 1)),
        nn.Sequential(nn.Conv2d(1, 8, 3), nn.ConvTranspose2d(8, 8, 2)),
    ],
    ids=["dilated", "wide kernel", "one column", "16 maps in, stride 1", "1x1", "transposed"],
)
def test_a_layer_that_may_differ_needs_avx2(layer: nn.Module) -> None:
    assert needs_avx2(layer, torch.zeros(1, 1, 28, 28))


def test_a_network_that_needs_avx2_starts_again_with_it(clone: Clone) -> None:
    layers = clone.path / "stages/networks/lenet5.py"
    deeper = "nn.Conv2d(6, 16, 5, bias=False), nn.Conv2d(16, 16, 3, padding=1),"
    layers.write_text(layers.read_text().replace("nn.Conv2d(6, 16, 5, bias=False),", deeper))
    done = clone.stage("train", "lenet5")
    assert re.search("^lenet5: .* AVX2's code$", done.stdout, re.MULTILINE)
    assert done.returncode == 0, done.stdout
    weights = clone.read("models/lenet5/model.safetensors")
    again = clone.stage("train", "lenet5", ONEDNN_MAX_CPU_ISA="AVX2")
    assert "AVX2" not in again.stdout
    assert clone.read("models/lenet5/model.safetensors") == weights
