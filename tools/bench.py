"""Measure speed and memory, side by side in one run: medians, and ratios to what limits us."""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from dvc.utils.serialize import modify_yaml

from stages.common.console import StageError, format_table, run_stage
from stages.common.layout import PLOTS_FOLDER
from stages.common.params import load_params
from stages.common.pictures import network_colour, picture
from tools.commands import clone_environment, run

STEPS = 60  # that are timed in a process
GROWTH = (6_000, 60_000, 600_000)  # images
EPOCH_IMAGES = 54_000  # the training split
# A small process in between, as Linux counts the memory of a parent as its child's peak.
LAUNCHER = """
import resource, subprocess, sys, time
start = time.perf_counter()
code = subprocess.run(sys.argv[1:]).returncode
print(time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
sys.exit(code)
"""
PICTURE = PLOTS_FOLDER / "benchmark.png"


class Speed(NamedTuple):
    """Medians for one network."""

    ours: float  # images a second
    unpinned: float  # images a second, without the pins
    plain: float  # images a second
    gflops: float  # of ours


class Process(NamedTuple):
    """What a finished process took."""

    seconds: float
    peak_gigabytes: float


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tools.bench", description=__doc__)
    parser.add_argument("--repeats", type=int, default=5, help="of each timing (default: 5)")
    parser.add_argument("--picture", action="store_true", help=f"write {PICTURE} too")
    options = parser.parse_args()

    networks = load_params().networks
    speeds, sgemm = measure_speeds(networks, options.repeats)
    report_speeds(speeds, sgemm)
    if options.picture:
        draw(PICTURE, speeds, sgemm)
        print(f"{PICTURE}: written")
    measure_pipeline(speeds)
    report_growth(measure_growth(networks))


def worker(*arguments: str) -> dict[str, float]:
    """Run one measurement in a fresh process."""
    command = [sys.executable, "-m", "tools.bench_worker", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise StageError(f"{' '.join(arguments)}: {' '.join(done.stderr.split())[-300:]}")
    return json.loads(done.stdout.splitlines()[-1])


def measure_speeds(networks: Sequence[str], repeats: int) -> tuple[dict[str, Speed], float]:
    """Measure the speed of each network's training, ours and plain, and sgemm's rate."""
    sgemm = []
    ours, unpinned, plain = ({name: [] for name in networks} for _ in range(3))
    for repeat in range(repeats):  # in turns, so that a busy minute falls on all
        print(f"speed: round {repeat + 1} of {repeats}", file=sys.stderr)
        sgemm.append(worker("sgemm")["gflops"])
        for name in networks:
            ours[name].append(worker("ours", name, str(STEPS)))
            unpinned[name].append(worker("unpinned", name, str(STEPS))["images_per_second"])
            plain[name].append(worker("plain", name, str(STEPS))["images_per_second"])
    speeds = {}
    for name in networks:
        rate = statistics.median(of["images_per_second"] for of in ours[name])
        gflops = rate * ours[name][0]["gflop_per_image"]
        others = statistics.median(unpinned[name]), statistics.median(plain[name])
        speeds[name] = Speed(rate, *others, gflops)
    return speeds, statistics.median(sgemm)


def report_speeds(speeds: dict[str, Speed], sgemm: float) -> None:
    rows = [
        [
            name,
            f"{of.ours:,.0f}",
            f"{of.unpinned:,.0f}",
            f"{of.unpinned / of.ours - 1:+.0%}",
            f"{of.plain:,.0f}",
            f"{of.ours / of.plain:.2f}",
            f"{of.gflops:.0f}",
            f"{of.gflops / sgemm:.0%}",
        ]
        for name, of in speeds.items()
    ]
    print(f"training, images a second; sgemm, without the pins: {sgemm:.0f} GFLOP/s")
    header = ["network", "ours", "unpinned", "pins cost", "plain", "ratio", "GFLOP/s", "of sgemm"]
    print(format_table(header, rows))


def measure_growth(networks: Sequence[str]) -> dict[str, list[dict[str, float]]]:
    """Measure an epoch over ever more images."""
    epochs = {}
    for name in networks:
        print(f"growth: {name}", file=sys.stderr)
        epochs[name] = [worker("epoch", name, str(images)) for images in GROWTH]
    return epochs


def report_growth(epochs: dict[str, list[dict[str, float]]]) -> None:
    rows = []
    for name, measured in epochs.items():
        for i, (images, of) in enumerate(zip(GROWTH, measured, strict=True)):
            before = measured[i - 1] if i else None
            rows.append(
                [
                    f"{name}, {images:,} images",
                    f"{of['seconds']:.1f} s",
                    f"{of['seconds'] / before['seconds']:.2f}" if before else "",
                    f"{of['peak_gigabytes']:.2f} GB",
                    _added(of, before, "peak_gigabytes"),
                    _added(of, before, "examples_gigabytes"),
                ]
            )
    print("\nan epoch over more images")
    header = ["", "epoch", "times", "peak memory", "added", "by images and labels"]
    print(format_table(header, rows))


def _added(of: dict[str, float], before: dict[str, float] | None, key: str) -> str:
    return f"{of[key] - before[key]:+.3f} GB" if before else ""


def measure_pipeline(speeds: dict[str, Speed]) -> None:
    """Measure each stage's memory, and what imports and DVC add to a full rebuild.

    What HEAD holds, on synthetic images, as many as the real ones, for one epoch; the others are
    added by the speed of training.
    """
    print("pipeline: every stage by itself, then dvc repro", file=sys.stderr)
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        clone = Path(folder) / "clone"
        run("git", "clone", "--quiet", ".", str(clone))
        epochs = load_params().train.epochs
        with modify_yaml(clone / "params.yaml") as params:
            params["fetch"]["dataset"] = "synthetic"
            params["fetch"]["synthetic"] |= {"train_images": 60_000, "test_images": 10_000}
            params["train"]["epochs"] = 1
        stages = [["common.params"], ["fetch"], ["split"]]
        stages += [[stage, name] for stage in ("train", "evaluate", "predict") for name in speeds]
        alone = [run_process(clone, "-m", f"stages.{of[0]}", *of[1:]) for of in stages]
        imports = sum(run_process(clone, "-c", f"import stages.{of[0]}").seconds for of in stages)
        (clone / "dvc.lock").unlink(missing_ok=True)
        repro = run_process(clone, "-m", "dvc", "repro", "--force", "--no-run-cache").seconds
        again = run_process(clone, "-m", "dvc", "repro").seconds

    rows = [
        [" ".join(of), f"{took.seconds:.1f} s", f"{took.peak_gigabytes:.2f} GB"]
        for of, took in zip(stages, alone, strict=True)
    ]
    print("\nevery stage by itself, one epoch over 54,000 synthetic images")
    print(format_table(["stage", "time", "peak memory"], rows))
    by_dvc = repro - sum(took.seconds for took in alone)
    training = (epochs - 1) * sum(EPOCH_IMAGES / of.ours for of in speeds.values())
    share = (by_dvc + imports) / (repro + training)
    print(
        f"\nDVC adds {by_dvc:.1f} s, imports {imports:.1f} s: {share:.1%} of a full rebuild's "
        f"{repro + training:.0f} s, most of it computed from one epoch\n"
        f"dvc repro with nothing to do: {again:.1f} s"
    )


def run_process(folder: Path, *arguments: str) -> Process:
    """Run Python in a folder, to its end; measure its time and its peak memory."""
    command = [sys.executable, "-c", LAUNCHER, sys.executable, *arguments]
    environment = clone_environment(folder.parent)
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        said = " ".join(f"{done.stdout} {done.stderr}".split())
        raise StageError(f"{' '.join(arguments)}: {said[-300:]}")
    seconds, kibibytes = done.stdout.splitlines()[-1].split()
    return Process(float(seconds), int(kibibytes) * 1024 / 1e9)


def draw(path: Path, speeds: dict[str, Speed], sgemm: float) -> None:
    """Draw images a second of both loops, and how near ours comes to the limit."""
    with picture(path, 8, 1.2 + len(speeds)) as figure:
        axes = figure.subplots()
        for row, (name, of) in enumerate(speeds.items()):
            colour = network_colour(name)
            bars = ((-0.2, of.ours, 1.0), (0.2, of.plain, 0.4))
            for offset, rate, alpha in bars:
                axes.barh(row + offset, rate, height=0.36, color=colour, alpha=alpha)
            axes.annotate(
                f" {of.ours / of.plain:.1f} times the plain loop, "
                f"{of.gflops / sgemm:.0%} of the sgemm rate",
                (of.ours, row - 0.2),
                va="center",
            )
        axes.set_yticks(range(len(speeds)), speeds)
        axes.set_ylim(len(speeds) - 0.5, -0.5)
        axes.set_xlim(0, 2.1 * max(of.ours for of in speeds.values()))
        axes.set(xlabel="images a second in training", title="Dark: ours. Pale: a plain loop")


if __name__ == "__main__":
    run_stage(main)
