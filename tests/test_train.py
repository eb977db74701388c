"""train: one network from its recipe, its seed and the training split, or a clear refusal."""

import json

import pytest
import torch

from stages.classifier.weights import read_network
from stages.common.params import load_params
from tests.conftest import Clone

NETWORKS = ("two_conv", "lenet5")


def test_a_device_that_is_not_there_is_refused(clone: Clone) -> None:
    clone.set_params({"train.device": "mps"})
    before = clone.read("models/lenet5/model.safetensors")
    done = clone.stage("train", "lenet5")
    assert done.returncode == 1
    assert done.stdout == (
        "error: params.yaml: train.device: torch finds no mps device here; take cpu, "
        "or install a build of torch for your device\n"
    )
    assert clone.read("models/lenet5/model.safetensors") == before


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_trains_the_same_recipe(clone: Clone) -> None:
    on_cpu = json.loads(clone.read("metrics/two_conv.json"))["val"]["accuracy"]
    clone.set_params({"train.device": "cuda"})
    clone.dvc("repro", "evaluate@two_conv")
    on_gpu = json.loads(clone.read("metrics/two_conv.json"))["val"]["accuracy"]
    assert on_gpu == pytest.approx(on_cpu, abs=0.1)


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_takes_raw_images_and_carries_the_pixel_statistics(
    built: Clone, name: str
) -> None:
    recipe = load_params(built.path / "params.yaml").recipe(name)
    network = read_network(built.path / f"models/{name}/model.safetensors", name, recipe)
    assert network.pixel_mean > 1
    assert network.pixel_std > 1
    assert network(torch.zeros(3, 1, 28, 28, dtype=torch.uint8)).shape == (3, 10)


def test_another_seed_gives_other_weights(clone: Clone) -> None:
    before = clone.read("models/lenet5/model.safetensors")
    clone.set_params({"train.seed": 2})
    clone.run("python", "-m", "stages.train", "lenet5")
    assert clone.read("models/lenet5/model.safetensors") != before


def test_a_batch_larger_than_the_training_split_is_refused(clone: Clone) -> None:
    clone.set_params({"lenet5.batch_size": 5000})
    done = clone.stage("train", "lenet5")
    assert done.returncode == 1
    assert done.stdout == (
        "error: params.yaml: lenet5.batch_size: 5000 is more than the 900 images "
        "of the training split; choose a smaller batch\n"
    )
