"""make, where the clone, its user or its Python are not what they were or should be."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.conftest import Clone
from tests.test_readme import mark_as_set_up

NAMELESS = ("unshare", "--user", "--map-user=12345", "--map-group=12345")
NOTHING = "Nothing to be done"


def test_a_dead_environment_is_made_anew(fresh: Clone, tmp_path: Path) -> None:
    (fresh.path / "requirements.txt").write_text("")
    (tmp_path / "a b").mkdir()
    clone = Clone(tmp_path / "a b/old", fresh.environment | {"PIP_NO_INDEX": "1"})
    shutil.move(fresh.path, clone.path)
    make_environment(clone, ".venv")
    assert NOTHING in clone.run("make", "setup").stdout

    clone.path = shutil.move(clone.path, tmp_path / "a b/new")
    clone.run("make", "setup")
    assert str(clone.path) in clone.run(".venv/bin/pip", "--version").stdout
    assert NOTHING in clone.run("make", "setup").stdout

    (packages,) = clone.path.glob(".venv/lib/python3.*")
    packages.rename(packages.with_name("python3.0"))  # as after an upgrade: the links still work
    assert "venv --clear" in clone.run("make", "--dry-run", "setup").stdout
    packages.with_name("python3.0").rename(packages)
    assert NOTHING in clone.run("make", "setup").stdout
    for link in clone.path.glob(".venv/bin/python*"):
        link.unlink()
        link.symlink_to("/removed/python3")
    assert "venv --clear" in clone.run("make", "--dry-run", "setup").stdout


def test_an_environment_that_is_shared_by_a_link_is_left_alone(fresh: Clone) -> None:
    make_environment(fresh, "../shared/.venv")
    (fresh.path / ".venv").symlink_to("../shared/.venv")
    assert NOTHING in fresh.run("make", "setup").stdout


def make_environment(clone: Clone, path: str) -> None:
    """Make what set-up makes, without its packages."""
    clone.run("python", "-m", "venv", "--without-pip", path)
    (packages,) = clone.path.glob(f"{path}/lib/python3.*/site-packages")
    (packages / "pip.py").touch()
    (clone.path / path / ".ready").touch()


@pytest.mark.parametrize("home", ["", "/proc"], ids=["no home", "no home to write to"])
def test_a_user_without_a_name_runs_the_pipeline(clone: Clone, home: str) -> None:
    if subprocess.run([*NAMELESS, "true"], check=False).returncode:
        pytest.skip("no namespaces of users here")
    mark_as_set_up(clone)
    names = dict.fromkeys(("LOGNAME", "USER", "LNAME", "USERNAME"), "")
    printed = clone.run(*NAMELESS, "make", HOME=home, **names).stdout
    assert "up to date" in printed.splitlines()[-1]


@pytest.fixture
def unpacked(clone: Clone) -> Clone:
    """What is in a ZIP of the project, and a .venv that make takes for ready."""
    shutil.rmtree(clone.path / ".git")
    mark_as_set_up(clone)
    clone.environment = clone.environment | {"GIT_CEILING_DIRECTORIES": str(clone.path.parent)}
    return clone


def test_outside_of_git_a_line_says_what_to_do(unpacked: Clone) -> None:
    for target in ("test", "demo", "verify", "experiments", "all"):
        error, by_make = unpacked.run("make", target, check=False).stdout.splitlines()
        assert by_make.startswith("make: ***")
    advice = r"error: (.*) is no Git repository\. Make it one: (.*); or do without: (.*)"
    path, make_it_one, without = re.fullmatch(advice, error).groups()
    assert path == str(unpacked.path)

    (unpacked.path / ".venv/bin").mkdir()
    (unpacked.path / ".venv/bin/dvc").symlink_to(shutil.which("dvc"))
    unpacked.run("bash", "-e", "-c", without)
    assert "up to date" in unpacked.run("make").stdout.splitlines()[-1]
    (unpacked.path / ".dvc/config.local").unlink()
    unpacked.run("bash", "-e", "-c", make_it_one)
    assert "up to date" in unpacked.run("make").stdout.splitlines()[-1]


def test_without_git_a_line_says_so(unpacked: Clone, tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    for program in ("make", "bash", "grep"):
        (tmp_path / "bin" / program).symlink_to(shutil.which(program))
    printed = unpacked.run("make", check=False, PATH=str(tmp_path / "bin")).stdout
    assert printed.splitlines()[0] == "error: git is not installed"


def test_in_a_clone_of_another_user_git_says_what_to_do(clone: Clone) -> None:
    mark_as_set_up(clone)
    strict = {"GIT_TEST_ASSUME_DIFFERENT_OWNER": "1", "GIT_CONFIG_GLOBAL": os.devnull}
    printed = clone.run("make", check=False, **strict).stdout
    assert f"git config --global --add safe.directory {clone.path}" in printed
    assert "no Git repository" not in printed
