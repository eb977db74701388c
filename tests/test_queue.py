"""What runs DVC's queue: it ends, whatever became of the workers, and says why."""

import os
import re
import shutil
import signal
import time
from pathlib import Path

import pytest

from stages.common.console import StageError
from tests.conftest import Clone
from tests.machines import kill
from tools.common.queue import refuse_unfit_for_queue

FINISH = """
from stages.common.console import run_stage
from tools.common import queue

queue.PATIENCE = 4
run_stage(lambda: queue.finish_queue(1))
"""


@pytest.mark.parametrize(
    ("kind", "option", "way_out"),
    [
        ("shallow", "--depth=1", "git fetch --no-prune --unshallow"),
        ("partial", "--filter=blob:none", "git fetch --no-prune --refetch --no-filter"),
    ],
)
def test_a_clone_without_all_history_is_refused_until_that_is_fetched(
    kind: str, option: str, way_out: str, fresh: Clone, tmp_path: Path, monkeypatch
) -> None:
    (fresh.path / "README.md").write_text("another one\n")
    fresh.commit("two commits")
    fresh.git("config", "uploadpack.allowFilter", "true")
    lacking = Clone(tmp_path / kind, fresh.environment)
    fresh.git("clone", "--quiet", option, fresh.path.as_uri(), str(lacking.path))
    monkeypatch.chdir(lacking.path)
    with pytest.raises(StageError, match=f"^this clone is {kind}, .*; run `{way_out}` first$"):
        refuse_unfit_for_queue()
    lacking.run(*way_out.split(), "--quiet")
    refuse_unfit_for_queue()


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        ("url = x\n\tfetch = a\n\tfetch = b", "Duplicate keyword name at line"),
        ("url = x\n\tmirror", "Invalid line"),
        ("url = x\n[core]\n\tpager = less", "Duplicate section name at line"),
        ("url = \udce9", "'utf-8' codec can't decode"),
    ],
)
def test_a_configuration_of_git_that_dvc_cannot_read_is_refused(
    lines: str, reason: str, fresh: Clone, monkeypatch
) -> None:
    monkeypatch.chdir(fresh.path)
    refuse_unfit_for_queue()
    with Path(".git/config").open("a", errors="surrogateescape") as file:
        file.write(f'[remote "origin"]\n\t{lines}\n')
    place = re.escape(f"{fresh.path}/.git/config: DVC's queue can't read it ({reason}")
    with pytest.raises(StageError, match=f"^{place}.*$"):
        refuse_unfit_for_queue()


@pytest.mark.slow
def test_a_task_whose_processes_were_killed_is_named_with_the_way_out(clone: Clone) -> None:
    queue_one_that_takes_long(clone)
    clone.start("dvc", "queue", "start")  # not run: the worker holds its pipe open
    wait_for_the_stage(clone)
    kill(clone)
    assert finish(clone) == (
        "error: long is left Running, but nobody works on it; "
        "`dvc queue kill long` and `dvc queue remove long` take it out"
    )
    clone.dvc("queue", "kill", "long")
    clone.dvc("queue", "remove", "long")
    assert "No experiment tasks" in clone.dvc("queue", "status")


@pytest.mark.slow
def test_a_number_that_another_process_has_now_is_not_to_be_killed(clone: Clone) -> None:
    clone.dvc("exp", "run", "--temp", "--name", "finished", "check")
    queue_one_that_takes_long(clone)
    unshare = ("unshare", "--pid", "--fork", *(["--map-root-user"] if os.getuid() else []))
    if clone.run(*unshare, "true", check=False).returncode:
        pytest.skip("needs to be root, or user namespaces")
    started = clone.start(*unshare, "bash", "-c", "dvc queue start; sleep 60")
    file = wait_for_the_stage(clone)
    os.killpg(started.pid, signal.SIGKILL)  # the container stops: all in it ends
    started.wait()
    number = str(os.getpid())  # had by chance: those of a container are small
    file.write_text(file.read_text().replace('"pid": ', f'"pid": {number}, "was": '))
    assert finish(clone) == (
        "error: long is left Running, but nobody works on it; don't `dvc queue kill` it, as its "
        f"number, {number}, is another process's now; when no dvc runs here, "
        "remove .dvc/tmp/exps: waiting tasks go, finished experiments stay"
    )
    shutil.rmtree(clone.path / ".dvc/tmp/exps")
    assert "No experiment tasks" in clone.dvc("queue", "status")
    assert "[finished]" in clone.dvc("exp", "list", "--all-commits")


def queue_one_that_takes_long(clone: Clone) -> None:
    clone.dvc("exp", "run", "--queue", "--name", "long", "-Strain.epochs=1000", "train@lenet5")


def wait_for_the_stage(clone: Clone) -> Path:
    """Wait until the stage is at work; return the file in which DVC keeps its runner's number."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        for log in clone.path.glob(".dvc/tmp/exps/run/*/*.out"):
            if "> exec python -m stages.train" in log.read_text():
                return log.with_suffix(".json")
        time.sleep(0.1)
    raise AssertionError("the stage didn't start")


def finish(clone: Clone) -> str:
    """Wait for the queue as the tools do, with less patience; return its last word."""
    done = clone.run("timeout", "60", "python", "-c", FINISH, check=False)
    assert done.returncode == 1, done.stdout
    return done.stdout.splitlines()[-1]
