"""What would make DVC hang, fail or compare with the wrong commit is named by the tools first."""

import os
import re
import signal
import subprocess
import sys

import pytest

from tests.conftest import Clone
from tests.test_experiments import SHOW
from tests.test_readme import mark_as_set_up

SEEDS = ("python", "-m", "tools.seeds", "1", "2")
PLOTS = ("python", "-m", "tools.plots")
ONE_EXPERIMENT = ("python", "-m", "tools.run_experiment", "name")


def the_error(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 1
    (error,) = done.stdout.splitlines()
    assert error.startswith("error: ")
    return error


def ways_out(error: str) -> list[str]:
    return [way.replace("NAME", "kept") for way in re.findall("`(.*?)`", error)]


def test_head_that_a_killed_run_has_left_on_no_branch_is_named(clone: Clone) -> None:
    clone.git("update-ref", "refs/exps/exec/EXEC_BASELINE", "HEAD")
    assert clone.stage("check").returncode == 0, "it may be there while HEAD is on a branch"
    clone.git("switch", "--quiet", "--detach")
    errors = {the_error(clone.run(*command, check=False)) for command in (SHOW, SEEDS, PLOTS)}
    assert errors == {the_error(clone.stage("check"))}
    assert clone.stage("check", DVC_EXP_NAME="the one that runs").returncode == 0


@pytest.mark.slow
def test_the_way_back_from_a_run_that_was_killed_leads_back(clone: Clone) -> None:
    clone.set_params({"train.epochs": 500})
    dvc = clone.start("dvc", "exp", "run", "-S", "lenet5.dropout=0.1", "train@lenet5")
    next(line for line in dvc.stdout if "epoch  1/" in line)
    assert clone.stage("check").returncode == 0, "a run that is at work is no trouble"
    clone.git("commit", "--quiet", "--allow-empty", "--message", "from a second terminal")
    os.killpg(dvc.pid, signal.SIGHUP)
    dvc.communicate()

    error = the_error(clone.run(*SHOW, check=False))
    again = ("dvc", "exp", "run", "-S", "fetch.timeout=11", "fetch")  # leaves HEAD where it is
    assert error in clone.run(*again, check=False).stdout.splitlines()
    assert the_error(clone.run(*SHOW, check=False)) == error
    killed, *ways = ways_out(error)
    assert killed == "dvc exp run"
    assert "git switch main" in ways
    for way in ways:
        clone.run("bash", "-e", "-c", way)
    assert clone.git("status", "--porcelain", "--branch") == "## main\n"
    assert clone.git("for-each-ref", "refs/exps/exec") == ""
    assert clone.git("log", "--format=%s", "main..kept") == "from a second terminal\n"
    assert "up to date" in clone.dvc("status")
    assert clone.stage("check").returncode == 0
    clone.run(*SHOW)


@pytest.mark.slow
def test_a_head_that_its_user_has_detached_is_no_trouble(clone: Clone) -> None:
    clone.dvc("exp", "run", "--name", "ended", "-S", "fetch.timeout=11", "fetch")
    clone.git("restore", ".")
    clone.git("checkout", "--quiet", "--detach", clone.git("rev-parse", "HEAD").strip())
    clone.dvc("exp", "run", "--name", "detached", "-S", "fetch.timeout=12", "check")
    assert {"ended", "detached"} <= set(clone.run(*SHOW).stdout.split())


UNREADABLE = (
    "git config core.splitIndex true; git update-index --split-index",
    ": > .git/index",
    "git sparse-checkout set --cone --sparse-index stages tools",
)


def test_an_index_that_dvc_cannot_read_is_named_with_a_way_back(clone: Clone) -> None:
    for tool, command in zip((SHOW, SEEDS, ONE_EXPERIMENT), UNREADABLE, strict=True):
        clone.run("bash", "-e", "-c", command)
        for way in ways_out(the_error(clone.run(*tool, check=False))):
            clone.run("bash", "-e", "-c", way)
    assert clone.git("status", "--porcelain") == ""
    clone.dvc("params", "diff")


def test_a_lock_that_dvc_has_left_empty_is_removed_unless_a_dvc_runs(clone: Clone) -> None:
    mark_as_set_up(clone)
    of_runs, of_experiments = (clone.path / f".dvc/tmp/{name}rwlock" for name in ("", "exps/"))
    of_experiments.parent.mkdir(exist_ok=True)
    for file in (of_runs, of_experiments):
        file.write_text("")
    other = clone.path / "dvc"
    other.symlink_to(sys.executable)
    with subprocess.Popen([other, "-c", "input()"], cwd=clone.path, stdin=subprocess.PIPE) as dvc:
        done = clone.run("make", check=False)
        dvc.communicate(b"\n")
    assert f"rwlock: empty, but a dvc runs here (PID {dvc.pid}); end it" in done.stdout
    assert of_runs.exists()
    printed = clone.run("make").stdout
    for file in (of_runs, of_experiments):
        name = file.relative_to(clone.path)
        assert f"{name}: was left empty by a dvc that was ended, removed" in printed
    assert "up to date" in printed
