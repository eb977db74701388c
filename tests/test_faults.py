"""Full disks, signals and kills leave nothing half-written, and the next run just works."""

import os
import random
import signal
import subprocess
import time
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
    source.set_params({"networks": ["lenet5"]})
    whole = copy(source, tmp_path / "whole")
    start = time.monotonic()
    whole.dvc("repro")
    duration = time.monotonic() - start
    lock = whole.read("dvc.lock")
    moments = random.Random(0)  # noqa: S311, nothing is secret here
    for number in range(KILLS):
        clone = copy(source, tmp_path / f"killed-{number}")
        dvc = start_in_its_own_group(clone, "dvc", "repro")
        time.sleep(moments.uniform(0, duration))
        os.killpg(dvc.pid, signal.SIGKILL)
        log = dvc.communicate()[0]
        assert_whole_or_absent(clone, whole)
        clone.dvc("repro")
        assert clone.read("dvc.lock") == lock
        print(f"kill {number + 1}: after {len(log.splitlines())} lines of log, the same dvc.lock")


def start_in_its_own_group(clone: Clone, *command: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command,
        cwd=clone.path,
        env=clone.environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def assert_whole_or_absent(clone: Clone, whole: Clone) -> None:
    """Check that each out is either not there or what a whole ``dvc repro`` made."""
    for stage in yaml.safe_load(whole.read("dvc.lock"))["stages"].values():
        for out in stage["outs"]:
            if (clone.path / out["path"]).exists():
                assert clone.read(out["path"]) == whole.read(out["path"])
