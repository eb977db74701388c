"""DVC's queue of experiments: run it to its end, and say what came of it."""

import json
import re
import subprocess
import time
from pathlib import Path
from subprocess import DEVNULL
from typing import NamedTuple

from configobj import ConfigObj, ConfigObjError

from stages.common.console import StageError
from tools.common.commands import project_environment, run

PATIENCE = 60  # seconds that a worker of DVC's queue may take to report
ATTEMPTS = 3  # workers in a row that may end without a sign of life
FOLDER = Path(".dvc/tmp/exps")


class Task(NamedTuple):
    """An experiment in the queue: Queued, Running, Failed or, stored or not, Success."""

    rev: str
    name: str
    status: str


def refuse_unfit_for_queue() -> None:
    """Refuse a repository in which DVC's queue fails or loses what it trained.

    Raises
    ------
    StageError
        If history is missing, or DVC can't read git's configuration, which it copies.
    """
    if run("git", "rev-parse", "--is-shallow-repository") == "true":
        raise StageError(
            "this clone is shallow, and DVC loses the experiments of such a clone; "
            "run `git fetch --no-prune --unshallow` first"
        )
    objects = run("git", "rev-list", "--objects", "--missing=print", "HEAD").splitlines()
    if any(line.startswith("?") for line in objects):
        raise StageError(
            "this clone is partial, and DVC can't fetch what is missing; "
            "run `git fetch --no-prune --refetch --no-filter` first"
        )
    config = Path(run("git", "rev-parse", "--show-toplevel"), ".git/config")
    try:
        ConfigObj(str(config), list_values=False)  # as DVC does for each task
    except (ConfigObjError, UnicodeError) as error:
        raise StageError(
            f"{config}: DVC's queue can't read it ({' '.join(str(error).split())}); what git takes "
            "and DVC doesn't is a key or section that stands twice, or a key without `=`: "
            "take it out for as long as the queue runs"
        ) from None


def queue_status() -> tuple[list[Task], bool]:
    """Ask DVC's queue for its tasks, and whether a worker reports."""
    *lines, workers = run("dvc", "queue", "status").splitlines()
    rows = [line.split() for line in lines[1:] if line]
    tasks = [Task(rev, name, status) for rev, name, *_created, status in rows]
    return tasks, not workers.endswith("0 active, 0 idle")


def finish_queue(poll_seconds: float) -> None:
    """Run DVC's queued experiments to their end, one at a time; print each change of a task.

    ``dvc exp run --run-all`` would wait for ever where a worker of its own ends early
    (treeverse/dvc#10398, #10428); here another one takes its place.

    Raises
    ------
    StageError
        If a task is left that nobody works on.
    """
    before, starts, deadline = None, 0, time.monotonic() + PATIENCE
    while True:
        tasks, worker_reports = queue_status()
        unfinished = [task for task in tasks if task.status in ("Queued", "Running")]
        running = [task for task in unfinished if task.status == "Running"]
        for task in unfinished:
            if task not in (before or ()):
                print(*task)
        if not unfinished:
            return
        is_at_work = worker_reports or (before is not None and unfinished != before)
        is_overdue = time.monotonic() > deadline
        if is_at_work:
            starts, deadline = 0, time.monotonic() + PATIENCE
        elif running and is_overdue:  # not before: its worker may be too busy to report
            for task in running:
                check_running(task)
            deadline = time.monotonic() + PATIENCE
        elif not running and (is_overdue or not starts):
            if starts == ATTEMPTS:
                raise StageError(f"DVC's queue has no worker; see {FOLDER}/celery/*.out")
            start_worker()
            starts, deadline = starts + 1, time.monotonic() + PATIENCE
        before = unfinished
        time.sleep(poll_seconds)


def start_worker() -> None:
    """Start a worker of DVC's queue in the background."""
    # It would hold pipes open until its end, so there are none.
    command = ("dvc", "queue", "start")
    environment = project_environment()
    done = subprocess.run(command, env=environment, stdout=DEVNULL, stderr=DEVNULL, check=False)
    if done.returncode:
        raise StageError("DVC's queue doesn't start; `dvc queue start` says why")


def check_running(task: Task) -> None:
    """Look for the process of a task that no worker reports to be working on.

    Raises
    ------
    StageError
        If it is gone: DVC would call the task Running for ever.
    """
    ways_out = f"`dvc queue kill {task.name}` and `dvc queue remove {task.name}` take it out"
    for file in FOLDER.glob(f"run/{task.rev}*/*.json"):
        pid = json.loads(file.read_text())["pid"]
        try:
            command = Path(f"/proc/{pid}/cmdline").read_text()
        except OSError:
            continue
        if file.stem in command:
            return
        # What a tool must never type: DVC kills the group of that number, whoever has it now.
        ways_out = (
            f"don't `dvc queue kill` it, as its number, {pid}, is another process's now; "
            f"when no dvc runs here, remove {FOLDER}: waiting tasks go, finished experiments stay"
        )
    raise StageError(f"{task.name} is left Running, but nobody works on it; {ways_out}")


def reason_of(task: Task) -> str:
    """Tell why a task gave no experiment: the last error in its log, or in the worker's."""
    if task.status == "Success":
        return f"it ran, but DVC didn't store it; see {FOLDER}/celery/*.out"
    try:
        log = run("dvc", "queue", "logs", task.rev)
    except StageError:  # none, as it failed before its first stage
        log = "\n".join(path.read_text() for path in FOLDER.glob("celery/*.out"))
    said = re.findall(r"^(?:error|[\w.]+(?:Error|Exception)): .*", log, re.MULTILINE)
    said = said or re.findall(r"^ERROR: .*", log, re.MULTILINE)  # DVC's, after the stage's own
    return said[-1] if said else f"see `dvc queue logs {task.name}`"
