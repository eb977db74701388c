"""Commands that the tools run: git, DVC, and the project's own stages."""

import os
import subprocess
import sys
from pathlib import Path

from stages.common.console import StageError


def run(*command: str) -> str:
    """Run a command and return what it printed, without the spaces around it.

    Raises
    ------
    StageError
        If it fails: what it complained of, in one line.
    """
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise StageError(" ".join((done.stderr or done.stdout).split()))
    return done.stdout.strip()


def clone_environment(folder: Path) -> dict[str, str]:
    """Make the environment of a clone in ``folder``: this Python first, DVC's site cache there."""
    return os.environ | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "DVC_SITE_CACHE_DIR": str(folder / "site"),
    }
