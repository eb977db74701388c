"""Run one experiment of one commit in a clone of its own, and share it with all machines.

The clone's DVC cache is this one's; where a training was killed, the next call goes on.
"""

import argparse
import contextlib
import fcntl
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from dvc.repo import Repo

from stages.common.console import StageError, run_stage
from tools.commands import (
    clone_environment,
    committed_head,
    make_clone,
    project_environment,
    run,
)
from tools.machine import check_machine

SLOTS = Path(".dvc/tmp/slots")
PAUSES = (5, 10, 20, 40, 80, 160)  # seconds before a remote that fails is tried again


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tools.run_experiment", description=__doc__)
    parser.add_argument("name", help="the experiment's")
    parser.add_argument("targets", nargs="*", help="run these stages alone, for the run cache")
    parser.add_argument("-S", "--set-param", action="append", default=[], help="as dvc exp run has")
    start = parser.add_mutually_exclusive_group()
    start.add_argument("--here", action="store_true", help="run in this clone, as it stands")
    start.add_argument("--commit", help="HEAD; or one that is here, or origin's full hash")
    parser.add_argument("--params", type=Path, help="take this file in place of params.yaml")
    arguments = parser.parse_args()
    if arguments.params and arguments.here:
        parser.error("argument --params: not allowed with argument --here")
    if arguments.here:
        run_here(arguments.name, arguments.targets, arguments.set_param)
        return
    changes = [f"--set-param={change}" for change in arguments.set_param]
    rest = (arguments.name, *arguments.targets, *changes)
    run_in_slot(arguments.name, arguments.commit or committed_head(), arguments.params, rest)


def run_in_slot(name: str, commit: str, params: Path | None, rest: Sequence[str]) -> None:
    """Have the tool of that very commit do the rest, in a new clone; remove that at the end.

    Raises
    ------
    StageError
        If the name can't be a folder's, or the commit is nowhere.
    """
    if not re.fullmatch(r"\w[\w.-]*", name):
        raise StageError(f"{name!r} can't name an experiment; use letters, digits, `-` and `_`")
    folder = SLOTS.absolute() / name
    folder.mkdir(parents=True, exist_ok=True)
    slot = os.open(folder / "lock", os.O_RDWR | os.O_CREAT)
    with contextlib.suppress(OSError):  # a file system without locks
        fcntl.flock(slot, fcntl.LOCK_EX)  # until the last process in it has ended, after a kill too
    shutil.rmtree(folder / "clone", ignore_errors=True)
    project = make_clone(find(commit), folder / "clone", clone_environment(folder))
    link_slot(project, folder)
    if params:
        (project / "params.yaml").write_text(params.read_text())
    command = (sys.executable, "-m", "tools.run_experiment", "--here", *rest)
    environment = project_environment()
    done = subprocess.run(command, cwd=project, env=environment, pass_fds=[slot], check=False)
    if done.returncode:
        sys.exit(done.returncode)
    for part in ("clone", "home", "resume"):  # the lock stays, as others may wait for it
        shutil.rmtree(folder / part)


def find(commit: str) -> str:
    """Return a commit's hash; what isn't here yet is fetched by it.

    Raises
    ------
    StageError
        If the remote doesn't have it either.
    """
    try:
        return run("git", "rev-parse", "--verify", f"{commit}^{{commit}}")
    except StageError:
        run("git", "fetch", "--quiet", "origin", commit)
        return run("git", "rev-parse", "--verify", f"{commit}^{{commit}}")


def link_slot(project: Path, folder: Path) -> None:
    """Give a clone this one's remotes and DVC cache, and a resume state that outlives it."""
    origin = run("git", "remote", "get-url", "origin")
    if (path := Path(run("git", "rev-parse", "--show-toplevel"), origin)).exists():
        origin = str(path.resolve())
    run("git", "-C", str(project), "remote", "set-url", "origin", origin)
    (folder / "resume").mkdir(exist_ok=True)
    (project / ".resume").symlink_to(folder / "resume")
    with Repo() as here, Repo(str(project)) as there, there.config.edit("local") as settings:
        if "remote" not in here.config["core"]:
            raise StageError("no DVC remote to share by: `dvc remote add --default NAME URL` first")
        settings["core"]["remote"] = here.config["core"]["remote"]
        settings["remote"] = here.config["remote"]
        settings["cache"]["dir"] = here.cache.local_cache_dir
        settings["core"]["hardlink_lock"] = here.config["core"].get("hardlink_lock", False)


def run_here(name: str, targets: list[str], changes: list[str]) -> None:
    """Run the experiment in this clone and share it.

    Raises
    ------
    StageError
        If this machine's bits are others, a stage fails, or the experiment can't be shared.
    """
    check_machine()
    folder = Path(".dvc/tmp/run_experiment").absolute()
    folder.mkdir(parents=True, exist_ok=True)
    environment = clone_environment(folder)
    options = [f"--set-param={change}" for change in changes]
    command = ["dvc", "exp", "run", "--pull", "--allow-missing", "--name", name, *options, *targets]
    # A slot's lock is passed on: a dvc that outlives this process still works there.
    if subprocess.run(command, env=environment, close_fds=False, check=False).returncode:
        raise StageError(f"{name}: `dvc exp run` failed, see above")
    patiently(lambda: run("dvc", "push", "--run-cache", *targets, environment=environment))
    if targets:
        return
    ref = experiment_ref(run("git", "rev-parse", "HEAD"), name)
    check_same(name, run("git", "rev-parse", ref), patiently(lambda: publish(ref)))
    print(f"{name} is on the remote")


def experiment_ref(base: str, name: str) -> str:
    return f"refs/exps/{base[:2]}/{base[2:]}/{name}"


def patiently(action: Callable[[], Any]) -> Any:
    """Do what needs a remote; if it fails, try again later, and at last give up."""
    for pause in PAUSES:
        try:
            return action()
        except StageError as error:
            print(f"trying again in {pause} seconds: {error}")
            time.sleep(pause)
    return action()


def publish(ref: str) -> str:
    """Push an experiment, unless the remote has one of that name; return what the remote has."""
    if not (commit := fetch(ref)):
        run("git", "push", "--quiet", "origin", f"{ref}:{ref}")
        commit = fetch(ref)
    return commit


def fetch(ref: str) -> str:
    """Fetch an experiment from the remote; return its commit, or nothing if there is none."""
    commit = run("git", "ls-remote", "origin", ref).partition("\t")[0]
    if commit:
        run("git", "fetch", "--quiet", "origin", ref)
    return commit


def check_same(name: str, here: str, remote: str) -> None:
    """Compare an experiment's two commits: equal trees hold equal params, lock and results.

    Raises
    ------
    StageError
        If they are different.
    """
    if run("git", "rev-parse", f"{here}^{{tree}}") != run("git", "rev-parse", f"{remote}^{{tree}}"):
        raise StageError(
            f"{name} is {remote} on the remote, and {here} here, with other contents; nothing was "
            f"overwritten: after `git fetch origin {remote}`, `make verify REV={remote}` tells "
            "whether that one is right; another name keeps both"
        )


if __name__ == "__main__":
    run_stage(main)
