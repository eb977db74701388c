"""Weights on disk: only those of the network that params describe are read."""

import math
from pathlib import Path

import pytest
import torch

from stages.classifier.image_classifier import build_network
from stages.classifier.weights import read_network, write_network
from stages.common.console import StageError
from stages.common.tensors import LabelledImages, write_split
from tests.conftest import PARAMS


def test_only_the_network_that_params_describe_is_read(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    network = build_network("lenet5", PARAMS)
    write_network(path, "lenet5", network)
    assert not read_network(path, "lenet5", PARAMS).training
    with pytest.raises(StageError, match="expected the weights of two_conv, found lenet5"):
        read_network(path, "two_conv", PARAMS)

    write_network(path, "two_conv", build_network("two_conv", PARAMS))
    recipe = PARAMS.two_conv.model_copy(update={"channels": [4, 8]})
    other = PARAMS.model_copy(update={"two_conv": recipe})
    with pytest.raises(StageError, match=r"\[4, 1, 5, 5\] by params.yaml, found .*; delete it and"):
        read_network(path, "two_conv", other)

    images = torch.zeros(2, 1, 28, 28, dtype=torch.uint8)
    write_split(path, LabelledImages(images, torch.arange(2)), "synthetic")
    with pytest.raises(StageError, match="expected the weights of lenet5, found no network"):
        read_network(path, "lenet5", PARAMS)

    network.layers[0].weight.data[0] = math.nan
    write_network(path, "lenet5", network)
    with pytest.raises(StageError, match=r"found NaN or infinity; .*train@lenet5"):
        read_network(path, "lenet5", PARAMS)
