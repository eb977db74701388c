"""One measurement in a process of its own, which prints it as a line of JSON."""

import json
import os
import re
import resource
import sys
import time
from pathlib import Path
from typing import Any

from stages.common.console import run_stage
from stages.common.determinism import ONE_THREAD, PINS, make_torch_deterministic
from stages.common.layout import split_file
from stages.common.params import load_params
from tools.common.commands import run

WARM_UP = 10  # steps, or products, ahead of those that are timed
PRODUCTS = 200


def measure(
    *arguments: str, environment: dict[str, str] | None = None
) -> dict[str, Any] | list[float] | float:
    """Have one of the functions of this module measure, in a fresh process.

    Returns
    -------
    dict, list of float or float
        What that function returns.

    Raises
    ------
    StageError
        If it fails: what it complained of.
    """
    command = (sys.executable, "-m", "tools.bench.measurements", *arguments)
    printed = run(*command, environment=environment)
    return json.loads(printed.splitlines()[-1])


def main() -> None:
    name, *arguments = sys.argv[1:]
    measurements = (speed, accuracies, sgemm, process)
    print(json.dumps({one.__name__: one for one in measurements}[name](*arguments)))


def set_pins(loop: str) -> None:
    """Keep the pins for ours; let others run as any script would."""
    if loop == "ours":
        make_torch_deterministic()
        return
    for name in PINS if loop == "unpinned" else PINS | ONE_THREAD:
        del os.environ[name]


def speed(loop: str, name: str, steps: str) -> dict[str, Any]:
    """Train by a loop for so many steps on random images.

    Returns
    -------
    dict
        ``images_per_second`` after ``WARM_UP`` steps, the ``peak_gigabytes`` of the process, those
        of the images and labels, ``examples_gigabytes``, and a hash of the ``weights``.
    """
    set_pins(loop)
    import torch

    from stages.common.tensors import LabelledImages, hash_tensors
    from tools.bench.loops import LOOPS

    params = load_params()
    batch_size = params.recipe(name).batch_size
    count = int(steps) * batch_size
    torch.manual_seed(1)
    images = torch.randint(256, (count, 1, 28, 28), dtype=torch.uint8)
    labels = torch.randint(len(params.dataset.class_names), (count,))
    trained = LOOPS[loop](name, LabelledImages(images, labels), seed=1)
    ends: list[float] = []
    trained.run_epoch(on_step=lambda: ends.append(time.perf_counter()))
    # ru_maxrss would hold the peak of the parent too
    peak = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return {
        "images_per_second": (count - WARM_UP * batch_size) / (ends[-1] - ends[WARM_UP - 1]),
        "peak_gigabytes": int(peak[1]) * 1024 / 1e9,
        "examples_gigabytes": (images.nbytes + labels.nbytes) / 1e9,
        "weights": hash_tensors([*trained.network.state_dict().values()]),
    }


def accuracies(loop: str, name: str, epochs: str, seed: str) -> list[float]:
    """Train by ours or the plain loop on the training split: accuracy on val after each epoch."""
    set_pins(loop)
    from stages.common.tensors import read_split
    from stages.train import read_pixel_statistics
    from tools.bench.loops import OurLoop, PlainLoop

    classes = len(load_params().dataset.class_names)
    train, val = (read_split(split_file(split), classes)[0] for split in ("train", "val"))
    if loop == "ours":
        trained = OurLoop(name, train, int(seed), int(epochs), read_pixel_statistics())
    else:
        trained = PlainLoop(name, train, int(seed))
    found = []
    for _ in range(int(epochs)):
        trained.run_epoch()
        found.append(trained.accuracy(val))
    return found


def sgemm() -> float:
    """Measure the product of two float32 matrices of 1024 x 1024: GFLOP a second."""
    set_pins("sgemm")
    import torch

    a, b = torch.randn(2, 1024, 1024)
    for product in range(WARM_UP + PRODUCTS):
        if product == WARM_UP:
            start = time.perf_counter()
        a @ b
    return PRODUCTS * 2 * 1024**3 / 1e9 / (time.perf_counter() - start)


def process(folder: str, *arguments: str) -> dict[str, float]:
    """Run Python in a folder, to its end; measure its seconds and its peak memory.

    From here, as Linux counts the memory of a parent as its child's peak, and ours is small.
    """
    start = time.perf_counter()
    run(sys.executable, *arguments, environment={**os.environ}, folder=Path(folder))
    seconds = time.perf_counter() - start
    kibibytes = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    return {"seconds": seconds, "peak_gigabytes": kibibytes * 1024 / 1e9}


if __name__ == "__main__":
    run_stage(main)
