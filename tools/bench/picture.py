"""The picture of the benchmark."""

from pathlib import Path

from stages.common.layout import PLOTS_FOLDER
from stages.pictures.figures import network_colour, picture

PICTURE = PLOTS_FOLDER / "benchmark.png"


def draw_speeds(path: Path, speeds: dict[str, dict[str, float]]) -> None:
    """Draw images a second of the three loops, and how near ours comes to the limit."""
    with picture(path, 8, 1.2 + 1.4 * len(speeds)) as figure:
        axes = figure.subplots()
        for row, (name, by_loop) in enumerate(speeds.items()):
            ours, plain = by_loop["ours"], by_loop["plain"]
            careful = max(by_loop["careful"], by_loop["careful_channels_last"])
            bars = (
                (-0.27, ours, 1.0, f"ours: {ours / by_loop['sgemm']:.0%} of the sgemm rate"),
                (0.0, careful, 0.55, f"careful loop; ours: {ours / careful:.2f} of it"),
                (0.27, plain, 0.3, f"plain loop; ours: {ours / plain:.2f} of it"),
            )
            for offset, rate, alpha, text in bars:
                colour = network_colour(name)
                axes.barh(row + offset, rate, height=0.24, color=colour, alpha=alpha)
                axes.annotate(f" {text}", (rate, row + offset), va="center")
        axes.set_yticks(range(len(speeds)), speeds)
        axes.set_ylim(len(speeds) - 0.5, -0.5)
        axes.set_xlim(0, 1.5 * axes.get_xlim()[1])  # room for what stands beside the bars
        axes.set(xlabel="images a second in training")
