"""A training that was killed goes on where it stopped, and ends in the same bytes."""

import errno
import functools
import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest
import torch

from stages.common.console import StageError
from stages.training import resume
from tests.conftest import Clone, copy

EPOCHS = 9
STEPS = 18  # an epoch: 900 training images in batches of 50
DAMAGED = (
    ".resume/lenet5.state is damaged, or of another version: set aside as .resume/lenet5.damaged, "
    "training starts over\n"
)
OTHER_ORIGIN = (
    ".resume/lenet5.state was made from other params, data or code: training starts over\n"
)

# `python -m stages.train NET`, killed by the kernel in a step, counted over all epochs, or just
# before a file of that name is renamed into place.
TRAIN_UNTIL = """
import os, runpy, signal, sys
from pathlib import Path
from stages.training.trainer import Trainer

moment = sys.argv.pop(1)
update_average, replace = Trainer._update_average, Path.replace

def kill_at(now):
    if str(now) == moment:
        sys.stdout.flush()
        os.kill(os.getpid(), signal.SIGKILL)

def kill_or_update_average(self, done):
    kill_at(done)
    update_average(self, done)

def kill_or_replace(self, target):
    kill_at(Path(target).name)
    return replace(self, target)

Trainer._update_average, Path.replace = kill_or_update_average, kill_or_replace
runpy.run_module("stages.train", run_name="__main__", alter_sys=True)
"""


@pytest.fixture(scope="module")
def ready(tmp_path_factory: pytest.TempPathFactory, built: Clone) -> Clone:
    """The project with its data split, about to train for several epochs."""
    clone = copy(built, tmp_path_factory.mktemp("ready") / "clone")
    clone.set_params({"train.epochs": EPOCHS})
    return clone


@pytest.fixture(scope="module")
def uninterrupted(ready: Clone) -> Callable[[str], list[bytes]]:
    """Give a network's results after a training that nothing interrupted."""

    @functools.cache
    def train_once(network: str) -> list[bytes]:
        ready.run("python", "-m", "stages.train", network)
        return results(ready, network)

    return train_once


@pytest.fixture
def interrupted(tmp_path: Path, ready: Clone) -> Clone:
    """A project of its own, to interrupt."""
    return copy(ready, tmp_path / "clone")


@pytest.mark.parametrize("network", ["two_conv", "lenet5"])
def test_killed_three_times_it_ends_in_the_same_bytes(
    interrupted: Clone, uninterrupted: Callable[[str], list[bytes]], network: str
) -> None:
    assert "goes on" not in train_until(interrupted, network, 3 * STEPS)
    # with AVX2's code alone, where the others may take AVX-512's
    middle = {"workers": "1", "ONEDNN_MAX_CPU_ISA": "AVX2"}
    log = train_until(interrupted, network, 6 * STEPS + STEPS // 2, **middle)
    assert f"{network}: goes on after epoch 3 of 9" in log
    log = train_until(interrupted, network, "model.safetensors")  # after the last epoch
    assert f"{network}: goes on after epoch 6 of 9" in log
    (interrupted.path / f"models/{network}/history.csv").unlink()  # as DVC does
    # with other workers than before: their number is no part of the state
    done = interrupted.stage("train", network, FASHION_MNIST_WORKERS="1")
    assert f"{network}: goes on after epoch 9 of 9" in done.stdout
    assert results(interrupted, network) == uninterrupted(network)
    assert not (interrupted.path / ".resume").exists()


def test_dvc_repro_goes_on_after_it_was_killed(
    interrupted: Clone, uninterrupted: Callable[[str], list[bytes]]
) -> None:
    repro = subprocess.Popen(
        ["dvc", "repro", "train@lenet5"],  # noqa: S607
        cwd=interrupted.path,
        env=interrupted.environment,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    with repro:
        next(line for line in repro.stdout if "epoch  3/9" in line)
        os.killpg(repro.pid, signal.SIGSTOP)
        rows = len(interrupted.read("models/lenet5/history.csv").splitlines()) - 1
        chart = interrupted.dvc("plots", "show", "--show-vega", "models/lenet5/history.csv")
        os.killpg(repro.pid, signal.SIGKILL)
    assert 3 <= rows < EPOCHS
    assert chart.count('"epoch": ') == rows
    back = copy(interrupted, interrupted.path.with_name("back"))
    back.git("restore", "params.yaml")
    back.dvc("checkout", "--force")
    assert (back.path / "models/lenet5/model.safetensors").exists()
    log = interrupted.dvc("repro", "train@lenet5")
    assert "lenet5: goes on after epoch" in log
    assert results(interrupted, "lenet5") == uninterrupted("lenet5")


def test_a_training_beside_another_is_refused_at_once_and_leaves_its_state_alone(
    interrupted: Clone,
) -> None:
    first = interrupted.start("python", "-m", "stages.train", "lenet5")
    try:
        next(line for line in first.stdout if "epoch  1/9" in line)
        first.send_signal(signal.SIGSTOP)
        state = interrupted.read(".resume/lenet5.state")
        second = interrupted.stage("train", "lenet5")
    finally:
        first.kill()
        first.communicate()
    assert second.returncode == 1
    assert second.stdout == (
        "error: .resume/lenet5.lock: another process trains lenet5 in this folder; "
        "wait for it, or end it\n"
    )
    assert interrupted.read(".resume/lenet5.state") == state


def test_a_damaged_state_is_set_aside(
    interrupted: Clone, uninterrupted: Callable[[str], list[bytes]]
) -> None:
    train_until(interrupted, "lenet5", STEPS)
    state = interrupted.path / ".resume/lenet5.state"
    state.write_bytes(Random(1).randbytes(state.stat().st_size))  # noqa: S311
    done = interrupted.stage("train", "lenet5")
    assert DAMAGED in done.stdout
    assert results(interrupted, "lenet5") == uninterrupted("lenet5")
    assert [path.name for path in state.parent.iterdir()] == ["lenet5.damaged"]


def test_a_state_made_under_another_learning_rate_is_not_used(
    interrupted: Clone, uninterrupted: Callable[[str], list[bytes]]
) -> None:
    usual = interrupted.params()["lenet5"]["muon"]["learning_rate"]
    interrupted.set_params({"lenet5.muon.learning_rate": usual / 2})
    train_until(interrupted, "lenet5", STEPS)
    interrupted.set_params({"lenet5.muon.learning_rate": usual})
    done = interrupted.stage("train", "lenet5")
    assert OTHER_ORIGIN in done.stdout
    assert results(interrupted, "lenet5") == uninterrupted("lenet5")
    assert not (interrupted.path / ".resume").exists()


def test_only_a_whole_state_of_the_same_origin_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    tensors, history = {"weight": torch.rand(3, generator=torch.Generator())}, [[1, 0.1], [2, 0.3]]
    resume.ResumeState("lenet5", "origin").save(tensors, history)

    kept_tensors, kept_history = resume.ResumeState("lenet5", "origin").load()
    assert kept_tensors["weight"].equal(tensors["weight"])
    assert kept_history == history
    assert capsys.readouterr().out == ""

    assert resume.ResumeState("lenet5", "another").load() is None
    assert OTHER_ORIGIN in capsys.readouterr().out
    state = resume.ResumeState("lenet5", "origin")
    assert state.load() is not None

    whole = state.path.read_bytes()
    damages = [whole[:part] for part in (0, 10, 50, len(whole) // 2, len(whole) - 1)]
    # A digit of the history, a bit of the last tensor: safetensors notices neither.
    for place in (whole.index(b"0.3]]") + 2, len(whole) - 1):
        flipped = bytes([whole[place] ^ 1])
        damages.append(whole[:place] + flipped + whole[place + 1 :])
    for damaged in damages:
        state.path.write_bytes(damaged)
        assert state.load() is None
        assert capsys.readouterr().out == DAMAGED
        assert not state.path.exists()


def test_a_lock_ends_with_its_holder_and_is_done_without_where_there_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "disk").mkdir()
    (tmp_path / ".resume").symlink_to("disk")
    state = resume.ResumeState("lenet5", "")
    with pytest.raises(StageError, match="another process trains lenet5"):
        resume.ResumeState("lenet5", "")
    resume.ResumeState("two_conv", "").remove()
    state.remove()
    assert {path.name for path in tmp_path.rglob("*")} == {"disk", ".resume"}
    del state
    resume.ResumeState("lenet5", "")

    def flock(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(resume.fcntl, "flock", flock)
    states = [resume.ResumeState("lenet5", "") for _ in range(2)]
    assert len(states) == 2


def train_until(
    clone: Clone, network: str, moment: int | str, workers: str = "2", **environment: str
) -> str:
    """Train until a step, or the renaming of a file, at which the kernel kills the process."""
    command = ("python", "-c", TRAIN_UNTIL, str(moment), network)
    done = clone.run(*command, check=False, FASHION_MNIST_WORKERS=workers, **environment)
    assert done.returncode == -signal.SIGKILL, done.stdout
    return done.stdout


def results(clone: Clone, network: str) -> list[bytes]:
    return [clone.read(f"models/{network}/{name}") for name in ("model.safetensors", "history.csv")]
