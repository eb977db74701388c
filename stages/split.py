"""Divide the official training set: data/raw/ -> data/split/, plots/samples.png."""

import math
from collections.abc import Sequence

import numpy as np
import torch

from stages.common.console import StageError, run_stage
from stages.common.determinism import derive_seed
from stages.common.files import write_json
from stages.common.inputs import Inputs
from stages.common.layout import PIXEL_STATISTICS, PLOTS_FOLDER, RAW_FOLDER, split_file
from stages.common.mnist_format import TEST_IMAGES, TEST_LABELS, TRAIN_IMAGES, TRAIN_LABELS
from stages.common.params import SplitParams
from stages.common.tensors import LabelledImages, write_split
from stages.pictures import figures
from stages.raw.idx import read_images, read_labels


def main() -> None:
    inputs = Inputs("split")
    params = inputs.params
    dataset = params.name_of_images()
    class_names = params.dataset.class_names
    official = read_raw(TRAIN_IMAGES, TRAIN_LABELS, len(class_names))
    test = read_raw(TEST_IMAGES, TEST_LABELS, len(class_names))
    train, val = split(official, class_names, params.split)
    for name, examples in {"train": train, "val": val, "test": test}.items():
        write_split(split_file(name), examples, dataset)
        print(f"{name}: {len(examples):,} images")
    figures.draw_samples(PLOTS_FOLDER / "samples.png", dataset, class_names, train)
    pixels = measure_pixels(train.images)
    with inputs.writing_last_output():
        write_json(PIXEL_STATISTICS, pixels)


def read_raw(images_file: str, labels_file: str, classes: int) -> LabelledImages:
    """Read a pair of raw files.

    Raises
    ------
    StageError
        If one is missing or damaged, or they don't belong together.
    """
    images = read_images(RAW_FOLDER / images_file)
    labels = read_labels(RAW_FOLDER / labels_file, classes)
    if len(images) != len(labels):
        raise StageError(
            f"{RAW_FOLDER}: {images_file} holds {len(images):,} images, {labels_file} "
            f"{len(labels):,} labels; delete both and run `dvc repro fetch`"
        )
    return LabelledImages(
        torch.from_numpy(images.copy()).unsqueeze(1),
        torch.from_numpy(labels.astype(np.int64)),
    )


def split(
    examples: LabelledImages, class_names: Sequence[str], params: SplitParams
) -> tuple[LabelledImages, LabelledImages]:
    """Set a share of each class aside for validation, drawn from the seed.

    Returns
    -------
    train, val : LabelledImages
        Both in the order of the official training set.

    Raises
    ------
    StageError
        If a class has too few images for both splits.
    """
    generator = torch.Generator().manual_seed(derive_seed(params.seed, "split"))
    in_val = torch.zeros(len(examples), dtype=torch.bool)
    for label, name in enumerate(class_names):
        members = (examples.labels == label).nonzero().flatten()
        count = round(params.val_fraction * len(members))
        if not 0 < count < len(members):
            raise StageError(
                f"params.yaml: split.val_fraction: {params.val_fraction} of the {len(members)} "
                f"images of class {name} leaves one split empty; choose another share, "
                "or give the class more images"
            )
        chosen = torch.randperm(len(members), generator=generator)[:count]
        in_val[members[chosen]] = True
    return examples.take(~in_val), examples.take(in_val)


def measure_pixels(images: torch.Tensor) -> dict[str, float]:
    """Compute the mean and standard deviation of pixels, on the scale of 0 to 255.

    Sums of integers are exact and IEEE 754 rounds the root, so that no machine can differ.
    """
    counts = torch.bincount(images.flatten(), minlength=256).tolist()
    total = sum(counts)
    mean = sum(value * count for value, count in enumerate(counts)) / total
    square = sum(value * value * count for value, count in enumerate(counts)) / total
    return {"mean": mean, "std": math.sqrt(square - mean * mean)}


if __name__ == "__main__":
    run_stage(main)
