"""Experiments on several machines: each arrives once, with the tree that it has at home."""

import hashlib
import json
import os
import pickletools
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Clone, copy
from tests.test_queue import processes_of

RUN = ("python", "-m", "tools.run_experiment")
EXPERIMENTS = ("python", "-m", "tools.experiments")
VERIFY = ("python", "-m", "tools.verify", "--rev")


class Farm:
    """A bare repository, a remote, a home that has run the pipeline, and clones on machines."""

    def __init__(self, folder: Path, built: Clone) -> None:
        self.folder = folder
        self.store = folder / "store"
        self.home = copy(built, folder / "home")
        git = self.home.git
        git("init", "--quiet", "--bare", "--initial-branch=main", str(folder / "bare.git"))
        git("remote", "add", "origin", str(folder / "bare.git"))
        self.home.dvc("remote", "add", "--default", "storage", str(self.store))
        self.set_pauses("2, 4, 8")
        self.home.commit("a remote, and less patience")
        self.home.dvc("push", "--quiet")
        git("push", "--quiet", "origin", "main")

    def set_pauses(self, seconds: str) -> None:
        tool = self.home.path / "tools/run_experiment.py"
        lines = tool.read_text().splitlines(keepends=True)
        (line,) = (number for number, text in enumerate(lines) if text.startswith("PAUSES = "))
        lines[line] = f"PAUSES = ({seconds})\n"
        tool.write_text("".join(lines))

    def machine(self, name: str) -> Clone:
        """Make the clone on another machine: without a cache, with settings of its own."""
        clone = Clone(self.folder / name, self.home.environment)
        self.home.git("clone", "--quiet", str(self.folder / "bare.git"), str(clone.path))
        return clone

    def shared(self) -> dict[str, str]:
        """Map each experiment on the remote to its commit."""
        listed = self.home.git("ls-remote", "origin", "refs/exps/*").splitlines()
        return {ref.rpartition("/")[2]: commit for commit, ref in map(str.split, listed)}

    def tree(self, name: str, clone: Clone | None = None) -> str:
        """Name the tree of an experiment: on the remote, or as a clone has it."""
        if clone is None:
            self.home.git("fetch", "--quiet", "origin", self.shared()[name])
            return self.home.git("rev-parse", "FETCH_HEAD^{tree}")
        shown = ("--format=%(tree)", f"refs/exps/*/*/{name}")
        return clone.git("for-each-ref", *shown)

    def run_at_home(self, name: str, *changes: str) -> str:
        """Run an experiment at home, in a folder of DVC's; return its tree."""
        options = [f"--set-param={change}" for change in changes]
        self.home.dvc("exp", "run", "--temp", "--name", f"{name}-at-home", *options)
        return self.tree(f"{name}-at-home", self.home)


@pytest.fixture
def farm(tmp_path: Path, built: Clone) -> Farm:
    return Farm(tmp_path, built)


def refusal(done: subprocess.CompletedProcess[str]) -> str:
    """Check that a tool ended with one clear line; return it."""
    assert done.returncode == 1, done.stdout
    assert "Traceback" not in done.stdout
    return done.stdout.splitlines()[-1].removeprefix("error: ")


def test_what_is_not_committed_is_not_shared_under_a_name(fresh: Clone) -> None:
    fresh.set_params({"lenet5.muon.learning_rate": 0.01})
    done = fresh.run(*RUN, "lower-rate", check=False)
    assert refusal(done).startswith("there are changes that aren't committed")


def test_code_that_git_does_not_have_is_refused_at_once(fresh: Clone) -> None:
    (fresh.path / "stages/networks/perceptron.py").write_text("")
    done = fresh.run(*RUN, "perceptron", check=False)
    assert refusal(done).startswith("stages/networks/perceptron.py: not in git")
    assert done.stdout.count("\n") == 1


WITHOUT_LOCKS = """
import errno, fcntl, os, runpy, sys

def flock(*_):
    raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

fcntl.flock = flock
runpy.run_module("tools.run_experiment", run_name="__main__", alter_sys=True)
"""


def test_a_file_system_without_locks_is_no_trouble(built: Clone, tmp_path: Path) -> None:
    clone = copy(built, tmp_path / "clone")
    clone.git("remote", "add", "origin", str(built.path))
    done = clone.run("python", "-c", WITHOUT_LOCKS, "name", check=False)
    assert refusal(done).startswith("no DVC remote to share by")


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("qemu-x86_64") is None, reason="needs Debian's qemu-user")
def test_a_processor_without_avx2_is_refused_in_a_line(built: Clone) -> None:
    python = ("qemu-x86_64", "-cpu", "Nehalem", sys.executable)
    done = built.run(*python, *RUN[1:], "--here", "lower-rate", check=False)
    assert refusal(done).endswith("not be those of others: its processor has no AVX2")
    assert "lower-rate" not in built.dvc("exp", "list")


@pytest.mark.slow
def test_an_experiment_has_the_tree_that_it_has_at_home(farm: Farm) -> None:
    change = ("-S", "lenet5.muon.learning_rate=0.01")
    for name in ("one", "other"):  # the other one goes by what the first has shared
        machine = farm.machine(name)
        machine.git("remote", "set-url", "origin", "../bare.git")
        log = machine.run(*RUN, "lower-rate", *change).stdout
        assert ("Running stage 'train@lenet5'" in log) == (name == "one")
        assert "Stage 'split' didn't change, skipping" in log
        assert log.splitlines()[-1] == "lower-rate is on the remote"
    assert farm.tree("lower-rate") == farm.run_at_home("lower-rate", change[1])
    assert not (farm.folder / "one/.dvc/tmp/slots/lower-rate/clone").exists()
    assert farm.home.git("-C", "../one", "status", "--porcelain") == ""
    # what is shared is whole
    farm.home.git("fetch", "--quiet", "origin", "refs/exps/*:refs/exps/*", "--force")
    farm.home.dvc("exp", "apply", "lower-rate")
    shutil.rmtree(farm.home.path / ".dvc/cache")
    farm.home.dvc("pull")
    assert "up to date" in farm.home.dvc("status")


@pytest.mark.slow
def test_another_experiment_of_a_known_name_is_refused(farm: Farm) -> None:
    machine = farm.machine("machine")
    machine.run(*RUN, "lower-rate", "-S", "lenet5.muon.learning_rate=0.01")
    before = farm.shared()
    done = machine.run(*RUN, "lower-rate", "-S", "lenet5.muon.learning_rate=0.04", check=False)
    assert f"lower-rate is {before['lower-rate']} on the remote, and " in refusal(done)
    assert "nothing was overwritten" in refusal(done)
    assert farm.shared() == before


@pytest.mark.slow
def test_what_cannot_be_run_is_said_in_one_line(farm: Farm) -> None:
    machine = farm.machine("machine")
    assert "can't name an experiment" in refusal(machine.run(*RUN, "../up", check=False))
    nowhere = machine.run(*RUN, "lower-rate", "--commit", "nowhere", check=False)
    assert "nowhere" in refusal(nowhere)
    failed = machine.run(*RUN, "lower-rate", "-S", "lenet5.muon.learning_rate=-1", check=False)
    assert refusal(failed).startswith("lower-rate: `dvc repro train@two_conv ")
    assert refusal(failed).endswith("` failed, see above")
    assert "params.yaml: lenet5.muon.learning_rate: " in failed.stdout
    assert left_in_slot(machine, "lower-rate") == {"lock"}
    for change in ("lenet5.rate=1", "lenet5.muon.learning_rate=0.01,0.02", "params.yaml"):
        unread = machine.run(*RUN, "lower-rate", "-S", change, check=False)
        assert refusal(unread).startswith("--set-param: ")
    machine.dvc("remote", "default", "--unset")
    machine.commit("no remote")
    assert "no DVC remote" in refusal(machine.run(*RUN, "lower-rate", check=False))
    assert farm.shared() == {}


@pytest.mark.slow
def test_a_remote_that_is_away_is_waited_for_and_nothing_is_lost(farm: Farm) -> None:
    machine = farm.machine("machine")
    change = ("-S", "lenet5.muon.learning_rate=0.01")
    bare, away = farm.folder / "bare.git", farm.folder / "away.git"
    bare.rename(away)
    done = machine.run(*RUN, "lower-rate", *change, check=False)
    assert "trying again in 8 seconds: " in done.stdout
    assert "bare.git' does not appear to be a git repository" in refusal(done)
    again = machine.start(*RUN, "lower-rate", *change)
    line = ""
    while not line.startswith("trying again in 4 seconds"):
        line = again.stdout.readline()
        assert "Running stage 'train" not in line
    away.rename(bare)
    assert again.communicate()[0].splitlines()[-1] == "lower-rate is on the remote"
    assert again.returncode == 0


@pytest.fixture
def read_only(farm: Farm) -> Iterator[str]:
    """The address of git's own server of the repository, which takes no push."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    place = Clone(farm.folder, farm.home.environment)
    options = ("--export-all", "--reuseaddr", "--listen=127.0.0.1", f"--port={port}")
    process = place.start("git", "daemon", f"--base-path={farm.folder}", *options)
    address = f"git://127.0.0.1:{port}/bare.git"
    while place.run("git", "ls-remote", address, check=False).returncode:
        time.sleep(0.1)
    yield address
    os.killpg(process.pid, signal.SIGKILL)


@pytest.fixture
def http(farm: Farm) -> Iterator[str]:
    """The address of a server of the DVC remote's files, which takes none."""
    place = Clone(farm.store, farm.home.environment)
    command = ("python", "-u", "-m", "http.server", "0", "--bind", "127.0.0.1")
    process = place.start(*command)
    yield re.search(r"http://[\d.:]+", process.stdout.readline())[0]
    os.killpg(process.pid, signal.SIGKILL)


@pytest.mark.slow
def test_a_machine_that_may_not_push_trains_nothing(farm: Farm, read_only: str, http: str) -> None:
    machine = farm.machine("machine")
    shared = machine.git("remote", "get-url", "origin").strip()
    for url, storage, reason in (
        (read_only, farm.store, "access denied"),
        (shared, http, "the DVC remote 'storage' can't be written: "),
    ):
        machine.git("remote", "set-url", "origin", url)
        machine.dvc("remote", "modify", "--local", "storage", "url", str(storage))
        done = machine.run(*RUN, "lower-rate", "-S", "lenet5.muon.learning_rate=0.01", check=False)
        assert refusal(done).startswith("nothing is trained, as it couldn't be shared: ")
        assert reason in refusal(done)
        assert "Running stage" not in done.stdout
        assert "trying again" not in done.stdout
        assert left_in_slot(machine, "lower-rate") == {"lock"}
    assert farm.shared() == {}


@pytest.mark.slow
def test_a_refusal_at_the_end_is_not_tried_again(farm: Farm) -> None:
    hook = farm.folder / "bare.git/hooks/pre-receive"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text("#!/bin/sh\necho no experiments here\nexit 1\n")
    hook.chmod(0o755)
    done = farm.machine("machine").run(*RUN, "as-it-is", check=False)
    assert "no experiments here" in refusal(done)
    assert "trying again" not in done.stdout


@pytest.mark.slow
def test_a_training_that_is_done_is_not_done_again_on_another_machine(farm: Farm) -> None:
    rates = ("-S", "two_conv.muon.learning_rate=0.03", "-S", "lenet5.muon.learning_rate=0.01")
    one = farm.machine("one")
    process = one.start(*RUN, "lower-rates", *rates)
    next(line for line in process.stdout if line.startswith("lenet5  epoch "))
    kill(one)
    process.communicate()
    log = farm.machine("other").run(*RUN, "lower-rates", *rates).stdout
    assert "Running stage 'train@lenet5'" in log
    assert "Stage 'train@two_conv' is cached" in log
    changes = [change for change in rates if change != "-S"]
    assert farm.tree("lower-rates") == farm.run_at_home("lower-rates", *changes)


def left_in_slot(machine: Clone, name: str) -> set[str]:
    return {path.name for path in (machine.path / ".dvc/tmp/slots" / name).iterdir()}


@pytest.mark.slow
def test_xargs_gives_the_same_trees(farm: Farm) -> None:
    rates = ("0.05", "0.04", "0.03")
    machine = farm.machine("machine")
    xargs = "printf '%s\\n' $* | xargs -P 2 -I RATE python -m tools.run_experiment rate-RATE"
    machine.run("bash", "-c", f"{xargs} -S lenet5.muon.learning_rate=RATE", "bash", *rates)
    for rate in rates:
        at_home = farm.run_at_home(rate, f"lenet5.muon.learning_rate={rate}")
        assert farm.tree(f"rate-{rate}") == at_home


@pytest.mark.slow
def test_a_forged_result_is_refused_and_fails_when_it_is_verified(farm: Farm) -> None:
    change = "lenet5.muon.learning_rate=0.01"
    machine = farm.machine("machine")
    machine.run(*RUN, "lower-rate", "-S", change)
    # looked for on the remote, as it isn't here
    assert "outputs are those of" in farm.home.run(*VERIFY, "lower-rate").stdout

    honest = farm.shared()["lower-rate"]
    metrics = json.loads(farm.home.git("show", f"{honest}:metrics/lenet5.json"))
    metrics["val"]["accuracy"] = 0.99
    forged = forge(farm, honest, {"metrics/lenet5.json": f"{json.dumps(metrics, indent=2)}\n"})
    farm.home.git("push", "--quiet", "--force", "origin", f"{forged}:{ref_of(farm, 'lower-rate')}")
    done = machine.run(*RUN, "lower-rate", "-S", change, check=False)
    assert f"lower-rate is {forged} on the remote, and " in refusal(done)
    assert farm.shared()["lower-rate"] == forged
    verify, take_away = re.findall(r"`(.*?)`", refusal(done))
    assert verify == f"make verify REV={forged}"
    done = machine.run(*VERIFY, forged, check=False)
    assert refusal(done).endswith("isn't what its dvc.lock says: metrics/lenet5.json")

    machine.git(*take_away.split()[1:])
    assert farm.shared() == {}
    machine.run(*RUN, "lower-rate", "-S", change)
    assert farm.shared().keys() == {"lower-rate"}

    # with a lock that fits
    path = "metrics/lenet5.json"
    lock = farm.home.git("show", f"{honest}:dvc.lock")
    digests = [digest(farm.home.git("show", f"{commit}:{path}")) for commit in (honest, forged)]
    forged = forge(farm, forged, {"dvc.lock": lock.replace(*digests)})
    done = farm.home.run(*VERIFY, forged, check=False)
    assert refusal(done) == f"{forged:.7} doesn't rebuild to its dvc.lock: {path}"

    forged = forge(farm, honest, {"stages/evaluate.py": "print('what its author likes')\n"})
    done = farm.home.run(*VERIFY, forged, check=False)
    assert f"{forged:.7} changes stages/evaluate.py since " in refusal(done)
    assert "Running stage" not in done.stdout


def digest(text: str) -> str:
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()


def ref_of(farm: Farm, name: str) -> str:
    return farm.home.git("ls-remote", "origin", f"refs/exps/*/{name}").split()[1]


def forge(farm: Farm, commit: str, files: dict[str, str]) -> str:
    """Make a sibling of an experiment's commit that has other files."""
    farm.home.git("checkout", "--quiet", "--detach", commit)
    for path, text in files.items():
        (farm.home.path / path).write_text(text)
    farm.home.git("add", *files)
    farm.home.git("commit", "--quiet", "--amend", "--no-edit")
    forged = farm.home.git("rev-parse", "HEAD").strip()
    farm.home.git("checkout", "--quiet", "main")
    return forged


FARM = ("python", "-m", "tools.farm")


@pytest.fixture
def scheduler(farm: Farm) -> Iterator[str]:
    """The address of a scheduler of Dask's; at the end, all that worked for it is killed."""
    pytest.importorskip("distributed")
    place = Clone(farm.folder / "scheduler", farm.home.environment)
    place.path.mkdir()
    file = farm.folder / "scheduler.json"
    options = (
        "--host",
        "127.0.0.1",
        "--port",
        "0",
        "--no-dashboard",
        "--scheduler-file",
        str(file),
    )
    process = place.start("dask", "scheduler", *options)
    while not file.exists() or not file.read_text():
        time.sleep(0.1)
    yield json.loads(file.read_text())["address"]
    for name in ("one", "other"):
        kill(Clone(farm.folder / name, farm.home.environment))
    os.killpg(process.pid, signal.SIGKILL)


def start_worker(machine: Clone, scheduler: str) -> None:
    """Start a worker of Dask's in a machine's clone; what it prints is added to its log."""
    options = f"--nthreads 1 --no-dashboard --local-directory {machine.path}-dask"
    log = f">> {machine.path}.log 2>&1"
    machine.start("bash", "-c", f"exec dask worker {scheduler} {options} {log}")


def read_until(text: str, driver: subprocess.Popen[str]) -> None:
    """Read what `make farm` prints up to a line with a text."""
    line = ""
    while text not in line:
        line = driver.stdout.readline()
        assert line, "the driver ended"


def log_of(machine: Clone) -> str:
    return Path(f"{machine.path}.log").read_text()


def kill(machine: Clone, word: str = "") -> None:
    """Kill a machine's processes whose command holds a word."""
    for process in processes_of(machine):
        if word in Path(f"/proc/{process}/cmdline").read_text():
            os.kill(process, signal.SIGKILL)


@pytest.mark.slow
def test_a_sweep_arrives_whole_and_each_training_runs_once(farm: Farm, scheduler: str) -> None:
    machines = [farm.machine("one"), farm.machine("other")]
    for machine in machines:
        start_worker(machine, scheduler)
    rates = {"two_conv": ("0.04", "0.03"), "lenet5": ("0.06", "0.05", "0.02")}
    lists = [
        f"-S{network}.muon.learning_rate={','.join(values)}" for network, values in rates.items()
    ]
    farm.home.dvc("exp", "run", "--queue", "--name", "sweep", *lists)
    log = farm.home.run(*FARM, scheduler).stdout
    assert "6 experiments for 2 workers" in log
    for epoch in ("lenet5  epoch  1/2", "two_conv  epoch  2/2"):
        assert epoch in log
    trained = "".join(map(log_of, machines)).count("> exec python -m stages.train")
    assert trained == 4  # the rate of 0.02 is the commit's own

    shown = farm.home.dvc("exp", "show", "--csv"), farm.home.run(*EXPERIMENTS).stdout
    sweep = [
        (f"two_conv.muon.learning_rate={two_conv}", f"lenet5.muon.learning_rate={lenet5}")
        for two_conv in rates["two_conv"]
        for lenet5 in rates["lenet5"]
    ]
    for number, changes in enumerate(sweep, start=1):
        name = f"sweep-{number}"
        assert all(name in table for table in shown)
        at_home = farm.run_at_home(name, *changes)
        assert farm.tree(name) == farm.tree(name, farm.home) == at_home
    assert "No experiment tasks in the queue" in farm.home.dvc("queue", "status")


@pytest.mark.slow
def test_no_task_holds_what_only_this_python_can_read() -> None:
    pytest.importorskip("distributed")
    from distributed.protocol.pickle import dumps, loads

    from tools.farm import Experiment, Task, submit

    class Recorder:
        def submit(self, *task: Any, key: str) -> str:
            sent.append(dumps(task))
            return key

    sent = []
    same = ("base", "networks: [lenet5]", {"lenet5": "a-key"}, {"lenet5": "a-hash"})
    submit(Recorder(), [Experiment(Task("rev", name, "Queued"), *same) for name in ("one", "two")])
    assert len(sent) == 4, "a training, as often as it is asked for, and each experiment"
    for task in sent:
        # what names the type of an object, or takes it from a module
        named = [op.name for op, _, _ in pickletools.genops(task) if "GLOBAL" in op.name]
        assert len(named) == 1
        assert loads(task)[0] is exec


@pytest.mark.slow
def test_the_last_line_of_a_failure_travels_home(farm: Farm, scheduler: str) -> None:
    """As of a worker that was started outside of a clone."""
    nowhere = Clone(farm.folder / "one", farm.home.environment)
    nowhere.path.mkdir()
    start_worker(nowhere, scheduler)
    farm.home.dvc(
        "exp", "run", "--queue", "--name", "lower-rate", "-Slenet5.muon.learning_rate=0.01"
    )
    done = farm.home.run(*FARM, scheduler, check=False)
    pattern = r"^lower-rate: tcp://\S+: .*No module named 'tools'"
    assert re.search(pattern, done.stdout, re.MULTILINE)


DIVERGING = {
    "sgd.learning_rate": 10,
    "muon.learning_rate": 0,
    "sgd.momentum": 0.99,
    "weight_decay": 1,
    "warmup": 0.75,
}


@pytest.mark.slow
def test_what_fails_by_itself_is_left_out_from_then_on(farm: Farm, scheduler: str) -> None:
    machine = farm.machine("one")
    start_worker(machine, scheduler)
    changes = [f"-Slenet5.{name}={value}" for name, value in DIVERGING.items()]
    options = ("--name", "diverging", "-Strain.epochs=4", *changes)
    farm.home.dvc("exp", "run", "--queue", *options)
    log = farm.home.run(*FARM, scheduler, check=False).stdout
    reason = r"error: epoch 2, step \d+: the training loss is .*; it failed by itself, "
    assert re.search(rf"^diverging: tcp://\S+: {reason}", log, re.MULTILINE)
    assert left_in_slot(machine, "diverging") == {"lock", "resume"}

    log = farm.home.run(*FARM, scheduler).stdout
    assert "0 experiments for 1 workers" in log
    assert log_of(machine).count("> exec python -m stages.train lenet5") == 1
    for way_out in re.findall(r"`(.*?)`", log):
        farm.home.run(*way_out.split())
    assert "No experiment tasks in the queue" in farm.home.dvc("queue", "status")
    assert not farm.home.run(*FARM, scheduler).stdout.startswith("diverging")


@pytest.mark.slow
def test_seeds_are_run_by_the_workers(farm: Farm, scheduler: str) -> None:
    start_worker(farm.machine("one"), scheduler)
    farm.home.run("python", "-m", "tools.seeds", "1", "2", "--scheduler", scheduler)
    summary = json.loads(farm.home.read("metrics/seeds.json"))
    assert [summary[network]["seeds"] for network in ("two_conv", "lenet5")] == [[1, 2], [1, 2]]
    assert len(farm.shared()) == 2


# FARM_EXPERIMENTS=100 measures what a farm costs: pytest -m slow -s -k count tests/test_farm.py
COUNT = max(4, int(os.environ.get("FARM_EXPERIMENTS", "4")))


@pytest.mark.slow
def test_any_count_of_experiments_arrives_and_the_last_is_timed(farm: Farm, scheduler: str) -> None:
    farm.home.set_params({"networks": ["lenet5"], "train.epochs": 1})
    farm.home.dvc("repro")
    farm.home.commit("small")
    farm.home.dvc("push")
    farm.home.git("push", "--quiet", "origin", "main")
    machines = [farm.machine("one"), farm.machine("other")]
    for machine in machines:
        start_worker(machine, scheduler)
    done = 0
    for count in (max(COUNT // 10, 2), COUNT):
        seeds = ",".join(map(str, range(done + 2, count + 1)))
        farm.home.dvc("exp", "run", "--queue", "--name", f"to-{count}", f"-Strain.seed={seeds}")
        start = time.monotonic()
        log = farm.home.run(*FARM, scheduler).stdout
        minutes = (time.monotonic() - start) / 60
        print(f"{log.count(': is here')} experiments in {minutes:.1f} minutes")
        timed = f"time python -m tools.run_experiment at-{count} -S train.seed={100_000 + count}"
        log = machines[0].run("bash", "-c", timed).stdout
        print(f"experiment {count}:", *log.splitlines()[-4:], sep="\n")
        assert f"at-{count} is on the remote" in log
        done = count
    assert len(farm.shared()) == COUNT
    assert "No experiment tasks in the queue" in farm.home.dvc("queue", "status")


LONG = ("train.epochs=60", "two_conv.batch_size=500")


@pytest.mark.slow
@pytest.mark.parametrize("killed", ["worker", "training", "host", "driver"])
def test_after_a_kill_nothing_is_lost(killed: str, farm: Farm, scheduler: str) -> None:
    machine = farm.machine("one")
    start_worker(machine, scheduler)
    changes = (*LONG, "lenet5.muon.learning_rate=0.01")
    options = [f"--set-param={change}" for change in changes]
    farm.home.dvc("exp", "run", "--queue", "--name", "long", *options)
    driver = farm.home.start(*FARM, scheduler)
    read_until("lenet5  epoch 10/60", driver)
    if killed == "driver":
        os.killpg(driver.pid, signal.SIGKILL)
    else:
        word = {"worker": "multiprocessing-fork", "training": "stages.train", "host": ""}[killed]
        kill(machine, word)
    if killed == "host":
        start_worker(machine, scheduler)
    rest = driver.communicate()[0]
    if killed == "training":
        assert "long: tcp://" in rest
        assert "1 of 1 didn't arrive" in rest
    if killed in ("training", "driver"):
        assert "long" in farm.home.dvc("queue", "status")
        rest = farm.home.run(*FARM, scheduler).stdout
    print(rest)
    assert "long: is here" in rest
    if killed == "driver":
        assert log_of(machine).count("> exec python -m stages.train lenet5") == 1
    else:
        assert "long: lenet5: goes on after epoch 1" in rest
    assert farm.tree("long", farm.home) == farm.run_at_home("long", *changes)
    assert "No experiment tasks in the queue" in farm.home.dvc("queue", "status")


@pytest.mark.slow
def test_a_repository_that_is_away_for_a_while_is_waited_for(farm: Farm, scheduler: str) -> None:
    machine = farm.machine("one")
    start_worker(machine, scheduler)
    farm.home.dvc(
        "exp", "run", "--queue", "--name", "lower-rate", "-Slenet5.muon.learning_rate=0.01"
    )
    driver = farm.home.start(*FARM, scheduler)
    read_until("epoch  2/2", driver)
    bare, away = farm.folder / "bare.git", farm.folder / "away.git"
    bare.rename(away)
    while "trying again in 2 seconds: " not in log_of(machine):
        assert driver.poll() is None, driver.stdout.read()
        time.sleep(0.1)
    away.rename(bare)
    assert "lower-rate: is here" in driver.communicate()[0]
    assert log_of(machine).count("> exec python -m stages.train lenet5") == 1


@pytest.mark.slow
def test_a_remote_that_is_away_for_good_leaves_the_queue_as_it_was(
    farm: Farm, scheduler: str
) -> None:
    machine = farm.machine("one")
    start_worker(machine, scheduler)
    farm.home.dvc(
        "exp", "run", "--queue", "--name", "lower-rate", "-Slenet5.muon.learning_rate=0.01"
    )
    driver = farm.home.start(*FARM, scheduler)
    read_until("epoch  2/2", driver)
    farm.store.rename(farm.folder / "away")
    farm.store.touch()  # no folder can be made there
    rest = driver.communicate()[0]
    assert "1 of 1 didn't arrive" in rest
    assert "lower-rate" in farm.home.dvc("queue", "status")
    assert farm.shared() == {}
    farm.store.unlink()
    (farm.folder / "away").rename(farm.store)
    assert "lower-rate: is here" in farm.home.run(*FARM, scheduler).stdout
    assert log_of(machine).count("> exec python -m stages.train lenet5") == 1


@pytest.mark.slow
def test_what_the_farm_cannot_run_is_said_in_one_line(farm: Farm) -> None:
    pytest.importorskip("distributed")
    nowhere = "tcp://127.0.0.1:1"
    done = farm.home.run(*FARM, nowhere, check=False)
    assert refusal(done).startswith(f"{nowhere}: no Dask scheduler answers there (")
    readme = farm.home.path / "README.md"
    text = readme.read_text()
    readme.write_text("another\n")
    done = farm.home.run(*FARM, nowhere, check=False)
    assert refusal(done).startswith("there are changes that aren't")
    farm.home.dvc(
        "exp", "run", "--queue", "--name", "lower-rate", "-Slenet5.muon.learning_rate=0.01"
    )
    readme.write_text(text)
    done = farm.home.run(*FARM, nowhere, check=False)
    assert "queued with other changes than of params.yaml: README.md" in refusal(done)


@pytest.mark.slow
def test_a_server_of_s3_serves_as_the_remote(farm: Farm) -> None:
    moto = pytest.importorskip("moto.server")
    boto3 = pytest.importorskip("boto3")
    pytest.importorskip("dvc_s3")
    server = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        address = "http://{}:{}".format(*server.get_host_and_port())
        key = {"aws_access_key_id": "key", "aws_secret_access_key": "secret"}
        s3 = boto3.client("s3", "us-east-1", endpoint_url=address, **key)
        s3.create_bucket(Bucket="storage")
        farm.home.environment.update({name.upper(): value for name, value in key.items()})
        farm.home.dvc("remote", "modify", "storage", "url", "s3://storage/farm")
        farm.home.dvc("remote", "modify", "storage", "endpointurl", address)
        farm.home.commit("a remote on S3")
        farm.home.git("push", "--quiet", "origin", "main")
        farm.home.dvc("push")
        change = "lenet5.muon.learning_rate=0.01"
        for name in ("one", "other"):
            log = farm.machine(name).run(*RUN, "lower-rate", "-S", change).stdout
            assert ("Running stage 'train@lenet5'" in log) == (name == "one")
        assert farm.tree("lower-rate") == farm.run_at_home("lower-rate", change)
    finally:
        server.stop()
