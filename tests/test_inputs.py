"""A stage's result is bound to what the stage read, or dropped: DVC locks what lies there later."""

import os
import sys
from pathlib import Path

import pytest

from tests.conftest import Clone, copy

# `python` for a stage that is interrupted by a command each time that a function has returned, or
# just before torch is imported.
INTERRUPTED = """#!{python}
import importlib, os, runpy, subprocess, sys

module, *arguments = sys.argv[2:]
sys.path.insert(0, os.getcwd())

def interrupt():
    subprocess.run({command!r}, shell=True, check=True)

class BeforeTorch:
    def find_spec(self, name, path=None, target=None):
        if name == "torch":
            sys.meta_path.remove(self)
            interrupt()

def interrupted(function):
    def call(*given, **named):
        result = function(*given, **named)
        interrupt()
        return result
    return call

if {function!r} == "torch":
    sys.meta_path.insert(0, BeforeTorch())
else:
    owner, _, name = {function!r}.rpartition(".")
    owner, _, member = owner.partition(":")
    owner = importlib.import_module(owner)
    owner = getattr(owner, member) if member else owner
    setattr(owner, name, interrupted(getattr(owner, name)))
sys.argv = [module, *arguments]
runpy.run_module(module, run_name="__main__", alter_sys=True)
"""
RUN_EPOCH = "stages.training.trainer:Trainer.run_epoch"
MEAN_LOGITS = "stages.classifier.inference.mean_logits"
OTHER_RATE = (
    "sed -i '/^lenet5:/,/  sgd:/ s/^    learning_rate: .*/    learning_rate: 0.5/' params.yaml"
)
RATE_CHANGED = "lenet5.muon.learning_rate in params.yaml (0.02 -> 0.5)"
LAST_OUTPUTS = {
    "check": "data/params_checked.txt",
    "split": "data/split/pixel_statistics.json",
    "train lenet5": "models/lenet5/model.safetensors",
    "evaluate lenet5": "metrics/lenet5.json",
    "predict lenet5": "data/predictions/lenet5.csv",
}


def interrupt(clone: Clone, function: str, command: str) -> dict[str, str]:
    """Make the environment in which stages are interrupted."""
    python = clone.path.parent / "interrupted/python"
    python.parent.mkdir(exist_ok=True)
    python.write_text(INTERRUPTED.format(python=sys.executable, function=function, command=command))
    python.chmod(0o755)
    return {"PATH": f"{python.parent}{os.pathsep}{clone.environment['PATH']}"}


def the_error(printed: str) -> str:
    (error,) = [line for line in printed.splitlines() if line.startswith("error: ")]
    assert "Traceback" not in printed
    return error


def cached(clone: Clone) -> set[Path]:
    return set((clone.path / ".dvc/cache").rglob("*"))


def test_params_that_change_in_a_training_are_locked_with_no_result_and_both_ways_on_work(
    clone: Clone, built: Clone, tmp_path: Path
) -> None:
    lock, known = clone.read("dvc.lock"), cached(clone)
    environment = interrupt(clone, RUN_EPOCH, OTHER_RATE)
    repro = ("dvc", "repro", "--force", "--single-item", "train@lenet5")
    done = clone.run(*repro, check=False, **environment)
    assert done.returncode != 0
    error = the_error(done.stdout)
    assert error.startswith(f"error: changed while this stage was at work: {RATE_CHANGED}; ")
    assert "Put it back and run again, or run again with what is there now" in error
    assert not (clone.path / LAST_OUTPUTS["train lenet5"]).exists()
    assert clone.read("dvc.lock") == lock
    assert cached(clone) == known

    other = copy(clone, tmp_path / "other")
    log = other.stage("train", "lenet5").stdout
    assert "made from other params, data or code: training starts over" in log
    assert other.read(LAST_OUTPUTS["train lenet5"]) != built.read(LAST_OUTPUTS["train lenet5"])

    clone.git("restore", "params.yaml")
    assert "lenet5: goes on after epoch 2 of 2" in clone.dvc(*repro[1:])
    assert clone.read("dvc.lock") == lock
    assert cached(clone) == known


@pytest.mark.parametrize(
    ("stage", "function", "command", "changes"),
    [
        (
            "check",
            "stages.common.layout.refuse_linked_folders",
            "echo '# a comment' >> params.yaml; rm stages/common/history.py",
            "params.yaml, stages/common/history.py (gone)",
        ),
        (
            "fetch",
            "stages.raw.synthetic.draw_dataset",
            "sed -i 's/^    seed: 1/    seed: 2/' params.yaml; echo >> stages/raw/idx.py",
            "fetch.synthetic.seed in params.yaml (1 -> 2), stages/raw/idx.py",
        ),
        pytest.param(
            "split",
            "stages.pictures.figures.draw_samples",
            "sed -i 's/val_fraction.*/val_fraction: 0.2/' params.yaml; touch stages/raw/new.py; "
            "cp data/raw/train-images-idx3-ubyte.gz data/raw/t10k-images-idx3-ubyte.gz",
            "split.val_fraction in params.yaml (0.1 -> 0.2), "
            "data/raw/t10k-images-idx3-ubyte.gz, stages/raw/new.py (new)",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            "train lenet5",
            RUN_EPOCH,
            "sed -i 's/^  epochs.*/  epochs: [/' params.yaml; rm -f data/split/val.safetensors; "
            "echo >> stages/networks/lenet5.py",
            "params.yaml: line 54: expected ',' or ']', but got '<scalar>', "
            "data/split/val.safetensors (gone), stages/networks/lenet5.py",
            marks=pytest.mark.slow,
        ),
        (
            "evaluate lenet5",
            MEAN_LOGITS,
            "sed -i 's/^  variant.*//' params.yaml; sed -i 1d models/lenet5/history.csv",
            "lenet5.variant in params.yaml (modern -> nothing), models/lenet5/history.csv",
        ),
        pytest.param(
            "predict lenet5",
            MEAN_LOGITS,
            "sed -i 's/  shift: 1/  shift: 0/' params.yaml; "
            "cp -p models/two_conv/model.safetensors new; mv new models/lenet5/model.safetensors",
            "evaluate.shift in params.yaml (1 -> 0), models/lenet5/model.safetensors",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_whatever_changes_while_a_stage_is_at_work_its_last_output_is_not_written(
    clone: Clone, stage: str, function: str, command: str, changes: str
) -> None:
    if output := LAST_OUTPUTS.get(stage):
        (clone.path / output).unlink()
    done = clone.stage(*stage.split(), **interrupt(clone, function, command))
    assert done.returncode == 1
    assert the_error(done.stdout).startswith(
        f"error: changed while this stage was at work: {changes}; "
    )
    assert not output or not (clone.path / output).exists()


def test_what_changes_while_the_last_output_is_written_is_noticed_too(clone: Clone) -> None:
    environment = interrupt(clone, "stages.common.files.write_bytes", "echo >> params.yaml")
    done = clone.stage("check", **environment)
    assert done.returncode == 1
    assert the_error(done.stdout).startswith("error: changed while this stage was at work: params")


def test_code_that_changes_while_it_is_imported_is_refused_at_once(clone: Clone) -> None:
    command = "sed -i 's/1 + done/2 + done/' stages/training/trainer.py"
    done = clone.stage("train", "lenet5", **interrupt(clone, "torch", command))
    assert done.returncode == 1
    assert done.stdout.startswith(
        "error: changed while this stage was at work: stages/training/trainer.py; "
    )


def test_what_a_training_does_not_depend_on_and_what_is_put_back_may_change_meanwhile(
    clone: Clone,
) -> None:
    command = """set -e
        sed -i 's/^  kernel_size:.*/  kernel_size: 3/; s/  shift: 1/  shift: 0/' params.yaml
        sed -i '/^lenet5:/,/  sgd:/ s/learning_rate: 0.02/learning_rate: 2e-2  # new/' params.yaml
        echo >> stages/networks/two_conv.py; echo >> stages/evaluate.py; echo >> README.md
        touch stages/training/loop.py stages/training/.#loop.py stages/training/loop.py~
        sed -i.orig 's/0/1/g' stages/train.py && mv stages/train.py.orig stages/train.py
        cp data/split/val.safetensors new && mv new data/split/val.safetensors
        rm -f data/split/test.safetensors
    """
    model = clone.read(LAST_OUTPUTS["train lenet5"])
    done = clone.stage("train", "lenet5", **interrupt(clone, RUN_EPOCH, command))
    assert done.returncode == 0, done.stdout
    assert clone.read(LAST_OUTPUTS["train lenet5"]) == model


def test_the_state_of_a_training_stands_for_all_that_it_depends_on(fresh: Clone) -> None:
    def fingerprint() -> str:
        printed = "print(Inputs('train', 'lenet5').fingerprint())"
        code = f"from stages.common.inputs import Inputs; {printed}"
        return fresh.run("python", "-c", code).stdout

    (fresh.path / "data/split").mkdir(parents=True)
    first = fingerprint()
    for file in ("networks/two_conv.py", "evaluate.py", "raw/idx.py"):
        (fresh.path / "stages" / file).write_text("other")
    fresh.set_params({"two_conv.muon.learning_rate": 0.5})
    assert fingerprint() == first
    seen = {first}
    fresh.set_params({"lenet5.muon.learning_rate": 0.5})
    for file in ("data/split/val.safetensors", "stages/networks/lenet5.py", "stages/common/new.py"):
        seen.add(fingerprint())
        (fresh.path / file).write_text("other")
    assert len({*seen, fingerprint()}) == 5
