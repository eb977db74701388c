"""Train one network: data/split/ -> models/<net>/."""

import argparse
import json
import os
import sys
import time
from typing import Any

import torch
from tqdm import tqdm

from stages.classifier.inference import Score, score
from stages.classifier.known_bits import use_everyones_bits
from stages.classifier.network import ImageClassifier, build_network, count_parameters
from stages.classifier.weights import write_network
from stages.common.console import StageError, refuse, run_stage
from stages.common.determinism import derive_seed, make_torch_deterministic
from stages.common.history import write_history
from stages.common.inputs import Inputs
from stages.common.layout import (
    PIXEL_STATISTICS,
    history_file,
    model_file,
    refuse_linked_folders,
    split_file,
)
from stages.common.params import Params, RecipeParams
from stages.common.tensors import LabelledImages, read_split
from stages.training.loop import Trainer
from stages.training.resume import ResumeState


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
    pixels = read_pixel_statistics()
    resume = ResumeState(name, inputs.fingerprint())

    network = fit(name, params, train, val, pixels, resume, device)

    with inputs.writing_last_output():
        write_network(model_file(name), name, network)
    resume.remove()  # not before, as those who put back what they changed go on from there


def fit(
    name: str,
    params: Params,
    train: LabelledImages,
    val: LabelledImages,
    pixels: dict[str, float],
    resume: ResumeState,
    device: torch.device,
) -> ImageClassifier:
    """Train a network for all epochs, going on where an interrupted run stopped.

    ``pixels`` are the mean and the standard deviation of the training split's pixels, on the scale
    of 0 to 255; ``resume`` is read before the first epoch. It is written after each, and so is the
    history.

    Returns
    -------
    ImageClassifier
        The averaged weights after the last epoch, on the CPU.

    Raises
    ------
    StageError
        If the loss becomes non-finite, or a batch is larger than the training split.
    """
    recipe = params.recipe(name)
    epochs = params.train.epochs
    seed = params.train.seed
    check_batch_size(name, recipe, len(train))
    network = initialise(name, recipe, seed, pixels)
    trainer = Trainer(network, train, recipe, epochs, seed, device)
    print(f"{name}: {count_parameters(network):,} parameters, {len(train):,} training images")

    history: list[list[float]] = []
    if interrupted := resume.load():
        state, history = interrupted
        trainer.load_state(state)
        write_history(history_file(name), history)  # DVC has removed it
        print(f"{name}: goes on after epoch {len(history)} of {epochs}")
    # A view, not a copy: the order of the training split is random.
    sample = train.take(slice(len(val))).to(device)
    val = val.to(device)
    for epoch in range(len(history) + 1, epochs + 1):
        start = time.perf_counter()
        with progress_bar(f"epoch {epoch}", trainer.steps_per_epoch) as bar:
            trainer.run_epoch(epoch, on_step=bar.update)
        # Both losses are measured alike, so that the curves can be compared.
        on_train, on_val = score(trainer.average, sample), score(trainer.average, val)
        measured = (trainer.learning_rate, *on_train, *on_val)
        history.append([epoch, *(float(f"{figure:.6g}") for figure in measured)])
        resume.save(trainer.state(), history)
        write_history(history_file(name), history)  # now, for curves that grow in dvc plots
        seconds = time.perf_counter() - start
        print(f"{name}  epoch {epoch:>2}/{epochs}  {describe(on_train, on_val)}  {seconds:.1f} s")
    return trainer.average.cpu()


def check_batch_size(name: str, recipe: RecipeParams, images: int) -> None:
    if recipe.batch_size > images:
        raise StageError(
            f"params.yaml: {name}.batch_size: {recipe.batch_size} is more than the "
            f"{images} images of the training split; choose a smaller batch"
        )


def initialise(
    name: str, recipe: RecipeParams, seed: int, pixels: dict[str, float]
) -> ImageClassifier:
    """Build a network whose weights come from the seed, with the pixels' statistics inside."""
    torch.manual_seed(derive_seed(seed, "initialisation"))
    network = build_network(name, recipe)
    network.pixel_mean.fill_(pixels["mean"])
    network.pixel_std.fill_(pixels["std"])
    return network


def describe(on_train: Score, on_val: Score) -> str:
    return (
        f"train loss {on_train.loss:.4f}  val loss {on_val.loss:.4f}"
        f"  train accuracy {on_train.accuracy:.4f}  val accuracy {on_val.accuracy:.4f}"
    )


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


def progress_bar(title: str, steps: int) -> tqdm:
    """Make a bar that is drawn on a terminal only."""
    return tqdm(total=steps, desc=title, leave=False, disable=not sys.stderr.isatty())


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
    raise refuse(PIXEL_STATISTICS, reason, "split")


if __name__ == "__main__":
    run_stage(main)
