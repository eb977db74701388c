"""Images a second in training: ours, ours without the pins, a plain loop, and the limit."""

import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from stages.common.console import format_table
from stages.common.layout import PLOTS_FOLDER
from stages.pictures.figures import network_colour, picture
from tools.bench.worker import measure_in_new_process

EPOCH_IMAGES = 54_000  # the training split
STEPS = 60  # that are timed in a process
PICTURE = PLOTS_FOLDER / "benchmark.png"


class Speed(NamedTuple):
    """Medians for one network."""

    ours: float  # images a second
    unpinned: float  # images a second, without the pins
    plain: float  # images a second
    gflops: float  # GFLOP a second, of ours


def measure(networks: Sequence[str], repeats: int) -> tuple[dict[str, Speed], float]:
    """Measure the speed of each network's training, and sgemm's rate in GFLOP a second."""
    sgemm_rates = []
    rounds = {name: [] for name in networks}
    for repeat in range(repeats):  # in turns, so that a busy minute falls on all
        print(f"speed: round {repeat + 1} of {repeats}", file=sys.stderr)
        sgemm_rates.append(measure_in_new_process("sgemm")["gflops"])
        for name, speeds in rounds.items():
            speeds.append(_measure_one(name))
    medians = {
        name: Speed(*map(statistics.median, zip(*speeds, strict=True)))
        for name, speeds in rounds.items()
    }
    return medians, statistics.median(sgemm_rates)


def _measure_one(name: str) -> Speed:
    ours, unpinned, plain = (
        measure_in_new_process(loop, name, str(STEPS)) for loop in ("ours", "unpinned", "plain")
    )
    rate = ours["images_per_second"]
    gflops = rate * ours["gflop_per_image"]
    return Speed(rate, unpinned["images_per_second"], plain["images_per_second"], gflops)


def report(speeds: dict[str, Speed], sgemm: float) -> None:
    """Print a table of the speeds and of their ratios."""
    rows = [
        [
            name,
            f"{speed.ours:,.0f}",
            f"{speed.unpinned:,.0f}",
            f"{speed.unpinned / speed.ours - 1:+.0%}",
            f"{speed.plain:,.0f}",
            f"{speed.ours / speed.plain:.2f}",
            f"{speed.gflops:.0f}",
            f"{speed.gflops / sgemm:.0%}",
        ]
        for name, speed in speeds.items()
    ]
    print(f"training, images a second; sgemm, without the pins: {sgemm:.0f} GFLOP/s")
    header = ["network", "ours", "unpinned", "pins cost", "plain", "ratio", "GFLOP/s", "of sgemm"]
    print(format_table(header, rows))


def draw(path: Path, speeds: dict[str, Speed], sgemm: float) -> None:
    """Draw images a second of both loops, and how near ours comes to the limit."""
    with picture(path, 8, 1.2 + len(speeds)) as figure:
        axes = figure.subplots()
        for row, (name, speed) in enumerate(speeds.items()):
            bars = ((-0.2, speed.ours, 1.0), (0.2, speed.plain, 0.4))
            for offset, rate, alpha in bars:
                colour = network_colour(name)
                axes.barh(row + offset, rate, height=0.36, color=colour, alpha=alpha)
            axes.annotate(
                f" {speed.ours / speed.plain:.1f} times the plain loop, "
                f"{speed.gflops / sgemm:.0%} of the sgemm rate",
                (speed.ours, row - 0.2),
                va="center",
            )
        axes.set_yticks(range(len(speeds)), speeds)
        axes.set_ylim(len(speeds) - 0.5, -0.5)
        axes.set_xlim(0, 2.1 * max(speed.ours for speed in speeds.values()))
        axes.set(xlabel="images a second in training", title="Dark: ours. Pale: a plain loop")
