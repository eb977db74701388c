"""The clone in which an experiment runs: one at a time under a name."""

import contextlib
import fcntl
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from dvc.repo import Repo

from stages.common.console import StageError
from tools.common.clones import clone_environment, make_clone
from tools.common.commands import run

SLOTS = Path(".dvc/tmp/slots")


@contextlib.contextmanager
def clone_in_slot(name: str, commit: str) -> Iterator[None]:
    """Work in a new clone of a commit, which is removed at the end; wait for others of that name.

    What an unfinished training goes on from stays for the next one of that name.

    Raises
    ------
    StageError
        If the name can't be a folder's, or the commit is nowhere.
    """
    if not re.fullmatch(r"\w[\w.-]*", name):
        raise StageError(f"{name!r} can't name an experiment; use letters, digits, `-` and `_`")
    folder = SLOTS.absolute() / name
    folder.mkdir(parents=True, exist_ok=True)
    lock(folder / "lock")
    shutil.rmtree(folder / "clone", ignore_errors=True)  # of one that was killed
    done = False
    try:
        project = make_clone(find_commit(commit), folder / "clone", clone_environment(folder))
        link_slot(project, folder)
        with contextlib.chdir(project):
            yield
        done = True
    finally:
        shutil.rmtree(folder / "clone", ignore_errors=True)
        shutil.rmtree(folder / "home", ignore_errors=True)
        if done or not any(folder.glob("resume/*.state")):
            shutil.rmtree(folder / "resume", ignore_errors=True)


def lock(file: Path) -> None:
    """Wait for a lock; the last process that this one starts, or leaves behind, gives it back."""
    descriptor = os.open(file, os.O_RDWR | os.O_CREAT)
    os.set_inheritable(descriptor, True)
    with contextlib.suppress(OSError):  # a file system without locks
        fcntl.flock(descriptor, fcntl.LOCK_EX)


def find_commit(name: str) -> str:
    """Return a commit's hash; what isn't here yet is fetched by it.

    Raises
    ------
    StageError
        If the remote doesn't have it either.
    """
    try:
        return run("git", "rev-parse", "--verify", f"{name}^{{commit}}")
    except StageError:
        run("git", "fetch", "--no-prune", "--quiet", "origin", name)
        return run("git", "rev-parse", "--verify", f"{name}^{{commit}}")


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
