"""Full disks, signals and kills leave nothing half-written, and the next run just works."""

import os
import random
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml

from tests.conftest import Clone, copy

KILLS = 20


@pytest.mark.slow
def test_a_repro_after_a_kill_at_any_moment_ends_in_the_same_lock(
    source: Clone, tmp_path: Path
) -> None:
    source = copy(source, tmp_path / "source")
    source.set_params({"networks": ["lenet5"], "fetch.synthetic.train_images": 500})
    whole = copy(source, tmp_path / "whole")
    start = time.monotonic()
    whole.dvc("repro")
    duration = time.monotonic() - start
    lock = whole.read("dvc.lock")
    moments = random.Random(0)  # noqa: S311, nothing is secret here
    for number in range(KILLS):
        clone = copy(source, tmp_path / f"killed-{number}")
        dvc = clone.start("dvc", "repro")
        time.sleep(moments.uniform(0, duration))
        os.killpg(dvc.pid, signal.SIGKILL)
        log = dvc.communicate()[0]
        assert_whole_or_absent(clone, whole)
        clone.dvc("repro")
        assert clone.read("dvc.lock") == lock
        print(f"kill {number + 1}: after {len(log.splitlines())} lines of log, the same dvc.lock")


def assert_whole_or_absent(clone: Clone, whole: Clone) -> None:
    """Check that each out is either not there or what a whole ``dvc repro`` made."""
    for stage in yaml.safe_load(whole.read("dvc.lock"))["stages"].values():
        for out in stage["outs"]:
            if (clone.path / out["path"]).exists():
                assert_whole(out["path"], clone.read(out["path"]), whole.read(out["path"]))


def assert_whole(path: str, content: bytes, whole: bytes) -> None:
    if path.endswith("history.csv"):  # a row an epoch
        assert whole.startswith(content)
        assert content.endswith(b"\n")
    else:
        assert content == whole


STAGE_FOLDERS = {  # what each stage writes, and where most of it goes
    "fetch": "data/raw",
    "split": "data/split",
    "train lenet5": "models/lenet5",
    "evaluate lenet5": "plots/lenet5",
    "predict lenet5": "data/predictions",
}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a small disk")
@pytest.mark.parametrize("command", STAGE_FOLDERS)
def test_a_full_disk_leaves_nothing_half_written(command: str, clone: Clone) -> None:
    folder = clone.path / STAGE_FOLDERS[command]
    with mounted(folder, "size=4k"):
        done = clone.stage(*command.split())
        assert done.returncode == 1
        assert f"error: {folder.relative_to(clone.path)}/" in done.stdout
        assert "No space left on device; nothing was left half-written" in done.stdout
        assert "Traceback" not in done.stdout
        written = {path.name: path.read_bytes() for path in folder.iterdir()}
    for name, content in written.items():
        assert_whole(name, content, (folder / name).read_bytes())


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a read-only folder")
def test_a_read_only_folder_is_named_in_one_line(clone: Clone) -> None:
    with mounted(clone.path / "data/raw", "ro"):
        done = clone.stage("fetch")
    assert done.returncode == 1
    assert done.stdout == (
        "error: data/raw/train-images-idx3-ubyte.gz: Read-only file system; "
        "nothing was left half-written\n"
    )


@contextmanager
def mounted(folder: Path, options: str) -> Iterator[None]:
    """Mount a memory file system over a folder, which hides what is in it."""
    folder.mkdir(exist_ok=True)
    mount = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("this root may not mount anything")
    try:
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True)  # noqa: S607


def test_a_training_that_diverges_names_the_step_and_keeps_the_last_good_state(
    clone: Clone,
) -> None:
    clone.set_params(
        {
            "train.epochs": 4,
            "lenet5.muon.learning_rate": 0,  # its steps have a size that no gradient enlarges
            "lenet5.sgd.learning_rate": 10,  # the highest that is allowed, as are the next two
            "lenet5.sgd.momentum": 0.99,
            "lenet5.weight_decay": 1,
            "lenet5.warmup": 0.75,
        }
    )
    before = clone.read("models/lenet5/model.safetensors")
    for expected in ("lenet5  epoch  1/4", "lenet5: goes on after epoch 1 of 4"):
        done = clone.stage("train", "lenet5")
        assert done.returncode == 1
        assert expected in done.stdout
        error = next(line for line in done.stdout.splitlines() if line.startswith("error: "))
        reason = "the training loss is (nan|inf); lower lenet5.sgd.learning_rate in params.yaml"
        assert re.fullmatch(rf"error: epoch 2, step \d+: {reason}", error)
        assert "Traceback" not in done.stdout
    assert clone.read("models/lenet5/model.safetensors") == before


# A stage that is told to end by each signal given, in its work, in its clean-up and at its exit.
TOLD_TO_END = """
import atexit, os, sys
from stages.common.console import run_stage

first, *others = map(int, sys.argv[1:])

def main():
    atexit.register(tell, others)
    try:
        tell([first] if first else [])
    finally:
        tell(others if first else [])
        print("cleaned up")

def tell(numbers):
    for number in numbers:
        os.kill(os.getpid(), number)

run_stage(main)
"""
ENDINGS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


@pytest.mark.parametrize("first", [*ENDINGS, 0])
def test_a_stage_that_is_told_to_end_again_and_again_ends_quietly(
    first: int, source: Clone
) -> None:
    told = (str(int(number)) for number in (first, *ENDINGS, *ENDINGS))
    ending = source.start("python", "-c", TOLD_TO_END, *told)
    log = ending.communicate()[0]
    assert log == "cleaned up\n" + ("interrupted\n" if first == signal.SIGINT else "")
    assert ending.returncode == (128 + first if first else 0)


# As when they arrive in a long step of a library.
ALL_AT_ONCE = """
import os, signal
from stages.common.console import ENDINGS, run_stage

def main():
    signal.pthread_sigmask(signal.SIG_BLOCK, ENDINGS)
    for number in ENDINGS:
        os.kill(os.getpid(), number)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDINGS)

run_stage(main)
"""


def test_a_stage_that_is_told_to_end_by_several_signals_at_once_ends_quietly(
    source: Clone,
) -> None:
    ending = source.start("python", "-c", ALL_AT_ONCE)
    assert ending.communicate()[0] in ("", "interrupted\n")
    assert ending.returncode in [128 + number for number in ENDINGS]


def test_a_stage_goes_on_without_its_terminal_under_nohup(source: Clone) -> None:
    done = source.run("nohup", "python", "-c", TOLD_TO_END, str(int(signal.SIGHUP)))
    assert done.stdout.endswith("cleaned up\n")


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
@pytest.mark.parametrize(
    "stage", ["fetch", "split", "train@lenet5", "evaluate@lenet5", "predict@lenet5"]
)
def test_a_signal_to_each_stage_leaves_nothing_half_written(
    stage: str, number: signal.Signals, clone: Clone, built: Clone
) -> None:
    dvc = clone.start("dvc", "repro", "--force", "--single-item", stage)
    line = ""
    while not line.startswith("> exec python"):  # that starts the stage
        line = dvc.stdout.readline()
    time.sleep(random.uniform(0, 0.5 if stage == "fetch" else 3))  # noqa: S311, no secret
    os.killpg(dvc.pid, number)
    log = dvc.communicate()[0]
    assert "Traceback" not in log
    assert_whole_or_absent(clone, built)
    print(f"{stage}, {number.name}: dvc exits with {dvc.returncode}, says {log!r:.300}")
    clone.dvc("repro")
    assert clone.read("dvc.lock") == built.read("dvc.lock")
    assert clone.git("status", "--porcelain") == ""
