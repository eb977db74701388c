"""Draw what was tried, `metrics/search.csv`, as effects on the validation accuracy."""

import argparse
import csv
import re
import statistics
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes

from stages.common.console import StageError, run_stage
from stages.common.layout import METRICS_FOLDER, PLOTS_FOLDER
from stages.pictures.figures import network_colour, picture

TRIALS = METRICS_FOLDER / "search.csv"
PICTURE = PLOTS_FOLDER / "search.png"
VIEWS = ("one view", "mirrored", "ten views")
SAME_TRIAL = ("network", "change", "against", "val_images", "epochs", "how")  # other seeds
ROW_HEIGHT = 0.135  # inches
NAME_WIDTH = 60  # characters
NOT_KEPT_COLOUR = "#767676"


def one_of(*allowed: str) -> Callable[[str], str]:
    """Make a reader of cells that hold one of a few texts."""

    def read(cell: str) -> str:
        if cell not in allowed:
            raise ValueError(f"not one of: {', '.join(allowed)}")
        return cell

    return read


def month_or_day(cell: str) -> str:
    if not re.fullmatch(r"\d{4}-\d\d(-\d\d)?", cell):
        raise ValueError("not a date such as 2026-11-28 or 2026-11")
    return cell


# metrics/SEARCH.md explains them. A cell may be empty: not known, or there is no such thing.
COLUMNS: dict[str, Callable[[str], Any]] = {
    "trial": int,
    "date": month_or_day,
    "commit": str,
    "network": str,
    "change": str,
    "against": str,
    "base": int,
    "val_images": int,
    "epochs": int,
    "seeds": int,
    "seed": int,
    "how": one_of("pipeline", "script on a CPU", "script on a GPU", "by hand elsewhere"),
    "params_alone": one_of("yes", "no"),
    "accuracy_effect": float,
    "accuracy_error": float,
    "accuracy_views": one_of(*VIEWS, "unknown"),
    "loss_effect": float,
    "loss_views": one_of(*VIEWS, "unknown"),
    "kept": one_of("yes", "replaced", "no"),
    "remark": str,
    "one_view_accuracy": float,
    "one_view_loss": float,
    "mirrored_accuracy": float,
    "mirrored_loss": float,
    "ten_views_accuracy": float,
    "ten_views_loss": float,
    "train_accuracy": float,
    "loss_rise": float,
    "parameters": int,
    "minutes": int,
}


@dataclass(frozen=True)
class Effect:
    """What a change did to the accuracy of a network, in points, as the mean over its seeds."""

    network: str
    change: str
    points: float
    error: float
    kept: str


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tools.search", description=__doc__)
    parser.parse_args()
    effects = mean_effects(read_trials(TRIALS))
    if not effects:
        raise StageError(f"{TRIALS}: holds no effect on the accuracy with its error")
    draw_effects(PICTURE, effects)
    print(f"{PICTURE}: written")


def read_trials(path: Path) -> list[dict[str, Any]]:
    """Read the table, a dict per trial; an empty cell is None.

    Raises
    ------
    StageError
        If a column is missing or another one is there, or if a cell isn't of its column's kind.
    """
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = csv.DictReader(file)
            if rows.fieldnames != list(COLUMNS):
                raise StageError(f"{path}: its columns should be {','.join(COLUMNS)}")
            return [read_row(row, f"{path}, line {rows.line_num}") for row in rows]
    except (UnicodeDecodeError, csv.Error) as error:
        raise StageError(f"{path}: not a CSV file in UTF-8: {error}") from None


def read_row(row: dict[str, str], place: str) -> dict[str, Any]:
    if None in row or None in row.values():
        raise StageError(f"{place}: should have {len(COLUMNS)} cells")
    trial = {}
    for name, cell in row.items():
        try:
            trial[name] = COLUMNS[name](cell) if cell else None
        except ValueError as error:
            raise StageError(f"{place}: {name}: {error}") from None
    if not trial["network"] or not trial["change"]:
        raise StageError(f"{place}: names no network, or no change")
    return trial


def mean_effects(trials: Sequence[dict[str, Any]]) -> list[Effect]:
    """Average each effect whose error is known over the seeds of its trial.

    Seeds validate on the same images, so that the error stays that of one.
    """
    seeds: dict[tuple, list[dict[str, Any]]] = {}
    for trial in trials:
        if trial["accuracy_effect"] is not None and trial["accuracy_error"] is not None:
            seeds.setdefault(tuple(trial[name] for name in SAME_TRIAL), []).append(trial)
    return [
        Effect(
            network=first["network"],
            change=first["change"],
            points=statistics.fmean(trial["accuracy_effect"] for trial in (first, *others)),
            error=first["accuracy_error"],
            kept=first["kept"],
        )
        for first, *others in seeds.values()
    ]


def draw_effects(path: Path, effects: Sequence[Effect]) -> None:
    """Draw the effects with their errors, the best first, a panel for each network."""
    panels: dict[str, list[Effect]] = {}
    for effect in sorted(effects, key=lambda effect: effect.points):
        panels.setdefault(effect.network, []).append(effect)
    networks = sorted(panels, key=lambda network: -len(panels[network]))
    rows = [len(panels[network]) for network in networks]
    with picture(path, 9, 2 + ROW_HEIGHT * sum(rows)) as figure:
        grid = figure.subplots(len(networks), sharex=True, squeeze=False, height_ratios=rows)
        for axes, network in zip(grid[:, 0], networks, strict=True):
            axes.axvline(0, color="black", linewidth=0.8, zorder=0)
            for height, effect in enumerate(panels[network]):
                draw_effect(axes, height, effect)
            axes.set(title=network, yticks=[], ylim=(-1, len(panels[network])))
        axes.set(xlabel="effect on the accuracy, points, with its error", xlim=(-1.7, 1.7))
        figure.suptitle(
            "What was tried: kept (filled), kept until replaced (hollow), not kept (grey)"
        )


def draw_effect(axes: Axes, height: int, effect: Effect) -> None:
    """Draw an effect, named on the side of its error bar where there is room."""
    kept = effect.kept in ("yes", "replaced")
    colour = network_colour(effect.network) if kept else NOT_KEPT_COLOUR
    fill = "white" if effect.kept == "replaced" else colour
    axes.errorbar(
        *(effect.points, height),
        xerr=effect.error,
        fmt="o",
        markersize=4,
        color=colour,
        markerfacecolor=fill,
    )
    side, anchor = (-1, "right") if effect.points > 0 else (1, "left")
    axes.annotate(
        textwrap.shorten(effect.change, NAME_WIDTH, placeholder=" ..."),
        (effect.points + side * effect.error, height),
        xytext=(4 * side, 0),
        textcoords="offset points",
        ha=anchor,
        va="center",
        fontsize=7,
        color=colour,
    )


if __name__ == "__main__":
    run_stage(main)
