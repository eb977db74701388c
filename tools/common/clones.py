"""Temporary clones: the project at a commit, with no setting, hook or cache from outside."""

import functools
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from stages.common.console import StageError
from tools.common.commands import run, with_this_python

# Variables that begin so let settings, hooks and other places in: they are dropped.
DROPPED = ("GIT_", "DVC_", "PYTHON", "XDG_CONFIG_HOME")
# Where git may look for a repository is no setting.
KEPT = ("GIT_CEILING_DIRECTORIES", "GIT_DISCOVERY_ACROSS_FILESYSTEM")

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


def clone_environment(folder: Path) -> dict[str, str]:
    """Make the environment of a clone in ``folder``: no setting, hook or cache from outside.

    The home is its own as well, as DVC's pygit2 reads ``~/.gitconfig``, even where git doesn't.
    """
    home = folder / "home"
    home.mkdir(exist_ok=True)
    (home / ".gitconfig").write_text(GIT_CONFIG)
    environment = {
        name: value
        for name, value in with_this_python().items()
        if name in KEPT or not name.startswith(DROPPED)
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
