"""The tables that ``make bench`` prints."""

import json
import statistics
import sys
from collections.abc import Sequence

from dvc.utils.serialize import modify_yaml

from stages.common.console import StageError, format_table
from stages.common.params import load_params
from stages.common.workers import WORKERS_SETTING, count_workers
from tools.bench.accuracy import SUMMARY
from tools.bench.loops import LOOPS, count_gflop
from tools.bench.measurements import WARM_UP, measure
from tools.common.clones import clone_of
from tools.common.commands import project_environment

STEPS = str(WARM_UP + 60)  # of a loop whose speed is measured
EPOCH_IMAGES = 54_000  # the training split
WORKERS = (1, 2, 4, 8, 16)
GROWTH = (6_000, 60_000, 600_000)  # images


def print_table(title: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    print(f"\n{title}\n{format_table(header, rows)}")


def measure_speeds(networks: Sequence[str], repeats: int) -> dict[str, dict[str, float]]:
    """Measure each network's images a second in training, by each of ``LOOPS``: medians.

    The last, ``sgemm``, is the limit: were all arithmetic as fast as a product of matrices.
    """
    rounds = []
    for repeat in range(repeats):  # in turns, so that a busy minute falls on all
        print(f"speed: round {repeat + 1} of {repeats}", file=sys.stderr)
        rounds.append({name: measure_loops(name) for name in networks})
    return {
        name: {loop: statistics.median(one[name][loop] for one in rounds) for loop in loops}
        for name, loops in rounds[0].items()
    }


def measure_loops(name: str) -> dict[str, float]:
    speeds = {loop: measure("speed", loop, name, STEPS)["images_per_second"] for loop in LOOPS}
    return speeds | {"sgemm": measure("sgemm") / count_gflop(name)}


def print_speeds(speeds: dict[str, dict[str, float]]) -> None:
    """Print the speeds, and how many times each of them ours is."""
    rows = [
        [
            f"{name}, {loop}",
            f"{speed:,.0f}",
            f"{speed * count_gflop(name):.0f}",
            f"{by_loop['ours'] / speed:.2f}",
        ]
        for name, by_loop in speeds.items()
        for loop, speed in by_loop.items()
    ]
    header = ["", "images a second", "GFLOP/s", "ours / this"]
    print_table("training by each loop, and at the pace of a product of matrices", header, rows)


def print_time_to_accuracy(speeds: dict[str, dict[str, float]]) -> None:
    """Print the seconds that the epochs of ``SUMMARY`` take at these speeds."""
    summary = json.loads(SUMMARY.read_text(encoding="utf-8"))
    rows = []
    for name, by_loop in speeds.items():
        plain, ours = summary[name]["plain"], summary[name]["ours"]
        plain_epochs = statistics.mean(plain["epochs"])
        plain_seconds = plain_epochs * EPOCH_IMAGES / by_loop["plain"]
        our_seconds = ours["epochs"] * EPOCH_IMAGES / by_loop["ours"]
        rows.append(
            [
                f"{name}, {plain['mean']:.4f}",
                f"{plain_epochs:.1f} epochs, {plain_seconds:.0f} s",
                f"{ours['epochs']} epochs, {our_seconds:.0f} s",
                f"{plain_seconds / our_seconds:.1f}",
            ]
        )
    title = "training until the plain loop's best accuracy on val, means over three seeds"
    print_table(title, ["network, accuracy", "plain", "ours", "plain / ours"], rows)


def print_workers(networks: Sequence[str]) -> None:
    """Print the time of a step by the number of workers, as far as there are cores.

    Raises
    ------
    StageError
        If the weights depend on the number of workers.
    """
    numbers = [workers for workers in WORKERS if workers <= count_workers()]
    rows = []
    for name in networks:
        print(f"workers: {name}", file=sys.stderr)
        batch_size = load_params().recipe(name).batch_size
        settings = [project_environment() | {WORKERS_SETTING: str(n)} for n in numbers]
        measured = [measure("speed", "ours", name, STEPS, environment=one) for one in settings]
        if len({one["weights"] for one in measured}) > 1:
            raise StageError(f"{name}: other weights with another number of workers")
        steps = [batch_size / one["images_per_second"] for one in measured]
        rows += [
            [f"{name}, workers: {workers}", f"{step * 1000:.1f} ms", f"{steps[0] / step:.2f}"]
            for workers, step in zip(numbers, steps, strict=True)
        ]
    header = ["", "step", "times the speed"]
    print_table("a step with more workers, the same weights to the bit", header, rows)


def print_stages(networks: Sequence[str]) -> None:
    """Print each stage's time and memory, and what imports and DVC add to a full rebuild.

    What HEAD holds, on synthetic images, as many as the real ones, for one epoch; the others are
    taken to last as long.
    """
    print("pipeline: every stage by itself, then dvc repro", file=sys.stderr)
    stages = [["check"], ["fetch"], ["split"]]
    stages += [[stage, name] for stage in ("train", "evaluate", "predict") for name in networks]
    with clone_of("HEAD", "bench") as (clone, environment):
        with modify_yaml(clone / "params.yaml") as params:
            epochs, params["train"]["epochs"] = params["train"]["epochs"], 1
            params["fetch"]["dataset"] = "synthetic"
            params["fetch"]["synthetic"] |= {"train_images": 60_000, "test_images": 10_000}

        def measure_python(*arguments: str) -> dict[str, float]:
            return measure("process", str(clone), *arguments, environment=environment)

        alone = [measure_python("-m", f"stages.{stage}", *network) for stage, *network in stages]
        imports = [measure_python("-c", f"import stages.{stage}") for stage, *_ in stages]
        (clone / "dvc.lock").unlink(missing_ok=True)
        repro = measure_python("-m", "dvc", "repro", "--force", "--no-run-cache")["seconds"]
        again = measure_python("-m", "dvc", "repro")["seconds"]

    rows = []
    by_dvc, by_imports, epoch = repro, 0.0, 0.0
    for stage, whole, imported in zip(stages, alone, imports, strict=True):
        seconds, importing = whole["seconds"], imported["seconds"]
        memory = f"{whole['peak_gigabytes']:.2f} GB"
        rows.append([" ".join(stage), f"{seconds:.1f} s", f"{importing:.1f} s", memory])
        by_dvc -= seconds
        by_imports += importing
        if "train" in stage:
            epoch += seconds - importing
    title = "every stage by itself, one epoch over 54,000 synthetic images"
    print_table(title, ["stage", "time", "of it imports", "peak memory"], rows)
    rebuild = repro + (epochs - 1) * epoch
    print(
        f"\nDVC adds {by_dvc:.1f} s, imports {by_imports:.1f} s: "
        f"{(by_dvc + by_imports) / rebuild:.1%} of a full rebuild's {rebuild:.0f} s, "
        f"most of it computed from one epoch\n"
        f"dvc repro with nothing to do: {again:.1f} s"
    )


def print_growth(networks: Sequence[str]) -> None:
    """Print the time and the memory of an epoch over ever more images."""
    rows = []
    for name in networks:
        print(f"growth: {name}", file=sys.stderr)
        batch_size = load_params().recipe(name).batch_size
        for images in GROWTH:
            epoch = measure("speed", "ours", name, str(images // batch_size))
            speed = epoch["images_per_second"]
            rows.append(
                [
                    f"{name}, {images:,} images",
                    f"{images / speed:.1f} s",
                    f"{speed:,.0f}",
                    f"{epoch['peak_gigabytes']:.3f} GB",
                    f"{epoch['examples_gigabytes']:.3f} GB",
                ]
            )
    header = ["", "epoch", "images a second", "peak memory", "images and labels"]
    print_table("an epoch over more images", header, rows)
