"""Draw what was tried, `metrics/search.csv`, as effects on the validation accuracy."""

import argparse
import csv
import statistics
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib.axes import Axes

from stages.common.console import run_stage
from stages.common.layout import METRICS_FOLDER, PLOTS_FOLDER
from stages.pictures.figures import network_colour, picture

TRIALS = METRICS_FOLDER / "search.csv"
PICTURE = PLOTS_FOLDER / "search.png"
SAME_TRIAL = ("network", "change", "against", "val_images", "epochs", "how")  # other seeds
ROW_HEIGHT = 0.135  # inches
NAME_WIDTH = 60  # characters
NOT_KEPT_COLOUR = "#767676"


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
    draw_effects(PICTURE, mean_effects(read_trials(TRIALS)))


def read_trials(path: Path) -> list[dict[str, str]]:
    """Read the table, a dict per trial; `metrics/SEARCH.md` explains its columns."""
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def mean_effects(trials: Sequence[dict[str, str]]) -> list[Effect]:
    """Average each effect whose error is known over the seeds of its trial.

    Seeds validate on the same images, so that the error stays that of one.
    """
    by_trial: dict[tuple, list[dict[str, str]]] = {}
    for trial in trials:
        if trial["accuracy_effect"] and trial["accuracy_error"]:
            by_trial.setdefault(tuple(trial[name] for name in SAME_TRIAL), []).append(trial)
    return [
        Effect(
            network=seeds[0]["network"],
            change=seeds[0]["change"],
            points=statistics.fmean(float(seed["accuracy_effect"]) for seed in seeds),
            error=float(seeds[0]["accuracy_error"]),
            kept=seeds[0]["kept"],
        )
        for seeds in by_trial.values()
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
