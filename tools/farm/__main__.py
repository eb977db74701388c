"""Run DVC's queued experiments on the workers of a Dask scheduler, and fetch what comes of them."""

import argparse
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from dask.tokenize import tokenize
from distributed import Client, Future, as_completed

from stages.common.console import StageError, run_stage
from tools.common.commands import run
from tools.common.outputs import check_code
from tools.common.queue import Task, queue_status, refuse_unfit_for_queue
from tools.common.repository import committed_head
from tools.common.sharing import (
    check_same_tree,
    experiment_ref,
    fetch_experiment,
    how_to_delete,
    patiently,
)
from tools.farm.queued import Experiment, read_experiments

TOPIC = "epochs"
FAILED = Path(".dvc/tmp/farm_failed.txt")  # commits in DVC's queue that failed by themselves
WORK = Path(__file__).with_name("worker.py").read_text() + "\n\nwork(topic, arguments, params)\n"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tools.farm", description=__doc__)
    parser.add_argument("scheduler", help="its address, as in tcp://10.0.0.1:8786")
    address = parser.parse_args().scheduler
    committed_head()
    refuse_unfit_for_queue()
    experiments = read_experiments(waiting_tasks())
    try:
        client = Client(address, timeout=10)
    except (OSError, ValueError) as error:
        raise StageError(f"{address}: no Dask scheduler answers there ({error})") from None
    with client:
        workers = len(client.scheduler_info(n_workers=-1)["workers"])
        print(f"{len(experiments)} experiments for {workers} workers")
        client.subscribe_topic(TOPIC, lambda event: print(*event[1], sep=": "))
        futures = submit(client, experiments)
        lost = sum(not bring_home(future, futures[future]) for future in as_completed(futures))
    if lost:
        raise StageError(
            f"{lost} of {len(experiments)} didn't arrive, see above; they stay in the queue, and "
            "the next `make farm` tries again what didn't fail by itself"
        )


def waiting_tasks() -> list[Task]:
    """List what is queued, without what failed by itself before; name that."""
    tasks = [task for task in queue_status()[0] if task.status == "Queued"]
    failed = FAILED.read_text().split() if FAILED.exists() else []
    for task in tasks:
        if task.rev in failed:
            print(
                f"{task.name}: failed by itself before, and would again; "
                f"`dvc queue remove {task.name}` takes it out, `rm {FAILED}` has all such tried"
            )
    return [task for task in tasks if task.rev not in failed]


def submit(client: Client, experiments: list[Experiment]) -> dict[Future, Experiment]:
    """Submit each experiment, behind those of its trainings that others have too."""

    def submit_work(arguments: list[str], params: str, key: str, after: Sequence[Future] = ()):
        names = {"topic": TOPIC, "arguments": arguments, "params": params, "after": after}
        return client.submit(exec, WORK, names, key=key)  # text, as bytecode is of one Python

    uses = Counter(key for one in experiments for key in one.trainings.values())
    futures = {}
    for one in experiments:
        steps = [f"--step={network}={step}" for network, step in one.steps.items()]
        start = ("--commit", one.base, "--params", "/dev/stdin", *steps)
        shared = [
            # One key, one task: Dask runs it once, whoever submits it again.
            submit_work([f"{net}-{key}", "--train-only", net, *start], one.params, key)
            for net, key in one.trainings.items()
            if uses[key] > 1
        ]
        key = tokenize(one.base, one.task.name, one.params)
        futures[submit_work([one.task.name, *start], one.params, key, shared)] = one
    return futures


def bring_home(future: Future, experiment: Experiment) -> bool:
    """Fetch an experiment that has ended and take it out of the queue; print it if that fails."""
    task = experiment.task
    try:
        if future.status == "error":
            error = future.exception()
            if not isinstance(error, ChildProcessError):
                raise StageError(error)
            leave_out(task)
            raise StageError(
                f"{error}; it failed by itself, and the next `make farm` leaves it out"
            )
        if future.status != "finished":
            raise StageError(future.status)
        store(experiment)
        run("dvc", "queue", "remove", task.rev)
    except StageError as error:
        print(f"{task.name}: {error}")
        return False
    print(f"{task.name}: is here")
    return True


def leave_out(task: Task) -> None:
    """Note what failed by itself, so that the next `make farm` doesn't submit it."""
    with FAILED.open("a") as file:
        print(task.rev, file=file)


def store(experiment: Experiment) -> None:
    """Fetch an experiment and store it here as DVC would have.

    Raises
    ------
    StageError
        If it isn't what was queued, or another one of its name is here.
    """
    ref = experiment_ref(experiment.base, experiment.task.name)
    if not (commit := patiently(lambda: fetch_experiment(ref))):
        raise StageError("it isn't on this clone's origin; do the workers have another?")
    try:
        check_code(commit, experiment.base)
    except StageError as error:
        raise StageError(f"{error}; {how_to_delete(ref)}") from None
    queued, came = (
        run("git", "rev-parse", f"{rev}:./params.yaml") for rev in (experiment.task.rev, commit)
    )
    if came != queued:
        raise StageError(f"{commit} has another params.yaml than was queued; {how_to_delete(ref)}")
    if here := run("git", "for-each-ref", "--format=%(objectname)", ref):
        check_same_tree(ref, here, commit)
    else:
        run("git", "update-ref", ref, commit)


if __name__ == "__main__":
    run_stage(main)
