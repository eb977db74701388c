"""One experiment on a machine: it arrives once, with the tree that it has at home."""

import hashlib
import json
import os
import re
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import Clone, copy
from tests.machines import Farm, GitServer, kill, left_in_slot, processes_of, refusal

RUN = ("python", "-m", "tools.run_experiment")
VERIFY = ("python", "-m", "tools.verify", "--rev")


@pytest.fixture
def farm(tmp_path: Path, built: Clone) -> Farm:
    return Farm(tmp_path, built)


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


@pytest.fixture
def server(farm: Farm) -> Iterator[GitServer]:
    server = GitServer(farm, takes_pushes=True)
    yield server
    server.stop()


@pytest.mark.slow
def test_a_repository_that_is_away_is_waited_for(farm: Farm, server: GitServer) -> None:
    machine = farm.machine("machine")
    machine.git("remote", "set-url", "origin", server.address)
    process = machine.start(*RUN, "lower-rate", "-S", "lenet5.muon.learning_rate=0.01")
    line = ""
    while not line.startswith("trying again in "):
        line = process.stdout.readline()
        assert line, "it ended"
        assert "Running stage 'train" not in line
    assert "unable to connect" in line
    server.start()
    assert process.communicate()[0].splitlines()[-1] == "lower-rate is on the remote"
    assert process.returncode == 0


@pytest.mark.slow
def test_a_dvc_remote_that_fails_after_a_training_is_waited_for(farm: Farm) -> None:
    process = farm.machine("machine").start(*RUN, "lower-rate", "-S", "lenet5.batch_size=25")
    away = farm.store.with_name("away")
    log = []

    def read_until(text: str) -> None:
        log.append("")
        while text not in log[-1]:
            log.append(process.stdout.readline())
            assert log[-1], "it ended"

    read_until("lenet5  epoch  1/2")
    farm.store.rename(away)
    farm.store.write_text("no folder")  # a missing one would be made anew
    read_until("trying again in ")
    farm.store.unlink()
    away.rename(farm.store)
    log += process.communicate()[0].splitlines()
    assert log[-1] == "lower-rate is on the remote"
    assert "".join(log).count("> exec python -m stages.train lenet5") == 1
    log = farm.machine("other").run(*RUN, "again", "-S", "lenet5.batch_size=25").stdout
    assert "Stage 'train@lenet5' is cached" in log, "the training has arrived"


@pytest.mark.slow
@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGINT])
def test_a_tool_that_is_told_to_end_ends_its_training_and_goes_on_later(
    ending: signal.Signals, farm: Farm
) -> None:
    machine = farm.machine("machine")
    command = (*RUN, "long", "-S", "train.epochs=60")
    process = machine.start(*command)
    next(line for line in process.stdout if line.startswith("lenet5  epoch 10/60"))
    if ending == signal.SIGINT:
        os.killpg(process.pid, ending)  # as a terminal does, to all of them
    else:
        process.send_signal(ending)
    assert process.wait() == 128 + ending
    assert processes_of(machine) == [], "nobody writes to the clone that was removed"
    process.communicate()
    assert left_in_slot(machine, "long") == {"lock", "resume"}
    log = machine.run(*command).stdout
    assert "lenet5: goes on after epoch 1" in log
    assert log.splitlines()[-1] == "long is on the remote"


@pytest.fixture
def read_only(farm: Farm) -> Iterator[str]:
    """The address of a server of the repository that takes no push."""
    server = GitServer(farm, takes_pushes=False)
    server.start()
    yield server.address
    server.stop()


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
    for url, storage, reason in (
        (read_only, farm.store, "access denied"),
        (farm.folder / "nowhere.git", farm.store, "does not appear to be a git repository"),
        (farm.bare, http, "the DVC remote 'storage' can't be written: "),
    ):
        machine.git("remote", "set-url", "origin", str(url))
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
    farm.refuse_pushes()
    done = farm.machine("machine").run(*RUN, "as-it-is", check=False)
    assert "no experiments here" in refusal(done)
    assert "trying again" not in done.stdout


@pytest.mark.slow
def test_a_training_that_is_done_is_not_done_again_on_another_machine(farm: Farm) -> None:
    rates = ("-S", "two_conv.muon.learning_rate=0.04", "-S", "lenet5.muon.learning_rate=0.01")
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


@pytest.mark.slow
def test_a_training_is_shared_without_an_experiment_where_that_is_asked_for(farm: Farm) -> None:
    change = ("-S", "train.seed=2")
    log = farm.machine("one").run(*RUN, "lenet5-alone", "--train-only", "lenet5", *change).stdout
    assert "Running stage 'train@lenet5'" in log
    assert "train@two_conv" not in log
    assert farm.shared() == {}
    log = farm.machine("other").run(*RUN, "both", *change).stdout
    assert "Stage 'train@lenet5' is cached" in log
    assert farm.shared().keys() == {"both"}


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
