"""The training loop over all epochs, each scored, written down and kept for going on."""

import sys
import time
from collections.abc import Iterable

from torch import nn
from tqdm import tqdm

from stages.classifier.image_classifier import ImageClassifier, count_parameters
from stages.classifier.inference import Score, score
from stages.common.console import StageError
from stages.common.history import write_history
from stages.common.layout import history_file
from stages.common.tensors import LabelledImages
from stages.training.optimizers import Optimizer
from stages.training.resume import ResumeState
from stages.training.trainer import Trainer


def train_all_epochs(
    name: str, trainer: Trainer, val: LabelledImages, resume: ResumeState
) -> ImageClassifier:
    """Train a network for all epochs, going on where an interrupted run stopped.

    ``resume`` is read before the first epoch. It is written after each, and so is the history.

    Returns
    -------
    ImageClassifier
        The averaged weights after the last epoch, on the CPU.

    Raises
    ------
    StageError
        If the loss becomes non-finite.
    """
    epochs = trainer.epochs
    # A view, not a copy: the order of the training split is random.
    sample = trainer.examples.take(slice(len(val)))
    val = val.to(trainer.device)
    print(f"{name}: {describe_parameters(trainer.network, trainer.optimizers)}")
    print(
        f"{name}: {len(trainer.examples):,} training images; the averaged weights are scored by "
        f"one view, on {len(sample):,} of these as they are and on val"
    )
    history: list[list[float]] = []
    if interrupted := resume.load():
        state, history = interrupted
        trainer.load_state(state)
        write_history(history_file(name), history)  # DVC has removed it
        print(f"{name}: goes on after epoch {len(history)} of {epochs}")
    for epoch in range(len(history) + 1, epochs + 1):
        start = time.perf_counter()
        run_epoch(name, trainer, epoch)
        # Both losses are measured alike, so that the curves can be compared.
        on_train, on_val = score(trainer.average, sample), score(trainer.average, val)
        measured = (trainer.sgd_learning_rate, *on_train, *on_val)
        history.append([epoch, *(float(f"{figure:.6g}") for figure in measured)])
        resume.save(trainer.state(), history)
        write_history(history_file(name), history)  # now, for curves that grow in dvc plots
        seconds = time.perf_counter() - start
        scores = describe_scores(on_train, on_val)
        print(f"{name}  epoch {epoch:>2}/{epochs}  {scores}  {seconds:.1f} s")
    return trainer.average.cpu()


def run_epoch(name: str, trainer: Trainer, epoch: int) -> None:
    """Train for one epoch, with a bar that is drawn on a terminal only.

    Raises
    ------
    StageError
        If the loss becomes non-finite.
    """
    steps, hidden = trainer.steps_per_epoch, not sys.stderr.isatty()
    with tqdm(total=steps, desc=f"epoch {epoch}", leave=False, disable=hidden) as bar:
        try:
            trainer.run_epoch(epoch, on_step=bar.update)
        except FloatingPointError as error:
            # Not Muon's, whose steps have one size, whatever the gradient.
            raise StageError(f"{error}; lower {name}.sgd.learning_rate in params.yaml") from None


def describe_parameters(network: nn.Module, optimizers: Iterable[Optimizer]) -> str:
    """Tell how many parameters a network has, and which optimizer moves how many."""
    moved: dict[str, int] = {}
    for optimizer in optimizers:
        kind = type(optimizer).__name__
        moved[kind] = moved.get(kind, 0) + sum(one.numel() for one in optimizer.parameters)
    shares = ", ".join(f"{kind} moves {count:,}" for kind, count in moved.items())
    return f"{count_parameters(network):,} parameters: {shares}"


def describe_scores(on_train: Score, on_val: Score) -> str:
    """Put the scores of an epoch in a line."""
    return (
        f"train loss {on_train.loss:.4f}  val loss {on_val.loss:.4f}"
        f"  train accuracy {on_train.accuracy:.4f}  val accuracy {on_val.accuracy:.4f}"
    )
