"""predict: a row a test image, with the very answers that evaluate counted."""

import csv
import json

import pytest

from stages.common.fashion_mnist import CLASS_NAMES
from stages.common.tensors import read_split
from tests.conftest import Clone


@pytest.mark.parametrize("name", ["two_conv", "lenet5"])
def test_predictions_follow_the_order_of_the_test_set(built: Clone, name: str) -> None:
    rows = list(csv.DictReader(built.read(f"data/predictions/{name}.csv").decode().splitlines()))
    assert list(rows[0]) == ["index", "class_id", "class_name", "confidence"]
    assert [int(row["index"]) for row in rows] == list(range(200))
    assert all(row["class_name"] == CLASS_NAMES[int(row["class_id"])] for row in rows)
    assert all(0.1 <= float(row["confidence"]) <= 1 for row in rows)

    test, _ = read_split(built.path / "data/split/test.safetensors")
    right = sum(
        int(row["class_id"]) == label for row, label in zip(rows, test.labels.tolist(), strict=True)
    )
    assert right / 200 == json.loads(built.read(f"metrics/{name}.json"))["test"]["accuracy"]


def test_a_model_that_is_not_there_is_one_clear_line(clone: Clone) -> None:
    (clone.path / "models/two_conv/model.safetensors").unlink()
    done = clone.stage("predict", "two_conv")
    assert done.returncode == 1
    assert done.stdout == (
        "error: models/two_conv/model.safetensors: no such file; "
        "run `dvc repro train@two_conv` to make it\n"
    )
