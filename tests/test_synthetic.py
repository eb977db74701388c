"""The synthetic data set: drawn from its seed, and not too easy."""

import csv

import numpy as np
import pytest

from stages.common.fashion_mnist import CLASS_NAMES, TEST_IMAGES, TRAIN_IMAGES, TRAIN_LABELS
from stages.raw.idx import read_images, read_labels
from tests.conftest import Clone
from tests.test_fetch import raw_files


def test_the_synthetic_data_set_needs_no_network_and_is_drawn_from_its_seed(
    fresh: Clone,
) -> None:
    # No mirror answers: conftest's tiny params ask for the synthetic data set.
    fresh.set_params({"fetch.mirrors": ["http://no-such-host.invalid/"]})
    drawn = []
    for seed in (1, 1, 2):
        fresh.set_params({"fetch.synthetic.seed": seed})
        assert fresh.stage("fetch").returncode == 0
        drawn.append(raw_files(fresh))
    first, again, other = drawn
    assert first == again
    assert all(first[name] != other[name] for name in (TRAIN_IMAGES, TRAIN_LABELS, TEST_IMAGES))
    images = read_images(fresh.path / "data/raw" / TRAIN_IMAGES)
    labels = read_labels(fresh.path / "data/raw" / TRAIN_LABELS, len(CLASS_NAMES))
    assert images.shape == (1000, 28, 28)
    assert np.bincount(labels).tolist() == [100] * len(CLASS_NAMES)


@pytest.mark.parametrize("name", ["two_conv", "lenet5"])
def test_the_synthetic_data_set_is_not_learnt_in_one_epoch(built: Clone, name: str) -> None:
    first, *_ = csv.DictReader(built.read(f"models/{name}/history.csv").decode().splitlines())
    assert float(first["val_accuracy"]) < 0.9
