"""Find the epochs after which a training is as accurate as the plain loop ever gets.

On val, by one view of an image. ``make bench`` turns the epochs into seconds.
"""

import itertools
import statistics
import sys
from typing import Any

from stages.common.console import run_stage
from stages.common.files import write_json
from stages.common.layout import METRICS_FOLDER
from stages.common.params import load_params
from tools.bench.measurements import measure

SUMMARY = METRICS_FOLDER / "time_to_accuracy.json"
SEEDS = ("1", "2", "3")


def main() -> None:
    params = load_params()
    summary = {}
    for name in params.networks:
        print(f"{name}: the plain loop, from {len(SEEDS)} seeds", file=sys.stderr)
        epochs = str(params.train.epochs)
        plain = summarise_plain([measure("accuracies", "plain", name, epochs, s) for s in SEEDS])
        print(f"{name}: ours, until it has {plain['mean']}", file=sys.stderr)
        summary[name] = {"plain": plain, "ours": find_schedule(name, plain["mean"])}
    write_json(SUMMARY, summary)


def summarise_plain(curves: list[list[float]]) -> dict[str, Any]:
    """Summarise the accuracies after each epoch, from each seed: the best, and when it came."""
    best = [max(curve) for curve in curves]
    return {
        "mean": round(statistics.mean(best), 5),
        "accuracies": best,
        "epochs": [curve.index(most) + 1 for curve, most in zip(curves, best, strict=True)],
    }


def find_schedule(name: str, mark: float) -> dict[str, Any]:
    """Find the shortest schedule of our own whose mean accuracy over the seeds reaches a mark."""
    for epochs in itertools.count(1):
        curves = [measure("accuracies", "ours", name, str(epochs), seed) for seed in SEEDS]
        accuracies = [curve[-1] for curve in curves]
        mean = round(statistics.mean(accuracies), 5)
        print(f"{name}: {epochs} epochs, {mean}", file=sys.stderr)
        if mean >= mark:
            break
    return {"mean": mean, "accuracies": accuracies, "epochs": epochs}


if __name__ == "__main__":
    run_stage(main)
