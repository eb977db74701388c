"""Run one experiment of one commit in a clone of its own, and share it with all machines.

The clone's DVC cache is this one's; where a training was killed, the next call goes on.
"""

import argparse
import contextlib
import subprocess
from collections.abc import Sequence
from pathlib import Path

import psutil
from dvc.exceptions import DvcException
from dvc.utils.cli_parse import to_path_overrides
from dvc.utils.hydra import apply_overrides

from stages.common.console import StageError, run_stage
from stages.common.params import PARAMS_FILE
from tools.common.clones import clone_environment
from tools.common.commands import run
from tools.common.repository import committed_head
from tools.common.sharing import check_same_tree, experiment_ref, patiently, publish
from tools.run_experiment.checks import check_access, check_steps
from tools.run_experiment.slot import clone_in_slot


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tools.run_experiment", description=__doc__)
    parser.add_argument("name", help="the experiment's")
    parser.add_argument(
        "--train-only", metavar="NETWORK", help="share its training alone, and no experiment"
    )
    parser.add_argument("-S", "--set-param", action="append", default=[], help="as dvc exp run has")
    start = parser.add_mutually_exclusive_group()
    start.add_argument("--here", action="store_true", help="run in this clone, as it stands")
    start.add_argument("--commit", help="HEAD; or one that is here, or origin's full hash")
    parser.add_argument("--params", type=Path, help="take this file in place of params.yaml")
    parser.add_argument(
        "--step", action="append", default=[], metavar="NETWORK=HASH", help="of another machine"
    )
    arguments = parser.parse_args()
    if arguments.params and arguments.here:
        parser.error("argument --params: not allowed with argument --here")

    params = arguments.params and arguments.params.read_text()
    if arguments.here:
        place = contextlib.nullcontext()
    else:
        place = clone_in_slot(arguments.name, arguments.commit or committed_head())
    with place:
        if params is not None:
            PARAMS_FILE.write_text(params)
        set_params(arguments.set_param)
        run_experiment(arguments.name, arguments.train_only, arguments.step)


def set_params(changes: Sequence[str]) -> None:
    """Change ``params.yaml`` as ``dvc exp run --set-param`` does.

    Raises
    ------
    StageError
        If there is no such key, or a change can't be read.
    """
    try:
        for path, overrides in to_path_overrides(changes).items():
            apply_overrides(path, overrides)
    except DvcException as error:
        reason = " ".join(str(error.__cause__ or error).split())
        raise StageError(f"--set-param: {reason}") from None


def run_experiment(name: str, train_only: str | None, elsewhere: Sequence[str]) -> None:
    """Run what params.yaml says as an experiment, and share it; each training once it is done.

    Parameters
    ----------
    train_only : str or None
        The one network to train, with no experiment to follow; None: all of them.
    elsewhere : sequence of str
        ``NETWORK=HASH``: what a step hashes to on the machine that asks for this.

    Raises
    ------
    StageError
        If this machine's bits are others, a stage fails, or the experiment can't be shared.
    """
    folder = Path(".dvc/tmp/run_experiment").absolute()
    folder.mkdir(parents=True, exist_ok=True)
    environment = clone_environment(folder)
    ref = experiment_ref(run("git", "rev-parse", "HEAD"), name)
    check_steps(elsewhere)
    check_access(ref, environment)

    def dvc(*command: str) -> None:
        command = ("dvc", *command, "--pull", "--allow-missing")
        if run_to_the_end(command, environment):
            raise StageError(f"{name}: `{' '.join(command)}` failed, see above")

    def push(*options: str) -> None:
        patiently(lambda: run("dvc", "push", *options, environment=environment))

    stages = run("dvc", "stage", "list", "--name-only", environment=environment).splitlines()
    trainings = [stage for stage in stages if stage.startswith("train@")]
    for training in [f"train@{train_only}"] if train_only else trainings:
        dvc("repro", training)
        push("--run-cache", training)  # now, as the machine may stop in the next one
    if train_only:
        return
    dvc("exp", "run", "--name", name)
    push()
    check_same_tree(ref, run("git", "rev-parse", ref), patiently(lambda: publish(ref)))
    print(f"{name} is on the remote")


def run_to_the_end(command: Sequence[str], environment: dict[str, str]) -> int:
    """Run a dvc; return its exit status. If this process is to end, dvc and its stage end first."""
    # A slot's lock is passed on: a dvc that outlives this process still works there.
    with subprocess.Popen(command, env=environment, close_fds=False) as dvc:
        try:
            return dvc.wait()
        except BaseException:  # Ctrl-C, or the exit that a signal becomes
            process = psutil.Process(dvc.pid)
            started = [*process.children(recursive=True), process]
            for one in started:
                with contextlib.suppress(psutil.NoSuchProcess):
                    one.terminate()
            psutil.wait_procs(started)  # or a stage would write to a clone that is being removed
            raise


if __name__ == "__main__":
    run_stage(main)
