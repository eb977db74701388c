"""DVC's queue on the workers of a Dask scheduler: all of it arrives, whoever is killed."""

import json
import os
import pickletools
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from dvc.utils.serialize import modify_yaml

from stages.common.console import StageError
from tests.conftest import Clone
from tests.machines import Farm, GitServer, kill, left_in_slot, refusal

EXPERIMENTS = ("python", "-m", "tools.experiments")
FARM = ("python", "-m", "tools.farm")


@pytest.fixture
def farm(tmp_path: Path, built: Clone) -> Farm:
    return Farm(tmp_path, built)


@pytest.fixture
def scheduler(farm: Farm) -> Iterator[str]:
    """The address of a scheduler of Dask's; at the end, all that worked for it is killed."""
    pytest.importorskip("distributed")
    place = Clone(farm.folder / "scheduler", farm.home.environment)
    place.path.mkdir()
    file = farm.folder / "scheduler.json"
    host = ("--host", "127.0.0.1", "--port", "0")
    options = (*host, "--no-dashboard", "--scheduler-file", str(file))
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


@pytest.mark.slow
def test_a_sweep_arrives_whole_and_each_training_runs_once(farm: Farm, scheduler: str) -> None:
    machines = [farm.machine("one"), farm.machine("other")]
    for machine in machines:
        start_worker(machine, scheduler)
    rates = {"two_conv": ("0.05", "0.04"), "lenet5": ("0.06", "0.05", "0.02")}
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
def test_a_training_is_another_one_by_what_dvc_yaml_says_that_it_depends_on(fresh: Clone) -> None:
    pytest.importorskip("dask")
    from tools.farm.queued import ask_for_names, key_trainings

    def keys(base: str = "base") -> dict[str, str]:
        names = ask_for_names(fresh.path, fresh.environment)
        return key_trainings(base, fresh.params(), names)

    def changed_by(key: str, value: Any) -> set[str]:
        """Change a parameter for a moment; name the networks that would train anew."""
        params = fresh.read("params.yaml")
        before = keys()
        fresh.set_params({key: value})
        after = keys()
        (fresh.path / "params.yaml").write_bytes(params)
        return {network for network in before if before[network] != after[network]}

    both = {"two_conv", "lenet5"}
    assert changed_by("lenet5.batch_size", 25) == {"lenet5"}
    assert changed_by("split.seed", 2) == changed_by("train.epochs", 3) == both
    assert changed_by("evaluate.shift", 0) == set()
    with modify_yaml(fresh.path / "dvc.yaml") as wiring:
        wiring["stages"]["train"]["params"].append("evaluate")
    assert changed_by("evaluate.shift", 0) == both
    assert not set(keys().values()) & set(keys("another").values()), "other code trains anew"


@pytest.mark.slow
def test_no_task_holds_what_only_this_python_can_read() -> None:
    pytest.importorskip("distributed")
    from distributed.protocol.pickle import dumps, loads

    from tools.common.queue import Task
    from tools.farm.__main__ import submit
    from tools.farm.queued import Experiment

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
    server = GitServer(farm, takes_pushes=True)
    machine = farm.machine("one")
    machine.git("remote", "set-url", "origin", server.address)
    start_worker(machine, scheduler)
    farm.home.dvc(
        "exp", "run", "--queue", "--name", "lower-rate", "-Slenet5.muon.learning_rate=0.01"
    )
    server.start()
    try:
        driver = farm.home.start(*FARM, scheduler)
        read_until("epoch  2/2", driver)
        server.stop()
        while "trying again in " not in log_of(machine):
            assert driver.poll() is None, driver.stdout.read()
            time.sleep(0.1)
        server.start()
        assert "lower-rate: is here" in driver.communicate()[0]
    finally:
        server.stop()
    assert log_of(machine).count("> exec python -m stages.train lenet5") == 1


@pytest.mark.slow
def test_what_cannot_be_shared_stays_in_the_queue(farm: Farm, scheduler: str) -> None:
    machine = farm.machine("one")
    start_worker(machine, scheduler)
    farm.home.dvc(
        "exp", "run", "--queue", "--name", "lower-rate", "-Slenet5.muon.learning_rate=0.01"
    )
    hook = farm.refuse_pushes()
    done = farm.home.run(*FARM, scheduler, check=False)
    assert "no experiments here" in done.stdout
    assert refusal(done).startswith("1 of 1 didn't arrive")
    assert "lower-rate" in farm.home.dvc("queue", "status")
    assert farm.shared() == {}
    hook.unlink()
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
@pytest.mark.parametrize("params", [None, {}, {"networks": 1}, {"networks": [1]}])
def test_params_that_list_no_networks_are_refused(params: Any) -> None:
    pytest.importorskip("dask")
    from tools.farm.queued import read_networks

    with pytest.raises(StageError, match=r"^params\.yaml: networks: not a list of names$"):
        read_networks(params)
