"""What was tried: the table, its picture, and the recipes that came of it."""

import re
from collections import Counter
from pathlib import Path

import pytest
import yaml

from tests.conftest import REPOSITORY
from tools.search import PICTURE, SAME_TRIAL, TRIALS, draw_effects, mean_effects, read_trials

VIEWS = ("one view", "mirrored", "ten views")
HOW = ("pipeline", "script on a CPU", "script on a GPU", "by hand elsewhere")
NUMBER, FIGURE = r"\d+", r"[+-]?\d+(\.\d+)?"
# What a cell may hold, unless it is empty: not known, or there is no such thing.
CELLS = {
    "trial": NUMBER,
    "date": r"\d{4}-\d\d(-\d\d)?",
    **dict.fromkeys(("commit", "network", "change", "against", "remark"), ".+"),
    **dict.fromkeys(("base", "val_images", "epochs", "seeds", "seed"), NUMBER),
    "how": "|".join(HOW),
    "params_alone": "yes|no",
    "kept": "yes|replaced|no",
    **dict.fromkeys(("accuracy_effect", "accuracy_error", "loss_effect"), FIGURE),
    **dict.fromkeys(("accuracy_views", "loss_views"), "|".join((*VIEWS, "unknown"))),
    **{
        f"{view.replace(' ', '_')}_{what}": FIGURE
        for view in VIEWS
        for what in ("accuracy", "loss")
    },
    **dict.fromkeys(("train_accuracy", "loss_rise"), FIGURE),
    **dict.fromkeys(("parameters", "minutes"), NUMBER),
}
ROWS = read_trials(REPOSITORY / TRIALS)
BY_NUMBER = {row["trial"]: row for row in ROWS}


def test_a_cell_holds_what_its_column_says() -> None:
    assert set(ROWS[0]) == set(CELLS)
    for row in ROWS:
        assert row["network"]
        assert row["change"]
        for name, cell in row.items():
            assert not cell or re.fullmatch(CELLS[name], cell), (row["trial"], name)


def test_the_picture_is_what_the_tool_draws_from_the_table(tmp_path: Path) -> None:
    draw_effects(tmp_path / "search.png", mean_effects(ROWS))
    assert (tmp_path / "search.png").read_bytes() == (REPOSITORY / PICTURE).read_bytes()


def test_no_trial_stands_there_twice() -> None:
    assert [row["trial"] for row in ROWS] == [str(number) for number in range(1, len(ROWS) + 1)]
    names = Counter(tuple(row[name] for name in (*SAME_TRIAL, "seed")) for row in ROWS)
    assert [name for name, count in names.items() if count > 1] == []


def test_the_page_explains_each_column() -> None:
    page = (REPOSITORY / "metrics/SEARCH.md").read_text()
    named = re.findall(r"^\| (`.*?`) \|", page, re.MULTILINE)
    assert sorted(re.findall(r"`(\w+)`", " ".join(named))) == sorted(CELLS)


@pytest.mark.parametrize("what", ["accuracy", "loss"])
def test_an_effect_is_the_difference_to_the_trial_that_it_is_against(what: str) -> None:
    for row in ROWS:
        views = row[f"{what}_views"]
        if not row["base"] or not views:
            continue
        base = BY_NUMBER[row["base"]]
        assert (base["network"], base["val_images"]) == (row["network"], row["val_images"])
        others = row["against"] if row["against"] in VIEWS else views
        figure, against = (
            float(trial[f"{name.replace(' ', '_')}_{what}"])
            for trial, name in ((row, views), (base, others))
        )
        assert float(row[f"{what}_effect"]) == pytest.approx(figure - against), row["trial"]


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
