"""Run one experiment of one commit in a clone of its own, and share it with all machines.

The clone's DVC cache is this one's; where a training was killed, the next call goes on.
"""

import argparse
import contextlib
import fcntl
import os
import platform
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from dvc.exceptions import DvcException
from dvc.repo import Repo
from dvc.utils.cli_parse import to_path_overrides
from dvc.utils.hydra import apply_overrides

from stages.common.console import StageError, run_stage
from tools.commands import (
    clone_environment,
    committed_head,
    make_clone,
    project_environment,
    run,
)
from tools.machine import NOT_PROMISED, PROMISED, describe_steps

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
    parser.add_argument(
        "--step", action="append", default=[], metavar="NETWORK=HASH", help="of another machine"
    )
    arguments = parser.parse_args()
    if arguments.params and arguments.here:
        parser.error("argument --params: not allowed with argument --here")
    if arguments.here:
        run_here(arguments.name, arguments.targets, arguments.set_param, arguments.step)
        return
    changes = [f"--set-param={change}" for change in arguments.set_param]
    steps = [f"--step={step}" for step in arguments.step]
    rest = (arguments.name, *arguments.targets, *changes, *steps)
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
    try:
        project = make_clone(find(commit), folder / "clone", clone_environment(folder))
        link_slot(project, folder)
    except StageError:
        remove(folder, "clone", "home")
        raise
    if params:
        (project / "params.yaml").write_text(params.read_text())
    command = (sys.executable, "-m", "tools.run_experiment", "--here", *rest)
    environment = project_environment()
    done = subprocess.run(command, cwd=project, env=environment, pass_fds=[slot], check=False)
    if done.returncode < 0:  # killed; its dvc may still be at work
        sys.exit(128 - done.returncode)
    to_go_on = done.returncode and any(folder.glob("resume/*.state"))
    remove(folder, "clone", "home", *(() if to_go_on else ("resume",)))
    sys.exit(done.returncode)


def remove(folder: Path, *parts: str) -> None:
    """Remove parts of a slot; its lock stays, as others may wait for it."""
    for part in parts:
        shutil.rmtree(folder / part, ignore_errors=True)


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
        run("git", "fetch", "--no-prune", "--quiet", "origin", commit)
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


def run_here(name: str, targets: list[str], changes: list[str], elsewhere: list[str]) -> None:
    """Run the experiment in this clone and share it; each training as soon as it is done.

    ``elsewhere`` are the hashes of a step of its networks on the machine that asks for it.

    Raises
    ------
    StageError
        If this machine's bits are others, a stage fails, or the experiment can't be shared.
    """
    folder = Path(".dvc/tmp/run_experiment").absolute()
    folder.mkdir(parents=True, exist_ok=True)
    environment = clone_environment(folder)
    ref = experiment_ref(run("git", "rev-parse", "HEAD"), name)
    set_params(changes)
    check_steps(elsewhere)
    check_access(ref, environment)

    def dvc(*command: str) -> None:
        # A slot's lock is passed on: a dvc that outlives this process still works there.
        command = ("dvc", *command, "--pull", "--allow-missing")
        if subprocess.run(command, env=environment, close_fds=False, check=False).returncode:
            raise StageError(f"{name}: `{' '.join(command)}` failed, see above")

    def push(*options: str) -> None:
        patiently(lambda: run("dvc", "push", *options, environment=environment))

    listed = run("dvc", "stage", "list", "--name-only", environment=environment).splitlines()
    for stage in targets or [stage for stage in listed if stage.startswith("train@")]:
        dvc("repro", stage)
        push("--run-cache", stage)  # now, as the machine may stop in the next one
    if targets:
        return
    dvc("exp", "run", "--name", name)
    push()
    check_same(ref, run("git", "rev-parse", ref), patiently(lambda: publish(ref)))
    print(f"{name} is on the remote")


def check_steps(elsewhere: Sequence[str]) -> None:
    """Say which networks' bits are promised, and compare a step of each with another machine's.

    Raises
    ------
    StageError
        If this machine's bits are others.
    """
    (steps,) = describe_steps()
    for network, step in steps.items():
        print(f"{network}: {PROMISED if step['promised'] else NOT_PROMISED}", flush=True)
    for network, wanted in (one.split("=") for one in elsewhere):
        if network in steps and steps[network]["step"] != wanted:
            raise StageError(
                f"{platform.node()}: a step of {network} by these params has other bits here than "
                "on the machine that asks for it"
            )


def check_access(ref: str, environment: dict[str, str]) -> None:
    """Refuse, before anything is trained, a machine that couldn't share it.

    Raises
    ------
    StageError
        If it may not write to one of the two places that all machines share.
    """
    url = run("git", "remote", "get-url", "--push", "origin").removeprefix("file://")
    patiently(lambda: run("git", "ls-remote", "origin", ref))  # one that is away may come back
    folder = Path(run("git", "rev-parse", "--show-toplevel"), url)
    try:
        if folder.exists():  # a dry run writes nothing there
            objects = run("git", "-C", str(folder), "rev-parse", "--git-path", "objects")
            if not os.access(folder / objects, os.W_OK):
                raise StageError(f"{folder} can't be written")
        # Forced, as one of that name may be there; a dry run overwrites nothing.
        run("git", "push", "--dry-run", "--force", "--quiet", "origin", f"HEAD:{ref}")
        run(sys.executable, "-m", "tools.write_remote", environment=environment)
    except StageError as error:
        reason = str(error).removeprefix("error: ")
        raise StageError(f"nothing is trained, as it couldn't be shared: {reason}") from None


def set_params(changes: Sequence[str]) -> None:
    """Change ``params.yaml`` as ``dvc exp run --set-param`` does.

    Raises
    ------
    StageError
        If there is no such key, or a change can't be read.
    """
    try:
        for path, overrides in to_path_overrides(changes).items():
            apply_overrides(path, overrides)
    except DvcException as error:
        reason = " ".join(str(error.__cause__ or error).split())
        raise StageError(f"--set-param: {reason}") from None


def experiment_ref(base: str, name: str) -> str:
    return f"refs/exps/{base[:2]}/{base[2:]}/{name}"


class RefusalError(StageError):
    """A remote answers, and won't have it: trying again changes nothing."""


def patiently(action: Callable[[], Any]) -> Any:
    """Do what needs a remote; if it fails, try again later, and at last give up."""
    for pause in PAUSES:
        try:
            return action()
        except RefusalError:
            raise
        except StageError as error:
            print(f"trying again in {pause} seconds: {error}")
            time.sleep(pause)
    return action()


def publish(ref: str) -> str:
    """Push an experiment, unless the remote has one of that name; return what the remote has."""
    if not (commit := fetch(ref)):
        try:
            run("git", "push", "--quiet", "origin", f"{ref}:{ref}")
        except StageError as error:
            # Git's word for a remote that is there; if another machine was faster, it is taken.
            if "rejected]" in str(error) and not fetch(ref):
                raise RefusalError(error) from None
            raise
        commit = fetch(ref)
    return commit


def fetch(ref: str) -> str:
    """Fetch an experiment from the remote; return its commit, or nothing if there is none."""
    commit = run("git", "ls-remote", "origin", ref).partition("\t")[0]
    if commit:
        run("git", "fetch", "--no-prune", "--quiet", "origin", ref)
    return commit


def check_same(ref: str, here: str, remote: str) -> None:
    """Compare an experiment's two commits: equal trees hold equal params, lock and results.

    Raises
    ------
    StageError
        If they are different.
    """
    if run("git", "rev-parse", f"{here}^{{tree}}") != run("git", "rev-parse", f"{remote}^{{tree}}"):
        raise StageError(
            f"{ref.rpartition('/')[2]} is {remote} on the remote, and {here} here, with other "
            f"contents; nothing was overwritten: `make verify REV={remote}` tells whether that one "
            f"is right; if not, {way_out(ref)}; another name keeps both"
        )


def way_out(ref: str) -> str:
    return f"`git push origin --delete {ref}` takes it away"


if __name__ == "__main__":
    run_stage(main)
