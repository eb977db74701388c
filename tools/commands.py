"""Commands that the tools run: git, DVC, and the project's own stages."""

import os
import subprocess
import sys
import time
from pathlib import Path

from stages.common.console import StageError

PATIENCE = 60  # seconds that a worker of DVC's queue may take to report


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


def queue_status() -> tuple[list[str], str]:
    """Ask DVC's queue: the line of each unfinished task, and the line that counts its workers."""
    *tasks, workers = run("dvc", "queue", "status").splitlines()
    return [task for task in tasks if task.endswith(("Queued", "Running"))], workers


def finish_queue(poll_seconds: float) -> None:
    """Run DVC's queued experiments to their end, one at a time; print each change of a task.

    ``dvc exp run --run-all`` would wait for ever where a worker of its own ends early
    (treeverse/dvc#10398, #10428); here another one takes its place.
    """
    shown, started = [], float("-inf")
    while True:
        tasks, workers = queue_status()
        for task in tasks:
            if task not in shown:
                print(task)
        shown = tasks
        if not tasks:
            return
        if workers.endswith("0 active, 0 idle") and time.monotonic() - started > PATIENCE:
            run("dvc", "queue", "start")
            started = time.monotonic()
        time.sleep(poll_seconds)
