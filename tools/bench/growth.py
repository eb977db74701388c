"""An epoch over ever more images: its time and its memory."""

import sys
from collections.abc import Sequence

from stages.common.console import format_table
from tools.bench.worker import measure_in_new_process

GROWTH = (6_000, 60_000, 600_000)  # images


def measure(networks: Sequence[str]) -> dict[str, list[dict[str, float]]]:
    """Measure each network's epoch over each number of images."""
    epochs = {}
    for name in networks:
        print(f"growth: {name}", file=sys.stderr)
        epochs[name] = [measure_in_new_process("epoch", name, str(images)) for images in GROWTH]
    return epochs


def report(epochs: dict[str, list[dict[str, float]]]) -> None:
    """Print a table of the epochs, and of what each adds to the one before."""
    rows = []
    for name, measured in epochs.items():
        for i, (images, epoch) in enumerate(zip(GROWTH, measured, strict=True)):
            before = measured[i - 1] if i else None
            rows.append(
                [
                    f"{name}, {images:,} images",
                    f"{epoch['seconds']:.1f} s",
                    f"{epoch['seconds'] / before['seconds']:.2f}" if before else "",
                    f"{epoch['peak_gigabytes']:.2f} GB",
                    _added(epoch, before, "peak_gigabytes"),
                    _added(epoch, before, "examples_gigabytes"),
                ]
            )
    print("\nan epoch over more images")
    header = ["", "epoch", "times", "peak memory", "added", "by images and labels"]
    print(format_table(header, rows))


def _added(epoch: dict[str, float], before: dict[str, float] | None, key: str) -> str:
    return f"{epoch[key] - before[key]:+.3f} GB" if before else ""
