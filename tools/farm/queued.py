"""Experiments that wait in DVC's queue, and what each of them trains."""

import contextlib
import subprocess
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from dask.tokenize import tokenize
from dvc.exceptions import DvcException
from dvc.repo import Repo

from stages.common.console import StageError
from stages.common.params import PARAMS_FILE
from tools.common.clones import clone_of
from tools.common.commands import project_environment, run
from tools.common.queue import Task
from tools.common.steps import ask_for_steps

PACKED = ".dvc/tmp/repro.dat"  # DVC's own, in each commit that waits in its queue


class Experiment(NamedTuple):
    """A queued experiment: where it starts, its params.yaml, and a key for each training."""

    task: Task
    base: str
    params: str
    trainings: dict[str, str]
    steps: dict[str, str]  # what a step of each network hashes to on this machine


def read_experiments(tasks: Sequence[Task]) -> list[Experiment]:
    """Read queued experiments from the commits in which DVC keeps them.

    Raises
    ------
    StageError
        If one changes more than params.yaml, which is all that travels, or its params can't be
        read; or if this machine is refused.
    """
    of_base = defaultdict(list)
    for task in tasks:
        of_base[find_base(task)].append(task)
    return [one for base, started in of_base.items() for one in read_of_base(base, started)]


def find_base(task: Task) -> str:
    """Return the commit that a queued experiment starts from.

    Raises
    ------
    StageError
        If it changes more than params.yaml since.
    """
    base = run("git", "rev-parse", f"{task.rev}^")
    changed = run("git", "diff", "--relative", "--name-only", base, task.rev).splitlines()
    if others := set(changed) - {str(PARAMS_FILE), PACKED}:
        raise StageError(
            f"{task.name} was queued with other changes than of params.yaml: "
            f"{', '.join(sorted(others))}; commit them, then queue it again"
        )
    return base


def read_of_base(base: str, tasks: Sequence[Task]) -> Iterator[Experiment]:
    """Yield the experiments of one commit; its own code and dvc.yaml tell what they train."""
    with clone_of(base, "farm") as (project, _):
        files = [project / f"params-{number}.yaml" for number in range(len(tasks))]
        for file, task in zip(files, tasks, strict=True):
            show = ("git", "show", f"{task.rev}:./{PARAMS_FILE}")  # to the last space
            file.write_bytes(subprocess.check_output(show, env=project_environment()))
        for file, task, described in zip(files, tasks, ask_for_steps(files, project), strict=True):
            params = file.read_text()
            (project / PARAMS_FILE).write_text(params)
            try:
                trainings = key_trainings(base, project)
            except DvcException as error:
                raise StageError(f"{task.name}: {error}") from None
            steps = {network: step["step"] for network, step in described.items()}
            yield Experiment(task, base, params, trainings, steps)


def key_trainings(base: str, project: Path) -> dict[str, str]:
    """Make a key for each network's training: equal keys, equal weights.

    A training follows from the code, which is the base's, and from the params that its stage and
    the stages before it name in dvc.yaml.
    """
    keys = {}
    with contextlib.chdir(project), Repo() as repo:  # DVC's names of stages are relative
        for stage in repo.index.stages:
            if stage.addressing.startswith("train@"):
                chain = repo.stage.collect(stage.addressing, with_deps=True)
                values = {
                    one.addressing: [dep.read_params() for dep in one.params] for one in chain
                }
                network = stage.addressing.removeprefix("train@")
                keys[network] = tokenize(base, network, sorted(values.items()))
    return keys
