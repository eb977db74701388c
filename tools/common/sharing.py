"""Experiments on ``origin``, the Git repository that all machines share."""

import re
import time
from collections.abc import Callable
from typing import Any

from stages.common.console import StageError
from tools.common.commands import project_environment, run

PAUSES = (5, 10, 20, 40, 80, 160)  # seconds before a remote that fails is tried again
# What remotes say, in any case of letters, that would say the same again in five minutes.
REFUSALS = (
    "does not appear to be a git repository",  # git, of a folder, here or by ssh
    "repository ('[^']*' )?not found",  # git, by http; GitHub, by ssh
    "project you were looking for could not be found",  # GitLab, by ssh
    "access ?denied",  # git's own server; S3
    "permission (to [^ ]+ )?denied",  # ssh; GitHub; a folder of the DVC remote
    "insufficient permission",  # git, of a folder
    "dubious ownership",  # git, of a folder
    "host key verification failed",  # ssh
    "authentication failed|could not read (username|password)",  # git, by http
    "returned error: 40[13]|forbidden",  # git, by http; a DVC remote, by http
    "unable to locate credentials",  # S3
    r"rejected\]",  # a push, by git's own rules or by a hook
)


def is_refusal(error: StageError) -> bool:
    return re.search("|".join(REFUSALS), str(error), re.IGNORECASE) is not None


def patiently(action: Callable[[], Any]) -> Any:
    """Do what needs a remote; if it fails as in bad weather, try again later, and at last give up.

    Raises
    ------
    StageError
        What the action raises, at once if a remote refuses, else at last.
    """
    for pause in PAUSES:
        try:
            return action()
        except StageError as error:
            if is_refusal(error):
                raise
            print(f"trying again in {pause} seconds: {error}")
            time.sleep(pause)
    return action()


def git(*arguments: str) -> str:
    """Run git in English, as what it says of a remote is read here."""
    return run("git", *arguments, environment=project_environment() | {"LC_ALL": "C"})


def experiment_ref(base: str, name: str) -> str:
    return f"refs/exps/{base[:2]}/{base[2:]}/{name}"


def fetch_experiment(ref: str) -> str:
    """Fetch an experiment from the remote; return its commit, or nothing if there is none."""
    commit = git("ls-remote", "origin", ref).partition("\t")[0]
    if commit:
        git("fetch", "--no-prune", "--quiet", "origin", ref)
    return commit


def publish(ref: str) -> str:
    """Push an experiment, unless the remote has one of that name; return what the remote has."""
    if not (commit := fetch_experiment(ref)):
        try:
            git("push", "--quiet", "origin", f"{ref}:{ref}")
        except StageError:
            if not (commit := fetch_experiment(ref)):  # else another machine was faster
                raise
        else:
            commit = fetch_experiment(ref)
    return commit


def check_same_tree(ref: str, here: str, remote: str) -> None:
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
            f"is right; if not, {how_to_delete(ref)}; another name keeps both"
        )


def how_to_delete(ref: str) -> str:
    return f"`git push origin --delete {ref}` takes it away"
