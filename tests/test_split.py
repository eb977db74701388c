"""split: the splits hold what the contract says."""

import json

import pytest
import torch

from stages import split
from stages.common.console import StageError
from stages.common.params import SplitParams
from stages.common.tensors import LabelledImages, read_split
from stages.raw.idx import read_idx
from tests.conftest import Clone

CLASS_NAMES = [f"class {label}" for label in range(10)]


def read(clone: Clone, name: str) -> LabelledImages:
    examples, dataset = read_split(clone.path / f"data/split/{name}.safetensors", 10)
    assert dataset == "synthetic"
    return examples


@pytest.mark.parametrize(("name", "size"), [("train", 900), ("val", 100), ("test", 200)])
def test_a_split_is_tensors_as_in_the_contract(built: Clone, name: str, size: int) -> None:
    examples = read(built, name)
    assert (examples.images.dtype, examples.images.shape) == (torch.uint8, (size, 1, 28, 28))
    assert (examples.labels.dtype, examples.labels.shape) == (torch.int64, (size,))


def test_validation_is_a_tenth_of_each_class(built: Clone) -> None:
    assert read(built, "val").labels.bincount().tolist() == [10] * 10


def test_train_and_val_are_the_official_training_set_each_image_once(built: Clone) -> None:
    official = read_idx(built.path / "data/raw/train-images-idx3-ubyte.gz", dimensions=3)
    divided = torch.cat([read(built, "train").images, read(built, "val").images])
    assert sorted(image.tobytes() for image in official) == sorted(
        image.numpy().tobytes() for image in divided
    )


def test_pixel_statistics_are_those_of_the_training_split(built: Clone) -> None:
    pixels = json.loads(built.read("data/split/pixel_statistics.json"))
    images = read(built, "train").images.double()
    assert pixels["mean"] == pytest.approx(images.mean().item())
    assert pixels["std"] == pytest.approx(images.std(correction=0).item())


def test_the_seed_decides_which_images_are_set_aside(built: Clone) -> None:
    official = read(built, "train")
    first, again, other = (
        split.split(official, CLASS_NAMES, SplitParams(seed=seed, val_fraction=0.1))[1]
        for seed in (1, 1, 2)
    )
    assert torch.equal(first.images, again.images)
    assert not torch.equal(first.images, other.images)


def test_a_split_that_would_be_empty_is_refused(built: Clone) -> None:
    few = read(built, "train").take(slice(20))
    with pytest.raises(
        StageError, match=r"split.val_fraction: 0.1 of the .* leaves one split empty"
    ):
        split.split(few, CLASS_NAMES, SplitParams(seed=1, val_fraction=0.1))
