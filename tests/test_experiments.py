"""make experiments: what `dvc exp show` knows, in columns that fit a terminal."""

import json
import os
import signal

import yaml
from dvc.utils.serialize import modify_yaml

from tests.conftest import Clone
from tools.experiments import format_cell

WIDTH = 120  # of a terminal
SHOW = ("python", "-m", "tools.experiments")


def test_a_sweep_is_shown_in_120_columns_below_the_commit_that_it_started_from(
    clone: Clone,
) -> None:
    committed = val_metrics(clone)
    for name, target, *changes in (
        ("lower-rate", "evaluate@lenet5", "lenet5.sgd.learning_rate=0.01"),
        ("sweep-1", "check", "lenet5.muon.learning_rate=0.01", "lenet5.dropout=0.1"),
    ):
        options = [option for change in changes for option in ("-S", change)]
        clone.dvc("exp", "run", "--temp", "--name", name, *options, target)
    sections, names, *rows = clone.run(*SHOW).stdout.splitlines()
    assert max(map(len, (sections, names, *rows))) <= WIDTH
    assert sections.split() == [
        *("by", "all", "views"),
        *(["two_conv"] * 2 + ["lenet5"] * 2),
        *("lenet5.muon", "lenet5.sgd", "lenet5"),
    ]
    assert names.replace("val ", "val_").split() == [
        *("experiment", "val_loss", "val_accuracy", "val_loss", "val_accuracy"),
        *("learning_rate", "learning_rate", "dropout"),
    ]
    clone.dvc("exp", "apply", "lower-rate")
    lower = val_metrics(clone)
    assert lower != committed
    assert [row.split() for row in rows] == [
        ["main", *committed, "0.02", "0.02", "0.0"],
        ["lower-rate", *lower, "0.02", "0.01", "0.0"],
        ["sweep-1", *committed, "0.01", "0.02", "0.1"],
    ]

    earlier = clone.git("rev-parse", "--short=7", "HEAD").strip()
    clone.commit("another")
    first_words = [
        [row.split()[0] for row in clone.run(*SHOW, *more).stdout.splitlines()[2:]]
        for more in ((), ("--num", "2"))
    ]
    assert first_words == [["main"], ["main", earlier, "lower-rate", "sweep-1"]]


def test_what_stands_for_a_figure_is_shown_as_it_is() -> None:
    cells = [format_cell("metrics/lenet5.json:val.loss", value) for value in ("0.25", "", "!", "x")]
    assert cells == ["0.2500", "-", "!", "x"]
    assert format_cell("dataset.mirrors", "['https://a/', 'https://b/']") == "['https://a/'..."


def test_a_network_that_was_taken_out_is_not_shown(clone: Clone) -> None:
    clone.set_params({"networks": ["lenet5"]})
    clone.commit("one network")
    metrics = clone.path / "metrics/lenet5.json"
    metrics.write_text(metrics.read_text().replace('"loss": ', '"loss": 1'))
    clone.commit("other losses, of all splits")
    committed = val_metrics(clone)[2:]
    assert [row.split() for row in clone.run(*SHOW).stdout.splitlines()] == [
        ["by", "all", "views"],
        ["experiment", "val", "loss", "val", "accuracy"],
        ["main", *committed],
    ]
    _, names, *_ = clone.run(*SHOW, "--num", "2").stdout.splitlines()
    assert names.split() == ["experiment", "val", "loss", "val", "accuracy"]
    assert "two_conv" not in clone.dvc("metrics", "show")


def test_an_experiment_with_the_names_that_parameters_had_before_is_still_compared(
    clone: Clone,
) -> None:
    of_today = {file: clone.read(file) for file in ("params.yaml", "dvc.yaml")}
    with modify_yaml(clone.path / "params.yaml") as params:
        muon, _sgd = (params["lenet5"].pop(optimizer) for optimizer in ("muon", "sgd"))
        params["lenet5"]["learning_rate"] = muon["learning_rate"]
    takes_any_names = {"stages": {"train": {"cmd": "true", "params": ["lenet5"]}}}
    wiring = takes_any_names | {"metrics": ["metrics/lenet5.json"]}
    (clone.path / "dvc.yaml").write_text(yaml.safe_dump(wiring))
    clone.commit("names of the past")
    clone.dvc("exp", "run", "--temp", "--name", "old", "-S", "lenet5.learning_rate=0.01")
    for file, content in of_today.items():
        (clone.path / file).write_bytes(content)
    clone.commit("names of today")
    change = "lenet5.muon.learning_rate=0.03"
    clone.dvc("exp", "run", "--temp", "--name", "new", "-S", change, "check")

    sections, names, *rows = clone.run(*SHOW, "--num", "2").stdout.splitlines()
    columns = list(zip(sections.split()[3:], names.replace("val ", "").split()[1:], strict=True))
    shown = {name: dict(zip(columns, cells, strict=True)) for name, *cells in map(str.split, rows)}
    rates = [("lenet5", "learning_rate"), ("lenet5.muon", "learning_rate")]
    assert [shown["old"][column] for column in rates] == ["0.01", "-"]
    assert [shown["new"][column] for column in rates] == ["-", "0.03"]
    losses = {shown[name]["lenet5", "loss"] for name in ("old", "new")}
    assert losses == {val_metrics(clone)[2]}


def val_metrics(clone: Clone) -> list[str]:
    return [
        f"{json.loads(clone.read(f'metrics/{network}.json'))['val'][figure]:.4f}"
        for network in ("two_conv", "lenet5")
        for figure in ("loss", "accuracy")
    ]


def test_an_experiment_that_still_runs_has_no_metrics_to_show(clone: Clone) -> None:
    options = ("--temp", "--name", "unfinished", "-S", "train.epochs=1000")
    process = clone.start("dvc", "exp", "run", *options, "train@lenet5")
    try:
        next(line for line in process.stdout if line.startswith("> exec python -m stages.train"))
        assert "Running" in clone.dvc("exp", "show", "--csv")
        *_, row = clone.run(*SHOW).stdout.splitlines()
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
    assert row.split()[0] == "main"
