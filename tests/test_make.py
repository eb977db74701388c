"""make, where the clone, its user or its Python are not what they were or should be."""

import os
import re
import shutil
import subprocess
import sys
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
    (clone.path / ".venv/stale").touch()

    clone.path = shutil.move(clone.path, tmp_path / "a b/new")
    clone.run("make", "setup")
    assert not (clone.path / ".venv/stale").exists()
    assert str(clone.path) in clone.run(".venv/bin/pip", "--version").stdout
    assert NOTHING in clone.run("make", "setup").stdout

    (packages,) = clone.path.glob(".venv/lib/python3.*")
    packages.rename(packages.with_name("python3.0"))  # as after an upgrade: the links still work
    assert "-delete" in clone.run("make", "--dry-run", "setup").stdout
    packages.with_name("python3.0").rename(packages)
    assert NOTHING in clone.run("make", "setup").stdout
    for link in clone.path.glob(".venv/bin/python*"):
        link.unlink()
        link.symlink_to("/removed/python3")
    assert "-delete" in clone.run("make", "--dry-run", "setup").stdout


def test_an_environment_that_is_shared_by_a_link_is_left_alone(fresh: Clone) -> None:
    make_environment(fresh, "../shared/.venv")
    (fresh.path / ".venv").symlink_to("../shared/.venv")
    assert NOTHING in fresh.run("make", "setup").stdout

    (packages,) = fresh.path.glob("../shared/.venv/lib/python3.*")
    packages.rename(packages.with_name("python3.0"))
    assert_refused_and_left_alone(fresh)


MAKERS = ("uv venv --quiet", "virtualenv --quiet", "python -m venv", "python -m venv --without-pip")


@pytest.mark.parametrize("maker", MAKERS)
def test_an_environment_that_make_has_not_made_is_used_if_it_is_complete_and_never_changed(
    maker: str, fresh: Clone
) -> None:
    program, *arguments = maker.split()
    if not shutil.which(program):
        pytest.skip(f"there is no {program} here")
    fresh.run(program, *arguments, ".venv")
    (fresh.path / ".venv/MINE").touch()
    assert_refused_and_left_alone(fresh)

    (fresh.path / "requirements.txt").write_text("")  # now it holds all of them
    dvc = fresh.path / ".venv/bin/dvc"
    dvc.write_text(f"#!{fresh.path}/.venv/bin/python\nprint('dvc of', __file__)\n")
    dvc.chmod(0o755)
    before = contents(fresh)
    assert fresh.run("make").stdout == f"dvc repro\ndvc of {dvc}\n"
    assert contents(fresh) == before

    fresh.path = shutil.move(fresh.path, fresh.path.with_name("moved"))
    assert_refused_and_left_alone(fresh, "it was moved here")


def test_an_environment_that_another_tool_made_anew_is_no_longer_of_make(fresh: Clone) -> None:
    make_environment(fresh, ".venv")
    settings = fresh.path / ".venv/pyvenv.cfg"
    lines = settings.read_text().splitlines()
    settings.write_text("\n".join(line for line in lines if not line.startswith("command")))
    assert_refused_and_left_alone(fresh)


@pytest.mark.parametrize("file", ["pyvenv.cfg", "bin/python", "conda-meta/history"])
def test_what_else_lies_in_the_place_of_the_environment_is_left_alone(
    file: str, fresh: Clone
) -> None:
    (fresh.path / ".venv" / file).parent.mkdir(parents=True)
    (fresh.path / ".venv" / file).touch()
    assert_refused_and_left_alone(fresh, "")


def assert_refused_and_left_alone(clone: Clone, reason: str = "it lacks ") -> None:
    before = contents(clone)
    done = clone.run("make", "setup", check=False)
    assert done.returncode != 0
    error, by_make = done.stdout.splitlines()
    assert error.startswith("error: .venv isn't make's own, so nothing in it is changed, and ")
    assert reason in error
    assert by_make.startswith("make: ***")
    assert contents(clone) == before


def contents(clone: Clone) -> set[str]:
    environment = (clone.path / ".venv").resolve()
    paths = environment.rglob("*")
    return {str(path.relative_to(environment)) for path in paths if "pycache" not in str(path)}


@pytest.mark.parametrize("lacking", ["_sqlite3", "_ctypes"])
def test_a_python_that_lacks_a_module_is_refused_before_anything_is_installed(
    lacking: str, fresh: Clone, tmp_path: Path
) -> None:
    python = tmp_path / "python"
    block = f"import runpy, sys; sys.modules[{lacking!r}] = None"
    python.write_text(
        f'#!/bin/sh\n[ "$1" = -c ] && exec {sys.executable} -c "{block}\n$2"\nexit 9\n'
    )
    python.chmod(0o755)
    done = fresh.run("make", "setup", f"PYTHON={python}", check=False)
    error, _ = done.stdout.splitlines()
    assert f"lacks {lacking[1:]}: install that, or name another Python" in error
    assert error.endswith("make PYTHON=python3.12")
    assert not (fresh.path / ".venv").exists()


def test_an_old_python_is_refused_in_one_line(fresh: Clone, tmp_path: Path) -> None:
    python = tmp_path / "python"
    old = "import sys; sys.version_info = (3, 10, 4)"
    python.write_text(f'#!/bin/sh\nexec {sys.executable} -c "{old}\n$2"\n')
    python.chmod(0o755)
    done = fresh.run("make", "setup", f"PYTHON={python}", check=False)
    error, _ = done.stdout.splitlines()
    assert "lacks version 3.11 (it is 3.10): install that, or name another Python" in error


def test_bash_is_found_wherever_it_is(fresh: Clone, tmp_path: Path) -> None:
    (tmp_path / "bash").write_bytes(Path("/bin/bash").read_bytes())
    (tmp_path / "bash").chmod(0o755)
    namespace = ("unshare", "--user", "--map-root-user", "--mount")
    hide = "mount --bind /dev/null /bin/bash && exec make help"
    done = fresh.run(
        *namespace, "sh", "-c", hide, check=False, PATH=f"{tmp_path}:{fresh.environment['PATH']}"
    )
    if "unshare: " in done.stdout or "mount: " in done.stdout:
        pytest.skip("no namespaces of mounts here")
    assert "List the targets" in done.stdout


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
