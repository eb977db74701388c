"""How soon a training is as accurate as the plain loop ever gets, on val, by one view of an image.

``python -m tools.bench.accuracy`` finds the epochs that both need; ``make bench`` turns them into
seconds.
"""

import itertools
import json
import statistics
import sys
from typing import Any

from stages.common.console import format_table, run_stage
from stages.common.files import write_json
from stages.common.layout import METRICS_FOLDER
from stages.common.params import load_params
from tools.bench.speed import EPOCH_IMAGES, Speed
from tools.bench.worker import measure_in_new_process

SUMMARY = METRICS_FOLDER / "time_to_accuracy.json"
SEEDS = ("1", "2", "3")


def main() -> None:
    summary = {}
    for name in load_params().networks:
        print(f"{name}: the plain loop, from {len(SEEDS)} seeds", file=sys.stderr)
        curves = [measure_in_new_process("plain_curve", name, seed)["val"] for seed in SEEDS]
        summary[name] = {"plain": (plain := summarise_plain(curves))}
        print(f"{name}: ours, until it has {plain['mean']}", file=sys.stderr)
        summary[name]["ours"] = find_schedule(name, plain["mean"])
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
        runs = [measure_in_new_process("our_accuracy", name, str(epochs), s) for s in SEEDS]
        accuracies = [run["val"] for run in runs]
        mean = round(statistics.mean(accuracies), 5)
        print(f"{name}: {epochs} epochs, {mean}", file=sys.stderr)
        if mean >= mark:
            break
    return {"mean": mean, "accuracies": accuracies, "epochs": epochs}


def report(speeds: dict[str, Speed]) -> None:
    """Print a table of the seconds that the epochs of ``SUMMARY`` take at these speeds."""
    summary = json.loads(SUMMARY.read_text(encoding="utf-8"))
    rows = []
    for name, speed in speeds.items():
        plain, ours = summary[name]["plain"], summary[name]["ours"]
        plain_epochs = statistics.mean(plain["epochs"])
        plain_seconds = plain_epochs * EPOCH_IMAGES / speed.plain
        our_seconds = ours["epochs"] * EPOCH_IMAGES / speed.ours
        rows.append(
            [
                f"{name}, {plain['mean']:.4f}",
                f"{plain_epochs:.1f} epochs, {plain_seconds:.0f} s",
                f"{ours['epochs']} epochs, {our_seconds:.0f} s",
                f"{plain_seconds / our_seconds:.1f}",
            ]
        )
    print("\ntraining until the plain loop's best accuracy on val, means over three seeds")
    print(format_table(["network, accuracy", "plain", "ours", "ratio"], rows))


if __name__ == "__main__":
    run_stage(main)
