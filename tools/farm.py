"""Run DVC's queued experiments on the workers of a Dask scheduler, and fetch what comes of them."""

import argparse
import subprocess
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, NoReturn

import yaml
from dask.tokenize import tokenize
from distributed import Client, Future, as_completed

from stages.common.console import StageError, run_stage
from tools.commands import clone_of, committed_head, project_environment, run
from tools.machine import describe_steps
from tools.queue import Task, check_repository, queue_status
from tools.run_experiment import check_same, experiment_ref, fetch, patiently, way_out
from tools.verify import check_code

TOPIC = "epochs"
FAILED = Path(".dvc/tmp/farm_failed.txt")  # commits in DVC's queue that failed by themselves
PACKED = ".dvc/tmp/repro.dat"  # DVC's own, in each commit that waits in its queue
WORK = Path(__file__).with_name("worker.py").read_text() + "\n\nwork(topic, arguments, params)\n"
DATA = ("fetch", "split", "train")  # sections of params.yaml that every training depends on


class Experiment(NamedTuple):
    """A queued experiment: where it starts, its params.yaml, and a key for each training."""

    task: Task
    base: str
    params: str
    trainings: dict[str, str]
    steps: dict[str, str]  # what a step of each network hashes to on this machine


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tools.farm", description=__doc__)
    parser.add_argument("scheduler", help="its address, as in tcp://10.0.0.1:8786")
    address = parser.parse_args().scheduler
    committed_head()
    check_repository()
    experiments = hash_steps([read(task) for task in waiting()])
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
            f"{lost} of {len(experiments)} didn't arrive, see above; they stay in the queue, and "
            "the next `make farm` tries again what didn't fail by itself"
        )


def waiting() -> list[Task]:
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
    return Experiment(task, base, params, trainings, steps={})


def hash_steps(experiments: list[Experiment]) -> list[Experiment]:
    """Hash a step of each network of each experiment, by the code that it starts from."""
    hashed = []
    for base in {one.base: None for one in experiments}:
        of_base = [one for one in experiments if one.base == base]
        with clone_of(base, "steps") as (project, _):
            files = [project / f"params-{number}.yaml" for number in range(len(of_base))]
            for file, one in zip(files, of_base, strict=True):
                file.write_text(one.params)
            described = describe_steps(files, project)
        for one, steps in zip(of_base, described, strict=True):
            hashes = {network: step["step"] for network, step in steps.items()}
            hashed.append(one._replace(steps=hashes))
    return hashed


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
            submit_work([f"{net}-{key}", f"train@{net}", *start], one.params, key)
            for net, key in one.trainings.items()
            if uses[key] > 1
        ]
        key = tokenize(one.base, one.task.name, one.params)
        futures[submit_work([one.task.name, *start], one.params, key, shared)] = one
    return futures


def arrives(future: Future, experiment: Experiment) -> bool:
    """Fetch a finished experiment and take it out of the queue; tell what is wrong otherwise."""
    task = experiment.task
    try:
        if future.status == "error":
            tell(task, future.exception())
        if future.status != "finished":
            raise StageError(future.status)
        bring_home(experiment)
        run("dvc", "queue", "remove", task.rev)
    except StageError as error:
        print(f"{task.name}: {error}")
        return False
    print(f"{task.name}: is here")
    return True


def tell(task: Task, error: BaseException) -> NoReturn:
    """Raise what a worker says; what failed by itself is left out from now on."""
    if not isinstance(error, ChildProcessError):
        raise StageError(error)
    with FAILED.open("a") as file:
        print(task.rev, file=file)
    raise StageError(f"{error}; it failed by itself, and the next `make farm` leaves it out")


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
    try:
        check_code(commit, experiment.base)
    except StageError as error:
        raise StageError(f"{error}; {way_out(ref)}") from None
    queued, came = (
        run("git", "rev-parse", f"{rev}:./params.yaml") for rev in (experiment.task.rev, commit)
    )
    if came != queued:
        raise StageError(f"{commit} has another params.yaml than was queued; {way_out(ref)}")
    if here := run("git", "for-each-ref", "--format=%(objectname)", ref):
        check_same(ref, here, commit)
    else:
        run("git", "update-ref", ref, commit)


if __name__ == "__main__":
    run_stage(main)
