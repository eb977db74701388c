"""make experiments: what `dvc exp show` knows, in columns that fit a terminal."""

import json
import os
import signal
import time

from tests.conftest import Clone

WIDTH = 120  # of a terminal
SHOW = ("python", "-m", "tools.experiments")


def test_a_sweep_shows_what_was_changed_and_the_val_metrics_in_120_columns(clone: Clone) -> None:
    # Up to `check` only: the metrics are those of the commit, and nothing is trained.
    for name, *changes in (
        ("lower-rate", "lenet5.learning_rate=0.05"),
        ("sweep-1", "lenet5.muon_learning_rate=0.02", "lenet5.dropout=0.1"),
    ):
        options = [option for change in changes for option in ("-S", change)]
        clone.dvc("exp", "run", "--temp", "--name", name, *options, "check")
    sections, names, *rows = clone.run(*SHOW).stdout.splitlines()
    assert max(map(len, (sections, names, *rows))) <= WIDTH
    assert sections.split() == ["two_conv"] * 2 + ["lenet5"] * 5
    assert names.replace("val ", "val_").split() == [
        *("experiment", "val_loss", "val_accuracy", "val_loss", "val_accuracy"),
        *("learning_rate", "muon_learning_rate", "dropout"),
    ]
    metrics = [
        f"{json.loads(clone.read(f'metrics/{network}.json'))['val'][figure]:.4f}"
        for network in ("two_conv", "lenet5")
        for figure in ("loss", "accuracy")
    ]
    assert [row.split() for row in rows] == [
        ["main", *metrics, "0.1", "0.0", "0.0"],
        ["lower-rate", *metrics, "0.05", "0.0", "0.0"],
        ["sweep-1", *metrics, "0.1", "0.02", "0.1"],
    ]


def test_experiments_of_an_earlier_commit_are_shown_below_it(clone: Clone) -> None:
    clone.dvc("exp", "run", "--temp", "--name", "before", "-S", "lenet5.dropout=0.1", "check")
    earlier = clone.git("rev-parse", "--short=7", "HEAD").strip()
    clone.commit("another")
    first_words = [
        [row.split()[0] for row in clone.run(*SHOW, *more).stdout.splitlines()[2:]]
        for more in ((), ("--num", "2"))
    ]
    assert first_words == [["main"], ["main", earlier, "before"]]


def test_an_experiment_that_still_runs_has_no_metrics_to_show(clone: Clone) -> None:
    options = ("--temp", "--name", "unfinished", "-S", "train.epochs=1000")
    process = clone.start("dvc", "exp", "run", *options, "train@lenet5")
    try:
        deadline = time.monotonic() + 60
        while "Running" not in clone.dvc("exp", "show", "--csv"):
            assert time.monotonic() < deadline
            time.sleep(1)
        *_, row = clone.run(*SHOW).stdout.splitlines()
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
    assert row.split()[0] == "main"
