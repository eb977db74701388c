"""Calibration: what the probabilities that a network answers with are worth."""

import csv
import json

import pytest
import torch

from stages.classifier.calibration import BINS, UNSURE_BELOW, measure_calibration
from stages.common.tensors import read_split
from tests.conftest import Clone

NETWORKS = ("two_conv", "lenet5")


def test_the_calibration_error_is_the_distance_of_confidence_from_accuracy_by_bins() -> None:
    probabilities = torch.zeros(4, 10)
    probabilities[:, 0] = torch.tensor([0.9, 0.9, 0.55, 0.55])
    probabilities[:, 1] = 1 - probabilities[:, 0]
    labels = torch.tensor([0, 1, 0, 0])  # in the bin of 0.9 half are right, in that of 0.55 all
    measured = measure_calibration(probabilities.log(), labels)
    error = pytest.approx((0.4 + 0.45) / 2, abs=1e-6)
    assert measured == {"calibration_error": error, "unsure": 0.5, "unsure_wrong": 0.0}
    assert measure_calibration(probabilities[:2].log(), labels[:2])["unsure_wrong"] is None


@pytest.mark.parametrize("name", NETWORKS)
def test_the_calibration_is_that_of_the_answers_of_predict(built: Clone, name: str) -> None:
    rows = [*csv.DictReader(built.read(f"data/predictions/{name}.csv").decode().splitlines())]
    test, _ = read_split(built.path / "data/split/test.safetensors")
    confidence = [float(row["confidence"]) for row in rows]
    right = [
        int(row["class_id"]) == label for row, label in zip(rows, test.labels.tolist(), strict=True)
    ]
    bins = [0.0] * BINS
    for sure, is_right in zip(confidence, right, strict=True):
        bins[min(int(sure * BINS), BINS - 1)] += sure - is_right
    unsure = [
        is_right for sure, is_right in zip(confidence, right, strict=True) if sure < UNSURE_BELOW
    ]
    measured = json.loads(built.read(f"metrics/calibration/{name}.json"))["test"]
    assert measured == {
        "calibration_error": pytest.approx(sum(map(abs, bins)) / len(rows), abs=1e-4),
        "unsure": pytest.approx(len(unsure) / len(rows), abs=1e-4),
        "unsure_wrong": pytest.approx(unsure.count(False) / len(unsure), abs=1e-4),
    }
