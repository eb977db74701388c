"""Experiments on several machines: each arrives once, with the tree that it has at home."""

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from stages.common.console import StageError
from tests.conftest import Clone, copy
from tools.machine import KNOWN_STEP, check_machine, hash_of_a_step

RUN = ("python", "-m", "tools.run_experiment")


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


@pytest.fixture
def farm(tmp_path: Path, built: Clone) -> Farm:
    return Farm(tmp_path, built)


def refusal(done: subprocess.CompletedProcess[str]) -> str:
    """Check that a tool ended with one clear line; return it."""
    assert done.returncode == 1, done.stdout
    assert "Traceback" not in done.stdout
    return done.stdout.splitlines()[-1].removeprefix("error: ")


def test_the_known_step_is_that_of_this_machine() -> None:
    assert hash_of_a_step() == KNOWN_STEP


def test_another_version_of_torch_is_refused(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("requirements.txt").write_text("torch==2.12.0\n")
    with pytest.raises(StageError, match=r": it has torch 2\.\S+, not 2\.12\.0; install req.*$"):
        check_machine()


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("torch.cpu.get_capabilities", lambda: {"architecture": "arm64"}, "is arm64, not x86_64"),
        ("tools.machine.hash_of_a_step", lambda: "another", "a step of training has other bits"),
    ],
)
def test_another_processor_or_other_bits_are_refused(
    name: str, value: Callable, reason: str, monkeypatch
) -> None:
    monkeypatch.setattr(name, value)
    with pytest.raises(StageError, match=reason):
        check_machine()


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("qemu-x86_64") is None, reason="needs Debian's qemu-user")
def test_a_processor_without_avx2_is_refused_in_a_line(built: Clone) -> None:
    python = ("qemu-x86_64", "-cpu", "Nehalem", sys.executable)
    done = built.run(*python, *RUN[1:], "--here", "lower-rate", check=False)
    assert refusal(done).endswith("not be those of others: its processor has no AVX2")
    assert "lower-rate" not in built.dvc("exp", "list")


@pytest.mark.slow
def test_an_experiment_has_the_tree_that_it_has_at_home(farm: Farm) -> None:
    change = ("-S", "lenet5.learning_rate=0.05")
    for name in ("one", "other"):  # the other one goes by what the first has shared
        log = farm.machine(name).run(*RUN, "lower-rate", *change).stdout
        assert ("Running stage 'train@lenet5'" in log) == (name == "one")
        assert "Stage 'split' didn't change, skipping" in log
        assert log.splitlines()[-1] == "lower-rate is on the remote"
    farm.home.dvc("exp", "run", "--temp", "--name", "lower-rate", *change)
    assert farm.tree("lower-rate") == farm.tree("lower-rate", farm.home)
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
    machine.run(*RUN, "lower-rate", "-S", "lenet5.learning_rate=0.05")
    before = farm.shared()
    done = machine.run(*RUN, "lower-rate", "-S", "lenet5.learning_rate=0.04", check=False)
    assert f"lower-rate is {before['lower-rate']} on the remote, and " in refusal(done)
    assert "nothing was overwritten" in refusal(done)
    assert farm.shared() == before


@pytest.mark.slow
def test_what_cannot_be_run_is_said_in_one_line(farm: Farm) -> None:
    machine = farm.machine("machine")
    assert "can't name an experiment" in refusal(machine.run(*RUN, "../up", check=False))
    nowhere = machine.run(*RUN, "lower-rate", "--commit", "nowhere", check=False)
    assert "nowhere" in refusal(nowhere)
    failed = machine.run(*RUN, "lower-rate", "-S", "lenet5.learning_rate=-1", check=False)
    assert refusal(failed) == "lower-rate: `dvc exp run` failed, see above"
    assert "params.yaml: lenet5.learning_rate: " in failed.stdout
    machine.dvc("remote", "default", "--unset")
    assert "no DVC remote" in refusal(machine.run(*RUN, "lower-rate", check=False))
    assert farm.shared() == {}


@pytest.mark.slow
def test_a_remote_that_is_away_is_waited_for_and_nothing_is_lost(farm: Farm) -> None:
    machine = farm.machine("machine")
    change = ("-S", "lenet5.learning_rate=0.05")
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


@pytest.mark.slow
def test_xargs_gives_the_same_trees(farm: Farm) -> None:
    rates = ("0.05", "0.04", "0.03")
    machine = farm.machine("machine")
    xargs = "printf '%s\\n' $* | xargs -P 2 -I RATE python -m tools.run_experiment rate-RATE"
    machine.run("bash", "-c", f"{xargs} -S lenet5.learning_rate=RATE", "bash", *rates)
    for rate in rates:
        name = f"rate-{rate}"
        change = f"lenet5.learning_rate={rate}"
        farm.home.dvc("exp", "run", "--temp", "--name", name, "-S", change)
        assert farm.tree(name) == farm.tree(name, farm.home)
