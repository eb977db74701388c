"""A machine whose results would be others is refused; a step of each recipe is hashed."""

import shutil
import sys
from pathlib import Path

import pytest
import torch

from stages.classifier import known_bits
from stages.common.console import StageError
from stages.common.determinism import AVX2, ISA
from tests.conftest import Clone
from tools.common.steps import ask_for_steps
from tools.machine import refuse_other_machines
from tools.run_experiment.checks import check_steps


def test_this_machine_is_not_refused_and_each_recipe_has_a_step_of_its_own(clone: Clone) -> None:
    clone.set_params({"train.device": "cuda"})
    (clone.path / "deeper.yaml").write_bytes(clone.read("params.yaml"))
    clone.set_params({"lenet5.muon.learning_rate": 0.01, "train.device": "cpu"})
    (clone.path / "wrong.yaml").write_text("networks: 1")
    files = ("params.yaml", "wrong.yaml", "deeper.yaml")
    ours, wrong, on_a_gpu = ask_for_steps([Path(name) for name in files], clone.path)
    assert wrong == {}
    assert ours["two_conv"]["step"] == on_a_gpu["two_conv"]["step"]
    assert ours["lenet5"]["step"] != on_a_gpu["lenet5"]["step"]
    assert {one["promised"] for one in ours.values()} == {True}
    assert {one["promised"] for one in on_a_gpu.values()} == {False}


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("qemu-x86_64") is None, reason="needs Debian's qemu-user")
def test_a_processor_without_avx2_is_refused_in_a_line(source: Clone) -> None:
    python = ("qemu-x86_64", "-cpu", "SandyBridge", sys.executable)
    done = source.run(*python, "-m", "tools.machine", check=False)
    assert done.returncode == 1
    *_, error = done.stdout.splitlines()
    assert error.startswith("error: ")
    assert error.endswith("not be those of others: its processor has no AVX2")


def test_another_version_of_torch_is_refused(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("requirements.txt").write_text("torch==2.12.0\n")
    with pytest.raises(StageError, match=r": it has torch 2\.\S+, not 2\.12\.0; install req.*$"):
        refuse_other_machines()


@pytest.mark.parametrize(
    ("module", "name", "value", "reason"),
    [
        (torch.cpu, "get_capabilities", {"architecture": "arm64"}, "is arm64, not x86_64"),
        (known_bits, "compute_step", [torch.zeros(3)], "a known computation has other bits"),
    ],
)
def test_another_processor_or_other_bits_are_refused(
    module: object, name: str, value: object, reason: str, monkeypatch
) -> None:
    monkeypatch.setenv(ISA, AVX2)  # or this process would start again with it
    monkeypatch.setattr(module, name, lambda: value)
    with pytest.raises(StageError, match=reason):
        refuse_other_machines()


def test_a_machine_whose_step_is_another_is_refused_by_name(clone: Clone, monkeypatch) -> None:
    monkeypatch.chdir(clone.path)
    ((_, step), *_) = ask_for_steps()[0].items()
    check_steps([f"two_conv={step['step']}", "of_another_version=1"])
    with pytest.raises(StageError, match=r"^\S+: a step of lenet5 by these params has other bits"):
        check_steps(["lenet5=another"])
