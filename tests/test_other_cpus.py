"""The outputs are the same, to the bit, on other CPUs, which qemu-user emulates."""

import hashlib
import json
import os
import shutil
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY, Clone, copy

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        shutil.which("qemu-x86_64") is None,
        reason="qemu-x86_64 is missing: apt-get install qemu-user",
    ),
]

CORES = sorted(os.sched_getaffinity(0))
STEPS = 2  # of training, on batches of the recipes' own sizes
PIPELINE = (
    "fetch", "split", "train two_conv", "evaluate two_conv", "predict two_conv",
    "train lenet5", "evaluate lenet5", "predict lenet5",
)  # fmt: skip
# MKL asks who made a CPU, so that without the pins another maker's must differ.
MADE_BY_INTEL = "GenuineIntel" in Path("/proc/cpuinfo").read_text()
OTHER_MAKERS_CPU = "EPYC-Rome" if MADE_BY_INTEL else "Haswell"

TRAIN_STEPS = """
import hashlib, json, os, sys
from pathlib import Path
from stages.common.determinism import PINS, make_torch_deterministic

images, steps, pins = sys.argv[1:]
if pins == "unpinned":
    for name in PINS:
        del os.environ[name]

import torch
from stages.classifier.image_classifier import build_network
from stages.common.params import load_params
from stages.common.tensors import read_split
from stages.training.trainer import Trainer

params = load_params()
make_torch_deterministic()
train, _ = read_split(Path(images))
hashes = {}
for name in params.networks:
    recipe = params.recipe(name)
    torch.manual_seed(1)
    examples = train.take(slice(int(steps) * recipe.batch_size))
    trainer = Trainer(build_network(name, recipe), examples, recipe, epochs=1, seed=1)
    trainer.run_epoch(1)
    state = b"".join(tensor.contiguous().numpy().tobytes() for tensor in trainer.state().values())
    hashes[name] = hashlib.sha256(state).hexdigest()
print(json.dumps(hashes))
"""

# In one process, as most of the time under emulation goes into imports.
RUN_STAGES = """
import runpy, sys

for command in sys.argv[1:]:
    sys.argv = command.split()
    try:
        runpy.run_module(f"stages.{sys.argv[0]}", run_name="__main__")
    except SystemExit as end:
        if end.code:
            raise
"""


@pytest.fixture(scope="module")
def native(tmp_path_factory: pytest.TempPathFactory, source: Clone) -> Clone:
    """The project after all stages ran on this machine's own CPU, on very few images."""
    clone = copy(source, tmp_path_factory.mktemp("native") / "clone")
    clone.set_params(
        {"fetch.synthetic.train_images": 300, "fetch.synthetic.test_images": 100, "train.epochs": 1}
    )
    run_pipeline(clone, "native")
    return clone


@pytest.fixture(scope="module")
def emulated(
    tmp_path_factory: pytest.TempPathFactory, source: Clone, native: Clone
) -> Iterator[dict[str, Future]]:
    """All that runs under emulation, as many at once as there are cores."""
    clone = copy(source, tmp_path_factory.mktemp("emulated") / "clone")
    shutil.copy2(native.path / "params.yaml", clone.path)
    first, last = CORES[:1], CORES[-1:]
    with ThreadPoolExecutor(len(CORES)) as pool:
        yield {
            "pipeline": pool.submit(run_pipeline, clone, "Haswell"),
            "Haswell": pool.submit(train_steps, native, "Haswell", first),
            "Skylake-Server": pool.submit(train_steps, native, "Skylake-Server", last),
            "EPYC-Rome": pool.submit(train_steps, native, "EPYC-Rome", CORES),
            "unpinned": pool.submit(train_steps, native, OTHER_MAKERS_CPU, CORES, "unpinned"),
        }


@pytest.fixture(scope="module")
def weights(native: Clone) -> dict[str, str]:
    """The hash of each network's tensors after the steps on this machine, on all its cores."""
    return train_steps(native, "native", CORES)


def test_one_core_gives_the_same_weights(native: Clone, weights: dict[str, str]) -> None:
    assert train_steps(native, "native", CORES[:1]) == weights


@pytest.mark.parametrize("cpu", ["Haswell", "Skylake-Server", "EPYC-Rome"])
def test_another_cpu_gives_the_same_weights(
    cpu: str, weights: dict[str, str], emulated: dict[str, Future]
) -> None:
    assert emulated[cpu].result() == weights


def test_another_cpu_gives_the_same_outputs_of_every_stage(
    native: Clone, emulated: dict[str, Future]
) -> None:
    expected = hash_outputs(native)
    assert {Path(path).suffix for path in expected} == {
        ".gz",
        ".safetensors",
        ".csv",
        ".json",
        ".png",
    }
    assert emulated["pipeline"].result() == expected


def test_without_the_pins_the_weights_differ(native: Clone, emulated: dict[str, Future]) -> None:
    assert emulated["unpinned"].result() != train_steps(native, "native", CORES, "unpinned")


def run_pipeline(clone: Clone, cpu: str) -> dict[str, str]:
    """Run all stages on a CPU and hash every output."""
    clone.run(*python_on(cpu, CORES), RUN_STAGES, *PIPELINE)
    return hash_outputs(clone)


def hash_outputs(clone: Clone) -> dict[str, str]:
    return {
        path.relative_to(clone.path).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for folder in ("data", "models", "metrics", "plots")
        for path in sorted((clone.path / folder).rglob("*.*"))
    }


def train_steps(native: Clone, cpu: str, cores: list[int], pins: str = "pinned") -> dict[str, str]:
    """Train both networks with the project's own params and hash all tensors, by network."""
    project = Clone(REPOSITORY, native.environment)
    images = str(native.path / "data/split/train.safetensors")
    done = project.run(*python_on(cpu, cores), TRAIN_STEPS, images, str(STEPS), pins)
    return json.loads(next(line for line in done.stdout.splitlines() if line.startswith("{")))


def python_on(cpu: str, cores: list[int]) -> list[str]:
    """Make the start of a command that runs Python code on some cores of a CPU."""
    taskset = ["taskset", "--cpu-list", ",".join(map(str, cores))]
    emulator = [] if cpu == "native" else ["qemu-x86_64", "-cpu", cpu]
    return [*taskset, *emulator, sys.executable, "-c"]
