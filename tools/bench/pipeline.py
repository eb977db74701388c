"""The whole pipeline: each stage's time and memory, and what imports and DVC add."""

import functools
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from dvc.utils.serialize import modify_yaml

from stages.common.console import StageError, format_table
from stages.common.params import load_params
from tools.common.clones import clone_of

# A small process in between, as Linux counts the memory of a parent as its child's peak.
LAUNCHER = """
import resource, subprocess, sys, time
start = time.perf_counter()
code = subprocess.run(sys.argv[1:]).returncode
print(time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
sys.exit(code)
"""


class Process(NamedTuple):
    """What a finished process took."""

    seconds: float
    peak_gigabytes: float


def measure_and_report(networks: Sequence[str]) -> None:
    """Measure each stage's memory, and what imports and DVC add to a full rebuild.

    What HEAD holds, on synthetic images, as many as the real ones, for one epoch; the others are
    taken to last as long.
    """
    print("pipeline: every stage by itself, then dvc repro", file=sys.stderr)
    epochs = load_params().train.epochs
    stages = [["check"], ["fetch"], ["split"]]
    stages += [[stage, name] for stage in ("train", "evaluate", "predict") for name in networks]
    with clone_of("HEAD", "bench") as (clone, environment):
        set_one_epoch(clone / "params.yaml")
        measure = functools.partial(run_process, clone, environment)
        alone = [measure("-m", f"stages.{stage}", *args) for stage, *args in stages]
        imports = [measure("-c", f"import stages.{stage}") for stage, *_ in stages]
        (clone / "dvc.lock").unlink(missing_ok=True)
        repro = measure("-m", "dvc", "repro", "--force", "--no-run-cache").seconds
        again = measure("-m", "dvc", "repro").seconds

    rows = [
        [" ".join(stage), f"{process.seconds:.1f} s", f"{process.peak_gigabytes:.2f} GB"]
        for stage, process in zip(stages, alone, strict=True)
    ]
    print("\nevery stage by itself, one epoch over 54,000 synthetic images")
    print(format_table(["stage", "time", "peak memory"], rows))
    by_dvc = repro - sum(process.seconds for process in alone)
    by_imports = sum(process.seconds for process in imports)
    epoch = sum(
        process.seconds - imported.seconds
        for (stage, *_), process, imported in zip(stages, alone, imports, strict=True)
        if stage == "train"
    )
    rebuild = repro + (epochs - 1) * epoch
    print(
        f"\nDVC adds {by_dvc:.1f} s, imports {by_imports:.1f} s: "
        f"{(by_dvc + by_imports) / rebuild:.1%} of a full rebuild's {rebuild:.0f} s, "
        f"most of it computed from one epoch\n"
        f"dvc repro with nothing to do: {again:.1f} s"
    )


def set_one_epoch(file: Path) -> None:
    """Set params to one epoch over synthetic images, as many as the real ones."""
    with modify_yaml(file) as params:
        params["fetch"]["dataset"] = "synthetic"
        params["fetch"]["synthetic"] |= {"train_images": 60_000, "test_images": 10_000}
        params["train"]["epochs"] = 1


def run_process(folder: Path, environment: dict[str, str], *arguments: str) -> Process:
    """Run Python in a folder, to its end; measure its time and its peak memory.

    Raises
    ------
    StageError
        If it fails: the end of what it printed.
    """
    command = [sys.executable, "-c", LAUNCHER, sys.executable, *arguments]
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        said = " ".join(f"{done.stdout} {done.stderr}".split())
        raise StageError(f"{' '.join(arguments)}: {said[-300:]}")
    seconds, kibibytes = done.stdout.splitlines()[-1].split()
    return Process(float(seconds), int(kibibytes) * 1024 / 1e9)
