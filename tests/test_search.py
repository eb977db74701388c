"""What was tried: the table, its picture, and the recipes that came of it."""

import csv
import re
from collections import Counter
from pathlib import Path

import pytest
import yaml

from stages.common.console import StageError
from tests.conftest import REPOSITORY
from tools.search import (
    COLUMNS,
    PICTURE,
    SAME_TRIAL,
    TRIALS,
    VIEWS,
    draw_effects,
    mean_effects,
    read_trials,
)

ROWS = read_trials(REPOSITORY / TRIALS)
BY_NUMBER = {row["trial"]: row for row in ROWS}


def test_the_picture_is_what_the_tool_draws_from_the_table(tmp_path: Path) -> None:
    draw_effects(tmp_path / "search.png", mean_effects(ROWS))
    assert (tmp_path / "search.png").read_bytes() == (REPOSITORY / PICTURE).read_bytes()


def test_no_trial_stands_there_twice() -> None:
    assert [row["trial"] for row in ROWS] == list(range(1, len(ROWS) + 1))
    names = Counter(tuple(row[name] for name in (*SAME_TRIAL, "seed")) for row in ROWS)
    assert [name for name, count in names.items() if count > 1] == []


def test_the_page_explains_each_column() -> None:
    page = (REPOSITORY / "metrics/SEARCH.md").read_text()
    named = re.findall(r"^\| (`.*?`) \|", page, re.MULTILINE)
    assert sorted(re.findall(r"`(\w+)`", " ".join(named))) == sorted(COLUMNS)


@pytest.mark.parametrize("what", ["accuracy", "loss"])
def test_an_effect_is_the_difference_to_the_trial_that_it_is_against(what: str) -> None:
    for row in ROWS:
        views = row[f"{what}_views"]
        if row["base"] is None or views is None:
            continue
        base = BY_NUMBER[row["base"]]
        assert (base["network"], base["val_images"]) == (row["network"], row["val_images"])
        others = row["against"] if row["against"] in VIEWS else views
        figure, against = (
            trial[f"{name.replace(' ', '_')}_{what}"]
            for trial, name in ((row, views), (base, others))
        )
        assert row[f"{what}_effect"] == pytest.approx(figure - against), row["trial"]


WORDS = {
    r"^Muon ([\d.]+)": ("muon", "learning_rate"),
    r"^SGD ([\d.]+)": ("sgd", "learning_rate"),
    r"^label smoothing ([\d.]+)": ("label_smoothing",),
    r"^decoupled weight decay ([\d.]+)": ("weight_decay",),
}


def test_the_recipes_are_those_that_were_kept() -> None:
    params = yaml.safe_load((REPOSITORY / "params.yaml").read_text())
    found = set()
    for row in ROWS:
        for pattern, keys in WORDS.items():
            if row["kept"] == "yes" and (value := re.match(pattern, row["change"])):
                setting = params[row["network"]]
                for key in keys:
                    setting = setting[key]
                assert setting == float(value[1]), row["change"]
                found.add((row["network"], *keys))
    assert len(found) == 6


@pytest.mark.parametrize(
    ("column", "cell", "error"),
    [
        ("accuracy_effect", "0,13", "could not convert string to float: '0,13'"),
        ("kept", "maybe", "not one of: yes, replaced, no"),
        ("date", "27.11.2026", "not a date such as 2026-11-28 or 2026-11"),
    ],
)
def test_a_cell_of_another_kind_is_named(
    tmp_path: Path, column: str, cell: str, error: str
) -> None:
    with (REPOSITORY / TRIALS).open(newline="", encoding="utf-8") as file:
        row = list(csv.DictReader(file))[-1] | {column: cell}
    path = tmp_path / "search.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerow(row)
    with pytest.raises(StageError) as raised:
        read_trials(path)
    assert str(raised.value) == f"{path}, line 2: {column}: {error}"
