"""One measurement of the benchmark in a process of its own; prints it as a line of JSON."""

import itertools
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from stages.common.console import StageError
from stages.common.determinism import PINS, SPINNING, make_torch_deterministic
from tools.commands import project_environment

WARM_UP = 10  # steps


def measure_in_new_process(kind: str, *arguments: str) -> dict[str, float]:
    """Run one measurement in a fresh process.

    Raises
    ------
    StageError
        If it fails: the end of what it complained of.
    """
    command = [sys.executable, "-m", "tools.bench.worker", kind, *arguments]
    environment = project_environment()
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise StageError(f"{kind}: {' '.join(done.stderr.split())[-300:]}")
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    kind, *arguments = sys.argv[1:]
    if kind in {"unpinned", "plain", "sgemm"}:  # as any script would run
        for name in PINS | SPINNING:
            os.environ.pop(name, None)
    measured = {
        "ours": ours,
        "unpinned": ours,
        "plain": plain,
        "sgemm": sgemm,
        "epoch": epoch,
    }[kind](*arguments)
    print(json.dumps(measured))


def ours(name: str, steps: str) -> dict[str, float]:
    """Measure our training loop: images a second, and the arithmetic of an image."""
    trainer = make_trainer(name, int(steps) + WARM_UP)
    seconds = list(time_steps(trainer))[WARM_UP:]
    return {
        "images_per_second": len(seconds) * trainer.recipe.batch_size / sum(seconds),
        "gflop_per_image": count_flop(trainer) / 1e9,
    }


def make_trainer(name: str, steps: int):
    """Make the trainer of a network for so many random images that an epoch has ``steps``."""
    import torch

    from stages.classifier.network import build_network
    from stages.common.params import load_params
    from stages.common.tensors import LabelledImages
    from stages.training.loop import Trainer

    params = load_params()
    if "MKL_CBWR" in os.environ:
        make_torch_deterministic(params.train.threads)
    else:
        torch.set_num_threads(params.train.threads)
    recipe = params.recipe(name)
    count = steps * recipe.batch_size
    images = torch.randint(256, (count, 1, 28, 28), dtype=torch.uint8)
    examples = LabelledImages(images, torch.randint(10, (count,)))
    return Trainer(build_network(name, recipe), examples, recipe, epochs=2, seed=1)


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
    """Measure the loop of many a tutorial on the same layers: images a second.

    A DataLoader over float tensors, the default memory layout, Adam, the loss read at each step;
    no augmentation, no averaging of weights, no pins.
    """
    import torch
    import torch.nn.functional as F  # noqa: N812
    from torch import nn
    from torch.utils.data import DataLoader, TensorDataset

    from stages.classifier.network import build_network
    from stages.common.params import load_params
    from stages.networks.two_conv import FlattenChannelsLast

    params = load_params()
    torch.set_num_threads(params.train.threads)
    recipe = params.recipe(name)
    layers = build_network(name, recipe).layers.to(memory_format=torch.contiguous_format).train()
    for i, layer in enumerate(layers):
        if isinstance(layer, FlattenChannelsLast):  # would copy in this layout
            layers[i] = nn.Flatten()
    count = (int(steps) + WARM_UP) * recipe.batch_size
    examples = TensorDataset(torch.randn(count, 1, 28, 28), torch.randint(10, (count,)))
    optimizer = torch.optim.Adam(layers.parameters())
    total_loss, ends = 0.0, []
    for images, labels in DataLoader(examples, recipe.batch_size, shuffle=True):
        optimizer.zero_grad()
        loss = F.cross_entropy(layers(images), labels)
        loss.backward()
        optimizer.step()
        total_loss += loss.item()
        ends.append(time.perf_counter())
    timed = ends[WARM_UP - 1 :]
    return {"images_per_second": (len(timed) - 1) * recipe.batch_size / (timed[-1] - timed[0])}


def sgemm() -> dict[str, float]:
    """Measure the product of two float32 matrices of 1024 x 1024: GFLOP a second."""
    import torch

    from stages.common.params import load_params

    torch.set_num_threads(load_params().train.threads)
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
