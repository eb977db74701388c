"""One measurement of the benchmark in a process of its own; prints it as a line of JSON."""

import hashlib
import itertools
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from stages.common.console import StageError
from stages.common.determinism import ONE_THREAD, PINS, make_torch_deterministic
from tools.common.commands import project_environment

WARM_UP = 10  # steps


def measure_in_new_process(kind: str, *arguments: str, **settings: str) -> dict[str, Any]:
    """Run one measurement in a fresh process, with settings in its environment.

    Raises
    ------
    StageError
        If it fails: the end of what it complained of.
    """
    command = [sys.executable, "-m", "tools.bench.worker", kind, *arguments]
    environment = project_environment() | settings
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise StageError(f"{kind}: {' '.join(done.stderr.split())[-300:]}")
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    kind, *arguments = sys.argv[1:]
    if kind in {"unpinned", "plain", "careful", "plain_curve", "sgemm"}:  # as any script would run
        for name in PINS:
            del os.environ[name]
    if kind in {"plain", "careful", "plain_curve", "sgemm"}:
        for name in ONE_THREAD:
            del os.environ[name]
    measured = {
        "ours": ours,
        "unpinned": ours,
        "plain": plain,
        "careful": careful,
        "plain_curve": plain_curve,
        "our_accuracy": our_accuracy,
        "sgemm": sgemm,
        "epoch": epoch,
    }[kind](*arguments)
    print(json.dumps(measured))


def ours(name: str, steps: str) -> dict[str, Any]:
    """Measure our training loop: images a second, the arithmetic of an image, the weights' hash."""
    trainer = make_trainer(name, int(steps) + WARM_UP)
    seconds = list(time_steps(trainer))[WARM_UP:]
    tensors = trainer.state().values()
    weights = b"".join(tensor.contiguous().numpy().tobytes() for tensor in tensors)
    return {
        "images_per_second": len(seconds) * trainer.recipe.batch_size / sum(seconds),
        "gflop_per_image": count_flop(trainer) / 1e9,
        "weights": hashlib.sha256(weights).hexdigest(),
    }


def make_trainer(name: str, steps: int):
    """Make the trainer of a network for so many random images that an epoch has ``steps``."""
    from stages.classifier.image_classifier import build_network
    from stages.common.params import load_params
    from stages.training.trainer import Trainer

    if "MKL_CBWR" in os.environ:
        make_torch_deterministic()
    recipe = load_params().recipe(name)
    examples = draw_examples(steps * recipe.batch_size)
    return Trainer(build_network(name, recipe), examples, recipe, epochs=2, seed=1)


def draw_examples(count: int):
    """Draw so many random images and classes; what is drawn next is the same too."""
    import torch

    from stages.common.tensors import LabelledImages

    torch.manual_seed(1)
    images = torch.randint(256, (count, 1, 28, 28), dtype=torch.uint8)
    return LabelledImages(images, torch.randint(10, (count,)))


def time_steps(trainer) -> Iterator[float]:
    """Train for an epoch; yield the seconds of each step."""
    ends = [time.perf_counter()]
    trainer.run_epoch(1, on_step=lambda: ends.append(time.perf_counter()))
    yield from (end - start for start, end in itertools.pairwise(ends))


def count_flop(trainer) -> float:
    """Count an image's floating-point operations, forward and backward; Muon's are left out."""
    import torch.nn.functional as F  # noqa: N812
    from torch.utils.flop_counter import FlopCounterMode

    batch = trainer.examples.take(slice(trainer.recipe.batch_size))
    with FlopCounterMode(display=False) as counter:
        F.cross_entropy(trainer.network(batch.images), batch.labels).backward()
    return counter.get_total_flops() / len(batch)


def plain(name: str, steps: str) -> dict[str, float]:
    """Measure the plain loop: images a second."""
    from tools.bench.plain import PlainLoop

    return time_loop(PlainLoop, name, int(steps))


def careful(name: str, steps: str, layout: str) -> dict[str, float]:
    """Measure the careful loop in a layout: images a second."""
    from tools.bench.plain import CarefulLoop

    return time_loop(CarefulLoop, name, int(steps), layout)


def time_loop(kind: type, name: str, steps: int, *layout: str) -> dict[str, float]:
    """Measure a loop of ``plain.py``: images a second."""
    from stages.common.params import load_params

    batch_size = load_params().recipe(name).batch_size
    loop = kind(name, draw_examples((steps + WARM_UP) * batch_size), 1, *layout)
    seconds = list(loop.run_epoch())[WARM_UP:]
    return {"images_per_second": len(seconds) * batch_size / sum(seconds)}


def plain_curve(name: str, seed: str) -> dict[str, list[float]]:
    """Train the plain loop on the training split: accuracy on val after each epoch."""
    from stages.common.layout import split_file
    from stages.common.params import load_params
    from stages.common.tensors import read_split
    from tools.bench.plain import PlainLoop

    train, val = (read_split(split_file(split))[0] for split in ("train", "val"))
    loop = PlainLoop(name, train, int(seed))
    accuracies = []
    for _ in range(load_params().train.epochs):
        for _ in loop.run_epoch():
            pass
        accuracies.append(loop.accuracy(val))
    return {"val": accuracies}


def our_accuracy(name: str, epochs: str, seed: str) -> dict[str, float]:
    """Train ours on the training split, for so many epochs: accuracy on val after the last."""
    from stages.classifier.inference import score
    from stages.common.layout import split_file
    from stages.common.params import load_params
    from stages.common.tensors import read_split
    from stages.train import initialise, read_pixel_statistics
    from stages.training.trainer import Trainer

    make_torch_deterministic()
    train, val = (read_split(split_file(split))[0] for split in ("train", "val"))
    recipe = load_params().recipe(name)
    network = initialise(name, recipe, int(seed), read_pixel_statistics())
    trainer = Trainer(network, train, recipe, int(epochs), int(seed))
    for epoch in range(1, int(epochs) + 1):
        trainer.run_epoch(epoch)
    return {"val": score(trainer.average, val).accuracy}


def sgemm() -> dict[str, float]:
    """Measure the product of two float32 matrices of 1024 x 1024: GFLOP a second."""
    import torch

    a, b = torch.randn(2, 1024, 1024)
    for _ in range(WARM_UP):
        a @ b
    repeats = 200
    start = time.perf_counter()
    for _ in range(repeats):
        a @ b
    return {"gflops": repeats * 2 * 1024**3 / 1e9 / (time.perf_counter() - start)}


def epoch(name: str, images: str) -> dict[str, float]:
    """Measure an epoch over so many images, but for part of a batch: seconds, and peak memory."""
    from stages.common.params import load_params

    trainer = make_trainer(name, int(images) // load_params().recipe(name).batch_size)
    seconds = sum(time_steps(trainer))
    # ru_maxrss would hold the peak of the parent too
    peak = int(re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())[1]) * 1024
    own = trainer.examples.images.nbytes + trainer.examples.labels.nbytes
    return {
        "seconds": seconds,
        "peak_gigabytes": peak / 1e9,
        "examples_gigabytes": own / 1e9,
    }


if __name__ == "__main__":
    main()
