"""Images a second in training: ours, ours without the pins, two other loops, and the limit."""

import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from stages.common.console import format_table
from stages.common.layout import PLOTS_FOLDER
from stages.pictures.figures import network_colour, picture
from tools.bench.plain import LAYOUTS
from tools.bench.worker import measure_in_new_process

EPOCH_IMAGES = 54_000  # the training split
STEPS = 60  # that are timed in a process
PICTURE = PLOTS_FOLDER / "benchmark.png"


class Speed(NamedTuple):
    """Medians for one network."""

    ours: float  # images a second
    unpinned: float  # images a second, without the pins
    plain: float  # images a second
    careful: float  # images a second, in the layout that is faster here
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
    steps = str(STEPS)
    ours = measure_in_new_process("ours", name, steps)
    rate = ours["images_per_second"]
    unpinned, plain = (
        measure_in_new_process(loop, name, steps)["images_per_second"]
        for loop in ("unpinned", "plain")
    )
    careful = (
        measure_in_new_process("careful", name, steps, layout)["images_per_second"]
        for layout in LAYOUTS
    )
    return Speed(rate, unpinned, plain, max(careful), rate * ours["gflop_per_image"])


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
            f"{speed.careful:,.0f}",
            f"{speed.ours / speed.careful:.2f}",
            f"{speed.gflops:.0f}",
            f"{speed.gflops / sgemm:.0%}",
        ]
        for name, speed in speeds.items()
    ]
    print(f"training, images a second; sgemm, without the pins: {sgemm:.0f} GFLOP/s")
    header = ["network", "ours", "unpinned", "pins cost", "plain", "ratio", "careful", "ratio"]
    print(format_table([*header, "GFLOP/s", "of sgemm"], rows))


def draw(path: Path, speeds: dict[str, Speed], sgemm: float) -> None:
    """Draw images a second of the three loops, and how near ours comes to the limit."""
    with picture(path, 8, 1.2 + 1.4 * len(speeds)) as figure:
        axes = figure.subplots()
        for row, (name, speed) in enumerate(speeds.items()):
            of_sgemm = f"ours: {speed.gflops / sgemm:.0%} of the sgemm rate"
            bars = (
                (-0.27, speed.ours, 1.0, of_sgemm),
                (
                    0.0,
                    speed.careful,
                    0.55,
                    f"careful loop; ours: {speed.ours / speed.careful:.2f} of it",
                ),
                (0.27, speed.plain, 0.3, f"plain loop; ours: {speed.ours / speed.plain:.2f} of it"),
            )
            for offset, rate, alpha, text in bars:
                colour = network_colour(name)
                axes.barh(row + offset, rate, height=0.24, color=colour, alpha=alpha)
                axes.annotate(f" {text}", (rate, row + offset), va="center")
        axes.set_yticks(range(len(speeds)), speeds)
        axes.set_ylim(len(speeds) - 0.5, -0.5)
        axes.set_xlim(0, 1.6 * max(max(speed.ours, speed.careful) for speed in speeds.values()))
        axes.set(xlabel="images a second in training")
