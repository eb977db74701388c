"""HEAD, which a `dvc exp run` that was killed leaves on no branch."""

import json
import os
import re
from pathlib import Path

import psutil
import pygit2

from stages.common.console import StageError

BASELINE = "refs/exps/exec/EXEC_BASELINE"  # DVC removes it at the end of each run
RUNNING = Path(".dvc/tmp/exps/run/workspace/workspace.json")
AWAY = r"checkout: moving from (\S+) to [0-9a-f]{40}"
BACK = r"dvc: Restore HEAD to '(\S+)'"
SINCE = r"commit.*|dvc: Restore HEAD to '[0-9a-f]{40}'"  # of further runs, and users' own commits


def refuse_lost_head() -> None:
    """Check that HEAD isn't left on no branch by a `dvc exp run` that was killed.

    Further runs don't heal it: they begin and end where they found it.

    Raises
    ------
    StageError
        If it is.
    """
    repository = open_repository()
    if repository is None or not repository.head_is_detached:
        return
    moves = list(repository.lookup_reference("HEAD").log())
    branch, since = _moved_away_by_dvc(moves)
    started = _start_of_running()
    began_before = not started or started > since + 1
    # DVC gives that name to the stages of a run.
    nobody_runs = not started and "DVC_EXP_NAME" not in os.environ
    if (branch and began_before) or (BASELINE in repository.references and nobody_runs):
        raise StageError(
            "HEAD is on no branch since a `dvc exp run` here was killed, so commits would be on "
            "none either. `git branch NAME` keeps those that were made since; then go back: "
            "`git for-each-ref --format='delete %(refname)' refs/exps/exec | git update-ref "
            "--stdin`, `git restore --source=HEAD --staged --worktree params.yaml dvc.lock metrics "
            f"plots`, `git switch {branch or 'BRANCH'}`, `dvc checkout --force`"
        )


def open_repository() -> pygit2.Repository | None:
    """Open the project's repository as DVC does; None if there is none, or git refuses it."""
    try:
        folder = pygit2.discover_repository(".")
        return pygit2.Repository(folder) if folder else None
    except (pygit2.GitError, ValueError):
        return None


def _moved_away_by_dvc(moves: list[pygit2.RefLogEntry]) -> tuple[str, int]:
    """Return the branch that DVC has moved HEAD away from, and when, if nobody moved it since.

    DVC does so twice a run, to the same commit, and comes back in between; the newest is the first.
    """
    while moves and re.fullmatch(SINCE, moves[0].message):
        moves = moves[1:]
    if len(moves) < 3 or moves[0].oid_old != moves[0].oid_new:
        return "", 0
    matches = [
        re.fullmatch(pattern, move.message)
        for pattern, move in zip((AWAY, BACK, AWAY), moves, strict=False)
    ]
    branches = {match and match[1] for match in matches}
    branch = branches.pop()
    return ("", 0) if branches or not branch else (branch, moves[0].committer.time)


def _start_of_running() -> float:
    """Return when the `dvc exp run` that works in this folder was started, or 0."""
    try:
        process = psutil.Process(json.loads(RUNNING.read_text())["pid"])
        if any("dvc" in part for part in process.cmdline()):
            return process.create_time()
    except (OSError, ValueError, KeyError, TypeError, psutil.Error):
        pass
    return 0.0
