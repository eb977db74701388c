"""Classify the test images: models/<net>/ -> data/predictions/<net>.csv, plots/<net>/."""

import argparse
from pathlib import Path

import torch

from stages.common import pictures
from stages.common.console import run_stage
from stages.common.determinism import make_torch_deterministic
from stages.common.fashion_mnist import CLASS_NAMES
from stages.common.files import write_csv
from stages.common.inference import average_mirrored, compute_logits
from stages.common.layout import PLOTS_FOLDER, PREDICTIONS_FOLDER, TEST_SPLIT, model_file
from stages.common.networks import NETWORKS, read_network
from stages.common.params import load_params
from stages.common.tensors import read_split


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("network", choices=NETWORKS)
    name = parser.parse_args().network

    params = load_params()
    make_torch_deterministic(params.train.threads)
    network = read_network(model_file(name), name, params.recipe(name))
    test, dataset = read_split(TEST_SPLIT)
    logits = compute_logits(network, test.images)
    if params.evaluate.average_mirrored:
        logits = average_mirrored(network, test.images, logits)
    predicted = logits.argmax(dim=1)  # as evaluate does: after the softmax there can be ties
    confidence = logits.softmax(dim=1).amax(dim=1)

    write_predictions(PREDICTIONS_FOLDER / f"{name}.csv", predicted, confidence)
    picture = PLOTS_FOLDER / name / "predictions.png"
    pictures.draw_predictions(picture, name, dataset, test, predicted, confidence)
    mistakes = int((predicted != test.labels).sum())
    print(f"{name}: {len(test):,} predictions on {dataset}, {mistakes:,} of them wrong")


def write_predictions(path: Path, predicted: torch.Tensor, confidence: torch.Tensor) -> None:
    """Write a row a test image, in the test set's order.

    Parameters
    ----------
    path : Path
    predicted : int64 [N]
    confidence : float32 [N]
        The probability of the predicted class.
    """
    rows = (
        (index, label, CLASS_NAMES[label], f"{probability:.6f}")
        for index, (label, probability) in enumerate(
            zip(predicted.tolist(), confidence.tolist(), strict=True)
        )
    )
    write_csv(path, ("index", "class_id", "class_name", "confidence"), rows)


if __name__ == "__main__":
    run_stage(main)
