"""Train one network: data/split/ -> models/<net>/."""

import argparse
import json
import os
from typing import Any

import torch

from stages.classifier.image_classifier import ImageClassifier, build_network
from stages.classifier.known_bits import use_everyones_bits
from stages.classifier.weights import write_network
from stages.common.console import StageError, file_error, run_stage
from stages.common.determinism import derive_seed, make_torch_deterministic
from stages.common.inputs import Inputs
from stages.common.layout import PIXEL_STATISTICS, model_file, refuse_linked_folders, split_file
from stages.common.params import RecipeParams
from stages.common.tensors import read_split
from stages.training.loop import train_all_epochs
from stages.training.resume import ResumeState
from stages.training.trainer import Trainer


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m stages.train", description=__doc__)
    parser.add_argument("network", help="one of networks in params.yaml")
    name = parser.parse_args().network

    inputs = Inputs("train", name)
    params = inputs.params
    recipe = params.recipe(name)
    if "DVC_STAGE" in os.environ:  # the link may be newer than the latest check
        refuse_linked_folders([name])
    make_torch_deterministic()
    device = choose_device(params.train.device)
    if device.type == "cpu":
        use_everyones_bits(name, recipe, training=True)
    train, _ = read_split(split_file("train"))
    val, _ = read_split(split_file("val"))
    if recipe.batch_size > len(train):
        raise StageError(
            f"params.yaml: {name}.batch_size: {recipe.batch_size} is more than the "
            f"{len(train)} images of the training split; choose a smaller batch"
        )
    network = initialise(name, recipe, params.train.seed, read_pixel_statistics())
    resume = ResumeState(name, inputs.fingerprint())
    trainer = Trainer(network, train, recipe, params.train.epochs, params.train.seed, device)

    average = train_all_epochs(name, trainer, val, resume)

    with inputs.writing_last_output():
        write_network(model_file(name), name, average)
    resume.remove()  # not before, as those who put back what they changed go on from there


def initialise(
    name: str, recipe: RecipeParams, seed: int, pixels: dict[str, float]
) -> ImageClassifier:
    """Build a network whose weights come from the seed, with the pixels' statistics inside."""
    torch.manual_seed(derive_seed(seed, "initialisation"))
    network = build_network(name, recipe)
    network.pixel_mean.fill_(pixels["mean"])
    network.pixel_std.fill_(pixels["std"])
    return network


def choose_device(name: str) -> torch.device:
    """Return the device of a name in ``params.yaml``, and set torch up for it.

    Raises
    ------
    StageError
        If torch finds none here.
    """
    found = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if name != "cpu":
        if not found[name]:
            raise StageError(
                f"params.yaml: train.device: torch finds no {name} device here; take cpu, "
                "or install a build of torch for your device"
            )
        # Not promised there, and some layers have no deterministic kernel.
        torch.set_deterministic_debug_mode("default")
        # So take the fastest: products of TF32, for convolutions the default, and tried kernels.
        torch.set_float32_matmul_precision("high")
        torch.backends.cudnn.benchmark = True
    return torch.device(name)


def read_pixel_statistics() -> dict[str, Any]:
    """Read the mean and standard deviation that ``split`` measured.

    Raises
    ------
    StageError
        If the file is missing or holds anything else.
    """
    try:
        pixels = json.loads(PIXEL_STATISTICS.read_text(encoding="utf-8"))
        if 0 <= pixels["mean"] <= 255 and 0 < pixels["std"] <= 255:
            return pixels
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        pass
    reason = "missing, or doesn't hold a mean and a standard deviation"
    raise file_error(PIXEL_STATISTICS, reason, "split")


if __name__ == "__main__":
    run_stage(main)
