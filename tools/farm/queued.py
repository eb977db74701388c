"""Experiments that wait in DVC's queue, and what each of them trains."""

import json
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from dask.tokenize import tokenize

from stages.common.console import StageError
from stages.common.params import PARAMS_FILE
from tools.common.clones import clone_of
from tools.common.commands import TOOLS, project_environment, run
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
    with clone_of(base, "farm") as (project, environment):
        files = [project / f"params-{number}.yaml" for number in range(len(tasks))]
        for file, task in zip(files, tasks, strict=True):
            show = ("git", "show", f"{task.rev}:./{PARAMS_FILE}")  # to the last space
            file.write_bytes(subprocess.check_output(show, env=project_environment()))
        names: dict[tuple[str, ...], dict[str, list[str]]] = {}  # of params, by list of networks
        for file, task, described in zip(files, tasks, ask_for_steps(files, project), strict=True):
            text = file.read_text()
            try:
                params = yaml.safe_load(text)
                networks = tuple(read_networks(params))
                if networks not in names:  # DVC takes a second to tell, and all else it tells alike
                    (project / PARAMS_FILE).write_text(text)
                    names[networks] = ask_for_names(project, environment)
            except (yaml.YAMLError, StageError) as error:
                reason = " ".join(str(error).split())
                raise StageError(
                    f"{task.name}: {reason}; `dvc queue remove {task.name}` takes it out"
                ) from None
            trainings = key_trainings(base, params, names[networks])
            steps = {network: step["step"] for network, step in described.items()}
            yield Experiment(task, base, text, trainings, steps)


def read_networks(params: Any) -> list[str]:
    """Return what params list as networks.

    Raises
    ------
    StageError
        If they don't list any.
    """
    match params:
        case {"networks": [*networks]} if all(isinstance(name, str) for name in networks):
            return networks
    raise StageError(f"{PARAMS_FILE}: networks: not a list of names")


def ask_for_names(project: Path, environment: dict[str, str]) -> dict[str, list[str]]:
    """Ask the dvc.yaml of a clone for the names of the params that each training follows from.

    Raises
    ------
    StageError
        If DVC can't read it.
    """
    command = (sys.executable, "-m", "tools.farm.dependencies", str(project))
    return json.loads(run(*command, environment=environment, folder=TOOLS))


def key_trainings(base: str, params: dict[str, Any], names: dict[str, list[str]]) -> dict[str, str]:
    """Make a key for each network's training: equal keys, equal weights.

    A training follows from the code, which is the base's, and from the params that its stage and
    the stages before it name in dvc.yaml.
    """
    return {
        network: tokenize(base, network, [(name, value_of(name, params)) for name in of_network])
        for network, of_network in names.items()
    }


def value_of(name: str, params: Any) -> Any:
    """Return what stands under a name with dots, None if nothing does."""
    for part in name.split("."):
        params = params.get(part) if isinstance(params, dict) else None
    return params
