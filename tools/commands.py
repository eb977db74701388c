"""Commands that the tools run: git, DVC, and the project's own stages."""

import functools
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pygit2

from stages.common.console import StageError
from stages.common.head import open_repository, refuse_lost_head
from tools.rwlock import mend_rwlock

# What lets settings, hooks and other places in. Where git may look for a repository is no setting.
SETTINGS = ("GIT_", "DVC_", "PYTHON", "XDG_CONFIG_HOME")
NO_SETTINGS = ("GIT_CEILING_DIRECTORIES", "GIT_DISCOVERY_ACROSS_FILESYSTEM")

# safe: the project may belong to another user; templateDir: a template can hold hooks.
GIT_CONFIG = """
[user]
name = Clone
email = clone@localhost
[safe]
directory = *
[init]
templateDir =
"""


def run(*command: str, environment: dict[str, str] | None = None, folder: Path = Path()) -> str:
    """Run a command and return what it printed, without the spaces around it.

    Raises
    ------
    StageError
        If it fails: what it complained of, in one line.
    """
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            env=environment or project_environment(),
            capture_output=True,
            text=True,
            errors="surrogateescape",  # paths can hold any bytes
            check=False,
        )
    except FileNotFoundError as missing:
        raise StageError(f"{missing.filename}: not on PATH, nor beside {sys.executable}") from None
    if done.returncode:
        complaint = " ".join((done.stderr or done.stdout).split())
        raise StageError(complaint or f"{' '.join(command)}: failed without a word")
    return done.stdout.strip()


# What git may make of its index and DVC can't read, and the way back.
FORMATS = {
    "'link'": "`git config core.splitIndex false` and `git update-index --no-split-index`",
    "'sdir'": "`git sparse-checkout reapply --no-sparse-index`",
}


def check_git() -> None:
    """Refuse a repository in which DVC hangs, fails, or compares with a commit of no branch.

    Raises
    ------
    StageError
        If DVC can't read git's index or its own lock, or a `dvc exp run` that was killed has left
        HEAD on no branch.
    """
    mend_rwlock()
    refuse_lost_head()
    repository = open_repository()
    if repository is None:  # DVC can do without
        return
    try:
        repository.index.read()
    except pygit2.GitError as error:
        index = os.path.relpath(Path(repository.path, "index"))
        ways = [way for name, way in FORMATS.items() if name in str(error)]
        raise StageError(
            f"{index}: DVC can't read git's index, and would hang or fail ({error}); go back by "
            + (ways or [f"`rm {index}` and `git reset`"])[0]
        ) from None


def committed_head() -> str:
    """Return the short name of HEAD.

    Raises
    ------
    StageError
        If nothing is committed, or what git tracks was changed since: the results would be of no
        commit; if git doesn't have all of the code, as experiments run what git has; or if DVC
        can't work in this repository.
    """
    check_git()
    try:
        head = run("git", "rev-parse", "--short", "HEAD")
    except StageError:
        raise StageError("nothing is committed yet (`git status`); commit it first") from None
    if run("git", "status", "--porcelain", "--untracked-files=no"):
        raise StageError(
            "there are changes that aren't committed (`git status`); commit them first"
        )
    if new := run("git", "ls-files", "--others", "--exclude-standard", "stages/*.py").splitlines():
        raise StageError(
            f"{', '.join(new)}: not in git, so that experiments would lack it; "
            "`git add` it and commit it first"
        )
    return head


def project_environment() -> dict[str, str]:
    """Make the environment of commands in the project: the user's settings, but this project's git.

    Whoever runs a tool from a hook of git's has variables that name a repository and an index.
    """
    environment = with_this_python()
    listed = subprocess.run(
        ["git", "rev-parse", "--local-env-vars"],
        env={"PATH": environment["PATH"]},
        capture_output=True,
        text=True,
        check=True,
    )
    names = listed.stdout.split()
    return {
        name: value
        for name, value in environment.items()
        if name not in names and not name.startswith("PYTHON")
    }


def clone_environment(folder: Path) -> dict[str, str]:
    """Make the environment of a clone in ``folder``: no setting, hook or cache from outside.

    The home is its own as well, as DVC's pygit2 reads ``~/.gitconfig`` whatever variables say.
    """
    home = folder / "home"
    home.mkdir(exist_ok=True)
    (home / ".gitconfig").write_text(GIT_CONFIG)
    environment = {
        name: value
        for name, value in with_this_python().items()
        if name in NO_SETTINGS or not name.startswith(SETTINGS)
    }
    caches = os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser()
    return environment | {
        "HOME": str(home),
        "XDG_CACHE_HOME": str(caches),  # matplotlib takes seconds to list the fonts again
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_ATTR_NOSYSTEM": "1",
        "DVC_SYSTEM_CONFIG_DIR": str(home),
        "DVC_SITE_CACHE_DIR": str(folder / "site"),
    }


def with_this_python() -> dict[str, str]:
    """Put the programs beside this Python first, whether its environment is active or not."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    return os.environ | {"PATH": path}


@contextmanager
def clone_of(commit: str, name: str) -> Iterator[tuple[Path, dict[str, str]]]:
    """Clone a commit to a temporary folder; yield the project in it and the environment to use.

    Raises
    ------
    StageError
        If there is no repository, or the commit doesn't hold the project.
    """
    with tempfile.TemporaryDirectory(prefix=f"{name}-") as temporary:
        folder = Path(temporary)
        environment = clone_environment(folder)
        project = make_clone(commit, folder / "clone", environment)
        # A cache that others fill may be committed, too.
        (project / ".dvc/config.local").write_text("[cache]\ndir = cache\n")
        yield project, environment


def make_clone(commit: str, folder: Path, environment: dict[str, str]) -> Path:
    """Clone the repository into a folder, and check a commit out; return the project in it.

    Raises
    ------
    StageError
        If there is no repository, or the commit doesn't hold the project.
    """
    git = functools.partial(run, "git", environment=environment)
    root = git("rev-parse", "--show-toplevel")
    git("clone", "--quiet", "--no-hardlinks", root, str(folder))
    git("-C", str(folder), "checkout", "--quiet", "--detach", commit)
    # The project may be a folder of a larger repository.
    project = folder / git("rev-parse", "--show-prefix")
    if not (project / "dvc.yaml").exists() or not (project / ".dvc").exists():
        raise StageError("no dvc.yaml and .dvc/ of this project are committed; commit them")
    return project
