"""What git and DVC need of the repository that a tool works in."""

import os
from pathlib import Path

import pygit2

from stages.common.console import StageError
from stages.common.head import open_repository, refuse_lost_head
from tools.common.commands import run
from tools.common.rwlock import mend_rwlock

# What git may make of its index and DVC can't read, and the way back.
UNREADABLE = {
    "'link'": "`git config core.splitIndex false` and `git update-index --no-split-index`",
    "'sdir'": "`git sparse-checkout reapply --no-sparse-index`",
}


def check_repository() -> None:
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
        ways = [way for name, way in UNREADABLE.items() if name in str(error)]
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
    check_repository()
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
