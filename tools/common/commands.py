"""Commands that the tools run: git, DVC, and the project's own stages."""

import os
import subprocess
import sys
from pathlib import Path

from stages.common.console import StageError

# The project that these tools are of; the clone of an old commit may have others.
TOOLS = Path(__file__).parents[2]


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


def with_this_python() -> dict[str, str]:
    """Put the programs beside this Python first, whether its environment is active or not."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    return os.environ | {"PATH": path}
