"""The training loop tells each epoch: in the history and in a line."""

import csv
import os
import pty
import subprocess
import termios

import pytest

from stages.classifier.image_classifier import build_network
from stages.training.loop import describe_parameters
from stages.training.optimizers import Muon, make_optimizers
from tests.conftest import PARAMS, Clone

NETWORKS = ("two_conv", "lenet5")


@pytest.mark.parametrize("name", NETWORKS)
def test_history_has_a_row_an_epoch_and_the_validation_loss_falls(built: Clone, name: str) -> None:
    rows = list(csv.DictReader(built.read(f"models/{name}/history.csv").decode().splitlines()))
    assert list(rows[0]) == [
        "epoch",
        "sgd_learning_rate",
        "train_loss",
        "train_accuracy",
        "val_loss",
        "val_accuracy",
    ]
    assert [row["epoch"] for row in rows] == ["1", "2"]
    assert float(rows[-1]["val_loss"]) < float(rows[0]["val_loss"])


@pytest.mark.parametrize("name", NETWORKS)
def test_a_training_begins_with_how_many_parameters_each_optimizer_moves(name: str) -> None:
    network = build_network(name, PARAMS)
    optimizers = make_optimizers(network, PARAMS.recipe(name))
    whole = sum(parameter.numel() for parameter in network.parameters())
    (muon,) = (optimizer for optimizer in optimizers if isinstance(optimizer, Muon))
    by_muon = sum(parameter.numel() for parameter in muon.parameters)
    assert describe_parameters(network, optimizers) == (
        f"{whole:,} parameters: Muon moves {by_muon:,}, SGD moves {whole - by_muon:,}"
    )


def test_the_console_tells_each_epoch_in_a_line(built: Clone) -> None:
    lines = [line for line in built.log.splitlines() if line.startswith("two_conv  epoch")]
    assert len(lines) == 2
    for quantity in ("train loss", "val loss", "train accuracy", "val accuracy"):
        assert quantity in lines[0]
    assert "\r" not in built.log  # the bar is for terminals


def test_a_terminal_shows_a_progress_bar(clone: Clone) -> None:
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 80))
    process = subprocess.Popen(
        ["python", "-m", "stages.train", "lenet5"],  # noqa: S607
        cwd=clone.path,
        env=clone.environment,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    shown = b""
    try:
        while part := os.read(ours, 4096):
            shown += part
    except OSError:  # Linux's way to say that the other side is closed
        pass
    assert process.wait() == 0
    assert b"epoch 1:" in shown
    assert b"/18 [" in shown
