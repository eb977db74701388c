"""Run DVC's queued experiments on the workers of a Dask scheduler, and fetch what comes of them."""

import argparse
import subprocess
import sys
from collections import Counter
from typing import NamedTuple

import yaml
from dask.tokenize import tokenize
from distributed import Client, Future, as_completed, get_worker

from stages.common.console import StageError, run_stage
from tools.commands import committed_head, project_environment, run
from tools.queue import Task, check_repository, queue_status
from tools.run_experiment import check_same, experiment_ref, fetch, patiently
from tools.verify import check_code

TOPIC = "epochs"
PACKED = ".dvc/tmp/repro.dat"  # DVC's own, in each commit that waits in its queue
DATA = ("fetch", "split", "train")  # sections of params.yaml that every training depends on


class Experiment(NamedTuple):
    """A queued experiment: where it starts, its params.yaml, and a key for each training."""

    task: Task
    base: str
    params: str
    trainings: dict[str, str]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tools.farm", description=__doc__)
    parser.add_argument("scheduler", help="its address, as in tcp://10.0.0.1:8786")
    address = parser.parse_args().scheduler
    committed_head()
    check_repository()
    experiments = [read(task) for task in queue_status()[0] if task.status == "Queued"]
    try:
        client = Client(address, timeout=10)
    except (OSError, ValueError) as error:
        raise StageError(f"{address}: no Dask scheduler answers there ({error})") from None
    with client:
        workers = len(client.scheduler_info(n_workers=-1)["workers"])
        print(f"{len(experiments)} experiments for {workers} workers")
        client.subscribe_topic(TOPIC, lambda event: print(*event[1], sep=": "))
        futures = submit(client, experiments)
        lost = sum(not arrives(future, futures[future]) for future in as_completed(futures))
    if lost:
        raise StageError(
            f"{lost} of {len(experiments)} didn't arrive, see above; they stay in the queue, "
            "for the next `make farm`"
        )


def read(task: Task) -> Experiment:
    """Read a queued experiment from the commit in which DVC keeps it.

    Raises
    ------
    StageError
        If it changes more than params.yaml, which is all that travels.
    """
    base = run("git", "rev-parse", f"{task.rev}^")
    changed = run("git", "diff", "--relative", "--name-only", base, task.rev).splitlines()
    if others := set(changed) - {"params.yaml", PACKED}:
        raise StageError(
            f"{task.name} was queued with other changes than of params.yaml: "
            f"{', '.join(sorted(others))}; commit them, then queue it again"
        )
    show = ("git", "show", f"{task.rev}:./params.yaml")
    params = subprocess.check_output(show, env=project_environment(), text=True)
    sections = yaml.safe_load(params)
    trainings = {
        network: tokenize(base, network, [sections.get(name) for name in (*DATA, network)])
        for network in sections["networks"]
    }
    return Experiment(task, base, params, trainings)


def submit(client: Client, experiments: list[Experiment]) -> dict[Future, Experiment]:
    """Submit each experiment, behind those of its trainings that others have too."""
    uses = Counter(key for one in experiments for key in one.trainings.values())
    futures = {}
    for one in experiments:
        start = ("--commit", one.base, "--params", "/dev/stdin")
        shared = [
            # One key, one task: Dask runs it once, whoever submits it again.
            client.submit(work, [f"{net}-{key}", f"train@{net}", *start], one.params, key=key)
            for net, key in one.trainings.items()
            if uses[key] > 1
        ]
        key = tokenize(one.base, one.task.name, one.params)
        future = client.submit(work, [one.task.name, *start], one.params, shared, key=key)
        futures[future] = one
    return futures


def work(arguments: list[str], params: str, _shared: list[str] = ()) -> None:
    """Run the tool of the clone that the worker was started in; send each epoch's line home.

    It travels by value, as whatever is in ``__main__`` does: a worker needs no such module.
    """
    command = (sys.executable, "-m", "tools.run_experiment", *arguments)
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    with subprocess.Popen(command, text=True, **pipes) as process:
        process.stdin.write(params)
        process.stdin.close()
        errors = []
        for line in process.stdout:
            print(line, end="", flush=True)  # the whole of it into the worker's own log
            if " epoch " in line:
                get_worker().log_event(TOPIC, [arguments[0], line.strip()])
            if line.startswith("error: "):
                errors.append(line.strip())
    if process.returncode:
        reason = "; ".join(errors) or f"ended with {process.returncode}, see the worker's log"
        raise RuntimeError(f"{get_worker().address}: {reason}")


def arrives(future: Future, experiment: Experiment) -> bool:
    """Fetch a finished experiment and take it out of the queue; tell what is wrong otherwise."""
    task = experiment.task
    try:
        if future.status != "finished":
            raise StageError(future.exception() if future.status == "error" else future.status)
        bring_home(experiment)
        run("dvc", "queue", "remove", task.rev)
    except StageError as error:
        print(f"{task.name}: {error}")
        return False
    print(f"{task.name}: is here")
    return True


def bring_home(experiment: Experiment) -> None:
    """Store an experiment here as DVC would have.

    Raises
    ------
    StageError
        If it isn't what was queued, or another one of its name is here.
    """
    name = experiment.task.name
    ref = experiment_ref(experiment.base, name)
    if not (commit := patiently(lambda: fetch(ref))):
        raise StageError("it isn't on this clone's origin; do the workers have another?")
    check_code(commit, experiment.base)
    queued, came = (
        run("git", "rev-parse", f"{rev}:./params.yaml") for rev in (experiment.task.rev, commit)
    )
    if came != queued:
        raise StageError(f"{commit} has another params.yaml than was queued")
    if here := run("git", "for-each-ref", "--format=%(objectname)", ref):
        check_same(name, here, commit)
    else:
        run("git", "update-ref", ref, commit)


if __name__ == "__main__":
    run_stage(main)
