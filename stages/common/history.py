"""The history of a training: a row per epoch.

Losses, plain cross-entropy, and accuracies are those of the averaged weights by one view of each
image; ``train_*`` of as many training images as val has, without augmentation.
"""

import csv
import math
from collections.abc import Sequence
from pathlib import Path

from stages.common.console import file_error
from stages.common.files import write_csv

CURVES = ("train_loss", "train_accuracy", "val_loss", "val_accuracy")
HEADER = ("epoch", "sgd_learning_rate", *CURVES)


def write_history(path: Path, rows: Sequence[Sequence[float]]) -> None:
    """Write rows of what ``HEADER`` names."""
    write_csv(path, HEADER, rows)


def write_curves(path: Path, history: Sequence[dict[str, float]]) -> None:
    """Write what ``read_history`` read: for Git, as ``dvc plots`` compares commits."""
    rows = ([int(row["epoch"]), *(row[name] for name in CURVES)] for row in history)
    write_csv(path, ("epoch", *CURVES), rows)


def read_history(path: Path) -> list[dict[str, float]]:
    """Read the epochs and their curves, without the learning rate: a dict per row.

    Raises
    ------
    StageError
        If the file is missing, damaged, empty, or holds numbers that aren't finite.
    """
    try:
        with path.open(newline="", encoding="utf-8") as file:
            history = [
                {name: float(row[name]) for name in ("epoch", *CURVES)}
                for row in csv.DictReader(file)
            ]
    except (OSError, ValueError, TypeError, KeyError, csv.Error):
        history = []
    if not history or not all(math.isfinite(x) for row in history for x in row.values()):
        reason = "missing, or not the history of a training"
        raise file_error(path, reason, f"train@{path.parent.name}")
    return history
