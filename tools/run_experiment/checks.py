"""What is asked before anything is trained: has this machine the right bits, may it share them."""

import os
import platform
import sys
from collections.abc import Sequence
from pathlib import Path

from stages.common.console import StageError
from tools.common.commands import TOOLS, run
from tools.common.sharing import git, patiently
from tools.common.steps import ask_for_steps

PROMISED = "its bits are promised on every x86-64 CPU with AVX2"
NOT_PROMISED = "its bits aren't promised on other machines"


def check_steps(elsewhere: Sequence[str]) -> None:
    """Say which networks' bits are promised, and compare a step of each with another machine's.

    Raises
    ------
    StageError
        If this machine's bits are others.
    """
    (steps,) = ask_for_steps()
    for network, step in steps.items():
        print(f"{network}: {PROMISED if step['promised'] else NOT_PROMISED}")
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
    try:
        patiently(lambda: git("ls-remote", "origin", ref))  # one that is away may come back
        check_folder(run("git", "remote", "get-url", "--push", "origin").removeprefix("file://"))
        # Forced, as one of that name may be there; a dry run overwrites nothing.
        git("push", "--dry-run", "--force", "--quiet", "origin", f"HEAD:{ref}")
        write_remote = (sys.executable, "-m", "tools.run_experiment.write_remote", str(Path.cwd()))
        run(*write_remote, environment=environment, folder=TOOLS)
    except StageError as error:
        reason = str(error).removeprefix("error: ")
        raise StageError(f"nothing is trained, as it couldn't be shared: {reason}") from None


def check_folder(url: str) -> None:
    """Check that a repository which is a folder can be written, as a dry run writes nothing.

    Raises
    ------
    StageError
        If it can't.
    """
    folder = Path(run("git", "rev-parse", "--show-toplevel"), url)
    if folder.exists():
        objects = run("git", "-C", str(folder), "rev-parse", "--git-path", "objects")
        if not os.access(folder / objects, os.W_OK):
            raise StageError(f"{folder} can't be written")
