"""A small real pipeline in a temporary clone: real git, real DVC, the synthetic data set."""

import fcntl
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from dvc.utils.serialize import modify_yaml
from hypothesis import settings

from stages.common.console import StageError
from stages.common.params import load_params
from tools.common.clones import clone_environment
from tools.common.commands import run

REPOSITORY = Path(__file__).parents[1]
PARAMS = load_params(REPOSITORY / "params.yaml")

# The same examples every time in the default run; new ones with --hypothesis-profile=thorough.
settings.register_profile("quick", max_examples=100, deadline=None, derandomize=True)
settings.register_profile("thorough", max_examples=5000, deadline=None)
settings.load_profile("quick")

# As small as can be while everything that a full run does still happens.
TINY_PARAMS = {
    "fetch.source": "synthetic",
    "fetch.synthetic.train_images": 1000,
    "fetch.synthetic.test_images": 200,
    "train.epochs": 2,
    "two_conv.channels": [4, 8],
    "two_conv.batch_size": 50,
    "lenet5.batch_size": 50,
}

# Not passed on from the user: the project's settings, and make's word that it runs a test.
LEFT_OUT = ("FASHION_MNIST_", "MAKE", "MFLAGS")


# The longest first, or one worker would end long after the others. The first makes `built`, while
# the others begin with two that do without.
LONGEST = ("pipeline", "fetch", "bench", "readme", "verify", "resume", "determinism", "experiments")
FIRST = [f"test_{name}.py" for name in LONGEST]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    names = [*FIRST, *(item.path.name for item in items)]
    items.sort(key=lambda item: names.index(item.path.name))


class Clone:
    """A working copy of the project, with the project's commands run in it."""

    def __init__(self, path: Path, environment: dict[str, str]) -> None:
        self.path = path
        self.environment = environment
        self.log = ""  # what building it printed

    def run(
        self, *command: str, check: bool = True, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        """Run a command; its output and errors come back together as ``stdout``."""
        done = subprocess.run(
            command,
            cwd=self.path,
            env=self.environment | environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert done.returncode == 0 or not check, f"{command} failed:\n{done.stdout}"
        return done

    def start(self, *command: str) -> subprocess.Popen[str]:
        """Start a command in a process group of its own, to be killed by the test."""
        return subprocess.Popen(
            # a test run in the background ignores SIGINT, and its children would too
            ("env", "--default-signal=INT", *command),  # noqa: S607
            cwd=self.path,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def dvc(self, *arguments: str, **environment: str) -> str:
        return self.run("dvc", *arguments, **environment).stdout

    def git(self, *arguments: str) -> str:
        return self.run("git", *arguments).stdout

    def stage(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run a stage script without DVC, whether it succeeds or not."""
        command = ("python", "-m", f"stages.{arguments[0]}", *arguments[1:])
        return self.run(*command, check=False, **environment)

    def commit(self, message: str) -> None:
        self.git("add", "--all")
        self.git("commit", "--quiet", "--allow-empty", "--message", message)

    def read(self, path: str) -> bytes:
        return (self.path / path).read_bytes()

    def params(self) -> dict[str, Any]:
        return yaml.safe_load(self.read("params.yaml"))

    def set_params(self, changes: dict[str, Any]) -> None:
        """Change keys of ``params.yaml``, named with dots."""
        with modify_yaml(self.path / "params.yaml") as tree:  # keeps comments and layout
            for key, value in changes.items():
                *sections, last = key.split(".")
                section = tree
                for name in sections:
                    section = section[name]
                section[last] = value


@pytest.fixture(scope="session")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What commands see: this interpreter first, no settings of the user's own but pip's."""
    seen = clone_environment(tmp_path_factory.mktemp("environment"))
    return {
        **{name: value for name, value in seen.items() if not name.startswith(LEFT_OUT)},
        "DVC_NO_ANALYTICS": "1",
        "PIP_CONFIG_FILE": os.environ.get(
            "PIP_CONFIG_FILE", str(Path("~/.config/pip/pip.conf").expanduser())
        ),
    }


@pytest.fixture(scope="session")
def source(tmp_path_factory: pytest.TempPathFactory, environment: dict[str, str]) -> Clone:
    """The project as it stands in the working tree, committed, with tiny params, not yet run."""
    clone = Clone(tmp_path_factory.mktemp("source"), environment)
    # The project may belong to another user; its own and the user's ignored files stay away.
    here = ("git", "-c", "safe.directory=*", "-C", str(REPOSITORY))
    listed = run(*here, "ls-files", "-z", "--cached", "--others", "--exclude-standard")
    for name in filter(None, listed.split("\0")):
        # The results belong to the real data set.
        if (REPOSITORY / name).is_file() and not name.startswith(
            ("dvc.lock", "metrics/", "plots/")
        ):
            target = clone.path / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(REPOSITORY / name, target)
    clone.set_params(TINY_PARAMS)
    clone.git("init", "--quiet", "--initial-branch=main")
    clone.commit("the project with tiny params")
    return clone


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory, source: Clone, worker_id: str) -> Clone:
    """The project after ``dvc repro``, committed. For tests that only look: workers share it."""
    folder = tmp_path_factory.getbasetemp()
    if worker_id != "master":
        folder = folder.parent
    log = folder / "built.log"
    with (folder / "built.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # the first worker builds, the others wait
        if log.exists():
            clone = Clone(folder / "built", source.environment)
        else:
            clone = copy(source, folder / "built")
            printed = clone.dvc("repro")
            clone.commit("dvc repro")
            log.write_text(printed)
    clone.log = log.read_text()
    return clone


@pytest.fixture
def fresh(tmp_path: Path, source: Clone) -> Clone:
    """A copy of its own of the project before ``dvc repro``."""
    return copy(source, tmp_path / "clone")


@pytest.fixture
def clone(tmp_path: Path, built: Clone) -> Clone:
    """A copy of its own of the project after ``dvc repro``."""
    return copy(built, tmp_path / "clone")


def assert_refused_in_one_line(
    read: Callable[[Path], Any], path: Path, content: bytes | None, reason: str, stage: str
) -> str:
    """Check that a reader refuses a file (None: no file) and how; return what it says."""
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(StageError) as refusal:
        read(path)
    message = str(refusal.value)
    assert message.startswith(f"{path}: ")
    assert reason in message
    assert f"run `dvc repro {stage}`" in message
    assert "\n" not in message
    return message


def copy(original: Clone, path: Path) -> Clone:
    shutil.copytree(original.path, path, symlinks=True)
    return Clone(path, original.environment)
