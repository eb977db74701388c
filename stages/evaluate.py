"""Measure one network: models/<net>/ and data/split/ -> metrics/, plots/<net>/."""

import argparse
import math
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn

from stages.classifier.calibration import measure_calibration
from stages.classifier.image_classifier import count_parameters
from stages.classifier.inference import Score, compute_logits_of_views, mean_logits, score_logits
from stages.classifier.known_bits import use_everyones_bits
from stages.classifier.weights import read_network
from stages.common.console import StageError, format_table, run_stage
from stages.common.determinism import make_torch_deterministic
from stages.common.files import write_csv, write_json
from stages.common.history import read_history, write_curves
from stages.common.inputs import Inputs
from stages.common.layout import (
    CALIBRATION_FOLDER,
    METRICS_FOLDER,
    ONE_VIEW_FOLDER,
    PLOTS_FOLDER,
    SPLIT_FOLDER,
    history_file,
    model_file,
    split_file,
)
from stages.common.mnist_format import IMAGE_SIZE
from stages.common.tensors import LabelledImages, read_split
from stages.pictures import figures

SPLITS = ("train", "val", "test")
DIGITS = 4  # one image of the test set is 0.0001 of its accuracy


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m stages.evaluate", description=__doc__)
    parser.add_argument("network", help="one of networks in params.yaml")
    name = parser.parse_args().network

    inputs = Inputs("evaluate", name)
    params = inputs.params
    class_names = params.dataset.class_names
    make_torch_deterministic()
    use_everyones_bits(name, params, training=False)
    network = read_network(model_file(name), name, params)
    history = read_history(history_file(name))
    splits, dataset = read_splits(len(class_names))
    logits, scores, one_view_scores, calibration = {}, {}, {}, {}
    for split, examples in splits.items():
        labels = examples.labels
        of_views = compute_logits_of_views(network, examples.images, params.evaluate)
        logits[split] = mean_logits(of_views)
        scores[split] = score_logits(logits[split], labels)
        one_view_scores[split] = score_logits(of_views[0], labels)
        calibration[split] = measure_calibration(logits[split], labels)
    actual, predicted = splits["test"].labels, logits["test"].argmax(dim=1)

    views, parameters = len(of_views), count_parameters(network)
    write_metrics(ONE_VIEW_FOLDER / f"{name}.json", dataset, 1, one_view_scores, parameters)
    calibration = {"views": views, **rounded(calibration)}
    write_json(CALIBRATION_FOLDER / f"{name}.json", calibration)
    write_curves(PLOTS_FOLDER / name / "curves.csv", history)
    write_confusion(PLOTS_FOLDER / name / "confusion.csv", class_names, actual, predicted)
    figures.draw_curves(PLOTS_FOLDER / name / "curves.png", name, dataset, history)
    counts = count_confusion(actual, predicted, len(class_names))
    title = f"{name} on the test split of {dataset}, by {views} views"
    figures.draw_confusion(PLOTS_FOLDER / name / "confusion.png", name, title, class_names, counts)
    figures.draw_filters(PLOTS_FOLDER / name / "filters.png", name, first_filters(network))
    with inputs.writing_last_output():  # what DVC tabulates; the others stand beside it
        write_metrics(METRICS_FOLDER / f"{name}.json", dataset, views, scores, parameters)
    print(f"{name} on {dataset}, by the mean over {views} views of each image and by one")
    rows = [
        [split, *(f"{figure:.4f}" for figure in (*scores[split], *one_view_scores[split]))]
        for split in SPLITS
    ]
    print(format_table(["split", "loss", "accuracy", "one view: loss", "accuracy"], rows))


def read_splits(classes: int) -> tuple[dict[str, LabelledImages], str]:
    """Read all splits, of train as many images as val has, and the name of their data set.

    Their labels are below ``classes``.

    Raises
    ------
    StageError
        If one is missing or damaged, or they come from several data sets.
    """
    read = {split: read_split(split_file(split), classes) for split in SPLITS}
    datasets = {split: dataset for split, (_, dataset) in read.items()}
    if len(set(datasets.values())) > 1:
        found = ", ".join(f"{split} of {dataset}" for split, dataset in datasets.items())
        raise StageError(f"{SPLIT_FOLDER}: expected one data set, found {found}; run `dvc repro`")
    splits = {split: examples for split, (examples, _) in read.items()}
    splits["train"] = splits["train"].take(slice(len(splits["val"])))  # those of the history
    return splits, datasets["test"]


def write_metrics(
    path: Path, dataset: str, views: int, scores: dict[str, Score], parameters: int
) -> None:
    """Write what ``dvc metrics`` shows, with the number of views that it is the mean over.

    Raises
    ------
    StageError
        If a loss is not a finite number, which JSON can't hold.
    """
    for split, (loss, _) in scores.items():
        if not math.isfinite(loss):
            raise StageError(
                f"{path}: the loss on the {split} split is {loss}; lower {path.stem}."
                "sgd.learning_rate in params.yaml and run `dvc repro`"
            )
    by_split = rounded({split: score._asdict() for split, score in scores.items()})
    write_json(path, {"dataset": dataset, "views": views, **by_split, "parameters": parameters})


def rounded(measured: dict[str, dict[str, float | None]]) -> dict[str, dict[str, float | None]]:
    """Round the figures of each split."""
    return {
        split: {name: value and round(value, DIGITS) for name, value in of_split.items()}
        for split, of_split in measured.items()
    }


def write_confusion(
    path: Path, class_names: Sequence[str], actual: torch.Tensor, predicted: torch.Tensor
) -> None:
    """Write the true and the predicted class of each test image, for ``dvc plots`` to count."""
    pairs = zip(actual.tolist(), predicted.tolist(), strict=True)
    write_csv(path, ("actual", "predicted"), ((class_names[a], class_names[p]) for a, p in pairs))


def count_confusion(actual: torch.Tensor, predicted: torch.Tensor, classes: int) -> torch.Tensor:
    """Count the test images of each true class (rows) by predicted class: int64 [C, C]."""
    return torch.bincount(actual * classes + predicted, minlength=classes**2).view(classes, classes)


def first_filters(network: nn.Module) -> torch.Tensor:
    """Return the weights of the first layer, float32 [M, 1, K, K]; K is 28 if it is linear."""
    layers = (module for module in network.modules() if isinstance(module, nn.Conv2d | nn.Linear))
    weights = next(layers).weight.detach()
    return weights if weights.ndim == 4 else weights.unflatten(1, (1, IMAGE_SIZE, IMAGE_SIZE))


if __name__ == "__main__":
    run_stage(main)
