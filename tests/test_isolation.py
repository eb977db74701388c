"""Tests and tools work in clones of their own, whatever surrounds them, and touch nothing else."""

import os
import shutil
import stat
import sys
from pathlib import Path

import pytest
import yaml

from stages.common.console import StageError
from tests.conftest import Clone, copy
from tools.common.clones import clone_environment, clone_of
from tools.common.commands import run

# Runs a test that makes commits, in place of all; a commit of these would call it again.
PRE_COMMIT = """#!/bin/sh
echo run >> "$RUNS"
[ "$(wc -l < "$RUNS")" = 1 ] || exit 1
exec pytest -q -n0 -p no:cacheprovider tests/test_verify.py -k without_a_lock
"""
COMMIT_MSG = '#!/bin/sh\ngrep -q "^JIRA-1: " "$1"\n'


@pytest.fixture
def hostile(tmp_path: Path) -> dict[str, str]:
    """A user's settings, and what git and Python would make of them."""
    home = tmp_path / "home"
    hooks, templates = home / "hooks", home / "templates"
    write_script(hooks / "commit-msg", COMMIT_MSG)
    write_script(hooks / "post-checkout", "#!/bin/sh\nexit 1\n")
    write_script(templates / "hooks/post-checkout", "#!/bin/sh\nexit 1\n")
    write_script(home / "modules/yaml.py", "raise SystemExit('a module of the user')\n")
    (home / ".gitconfig").write_text(
        f"[core]\nhooksPath = {hooks}\n[init]\ntemplateDir = {templates}\n"
        "[commit]\ngpgsign = true\n[protocol]\nallow = never\n"
    )
    (home / ".config/dvc").mkdir(parents=True)
    (home / ".config/dvc/config").write_text(f"[cache]\ndir = {home}/cache\n")
    return {
        "HOME": str(home),
        "GIT_CONFIG_SYSTEM": str(home / ".gitconfig"),
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": "core.hooksPath",
        "GIT_CONFIG_VALUE_0": str(hooks),
        "GIT_TEMPLATE_DIR": str(templates),
        "GIT_DEFAULT_HASH": "sha256",
        "DVC_SYSTEM_CONFIG_DIR": str(home / ".config/dvc"),
        "PYTHONPATH": str(home / "modules"),
        "PYTHONHOME": str(home),
        "PYTHONSAFEPATH": "1",
        "PYTHONWARNINGS": "error",
        "PYTHONOPTIMIZE": "2",
    }


@pytest.fixture
def other(tmp_path: Path, source: Clone) -> Clone:
    """Another repository of the user's, which git's variables name."""
    (tmp_path / "other").mkdir()
    other = Clone(tmp_path / "other", source.environment)
    other.git("init", "--quiet")
    other.commit("another project")
    return other


@pytest.fixture
def embedded(tmp_path: Path, source: Clone) -> Clone:
    """A linked worktree of a larger repository that holds the project, of one stage, built."""
    (tmp_path / "larger").mkdir()
    larger = Clone(tmp_path / "larger", source.environment)
    larger.git("init", "--quiet")
    project = copy(source, larger.path / "some/project")
    shutil.rmtree(project.path / ".git")
    stages = {"stages": {"check": yaml.safe_load(project.read("dvc.yaml"))["stages"]["check"]}}
    (project.path / "dvc.yaml").write_text(yaml.safe_dump(stages))
    with (project.path / ".dvc/config").open("a") as config:
        config.write(f"[cache]\n    dir = {tmp_path}/shared\n")
    project.dvc("repro")
    project.commit("the project in a folder")
    larger.git("worktree", "add", "--quiet", "--detach", str(tmp_path / "tree"))
    return Clone(tmp_path / "tree/some/project", source.environment)


def test_a_hook_that_runs_the_tests_commits_what_its_user_commits(
    tmp_path: Path, source: Clone, hostile: dict[str, str]
) -> None:
    write_script(tmp_path / "home/hooks/pre-commit", PRE_COMMIT)
    (tmp_path / "home/hooks/post-checkout").unlink()
    (tmp_path / "home/.gitconfig").write_text(f"[core]\nhooksPath = {tmp_path}/home/hooks\n")
    main = copy(source, tmp_path / "main")
    main.git("worktree", "add", "--quiet", "-b", "topic", str(tmp_path / "tree"))
    tree = Clone(tmp_path / "tree", source.environment)
    (tree.path / "note.txt").write_text("a change\n")
    tree.git("add", "note.txt")
    main_before, config = state(main), main.read(".git/config")

    gitconfig = f"{hostile['HOME']}/.gitconfig"
    settings = {"HOME": hostile["HOME"], "GIT_CONFIG_GLOBAL": gitconfig, "RUNS": f"{tmp_path}/runs"}
    who = ("-c", "user.name=User", "-c", "user.email=user@localhost")
    done = tree.run("git", *who, "commit", "--message", "JIRA-1: a note", **settings)
    assert "1 passed" in done.stdout
    assert (tmp_path / "runs").read_text() == "run\n"
    assert tree.git("log", "--format=%s", "main..topic") == "JIRA-1: a note\n"
    assert tree.git("diff", "--name-only", "main", "topic") == "note.txt\n"
    assert tree.git("status", "--porcelain") == ""
    assert (state(main), main.read(".git/config")) == (main_before, config)
    assert not (tmp_path / "main/.git/worktrees/tree/config.worktree").exists()


@pytest.mark.parametrize("tool", ["demo", "verify"])
def test_a_tool_works_in_a_folder_of_a_larger_repository_and_touches_nothing(
    tool: str, tmp_path: Path, embedded: Clone, other: Clone, hostile: dict[str, str]
) -> None:
    outside_python = {name: value for name, value in hostile.items() if "PYTHON" not in name}
    git_names = {"GIT_DIR": f"{other.path}/.git", "GIT_WORK_TREE": str(other.path)}
    git_folder = Path(shutil.which("git")).parent  # the virtual environment isn't active
    path = {"PATH": f"{git_folder}{os.pathsep}{os.defpath}"}
    cached = sorted((tmp_path / "shared").rglob("*"))
    before = state(embedded), state(other)

    command = (sys.executable, "-m", f"tools.{tool}")
    done = embedded.run(*command, **outside_python, **git_names, **path)
    assert "Running stage 'check'" in done.stdout
    assert (state(embedded), state(other)) == before
    assert sorted((tmp_path / "shared").rglob("*")) == cached
    assert not (tmp_path / "home/cache").exists()


def test_what_is_not_committed_is_said_in_one_line(
    other: Clone, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(other.path)
    refused = pytest.raises(StageError, match=r"no dvc\.yaml .* committed")
    with refused, clone_of("HEAD", "test"):
        pass


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a repository away")
def test_a_repository_of_another_user_is_cloned(
    tmp_path: Path, source: Clone, monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs = copy(source, tmp_path / "theirs")
    for path in (theirs.path, *theirs.path.rglob("*")):
        os.chown(path, 12345, 12345, follow_symlinks=False)
    assert "dubious ownership" in theirs.run("git", "status", check=False, HOME="/").stdout
    monkeypatch.chdir(theirs.path)
    with clone_of("HEAD", "test") as (clone, environment):
        assert clone.owner() != theirs.path.stat().st_uid
        run("git", "-C", str(clone), "status", environment=environment)


def test_make_passes_nothing_on_that_leads_elsewhere(
    source: Clone, other: Clone, hostile: dict[str, str]
) -> None:
    names = run("git", "rev-parse", "--local-env-vars").split()
    settings = hostile | dict.fromkeys(names, f"{other.path}/.git")
    done = source.run("make", "--eval", "show: ; @env -0", "show", **settings)
    seen = {line.partition("=")[0] for line in done.stdout.split("\0")}
    assert not seen & {*names, *(name for name in hostile if name.startswith("PYTHON"))}
    assert {"HOME", "GIT_CONFIG_SYSTEM", "PATH"} <= seen, "the user's own settings stay"


def test_a_clone_sees_the_settings_of_its_environment_alone(
    tmp_path: Path, hostile: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in hostile.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    environment = clone_environment(tmp_path)
    origins = run("git", "config", "--list", "--show-origin", environment=environment)
    assert {line.split("\t")[0] for line in origins.splitlines()} == {
        f"file:{environment['HOME']}/.gitconfig"
    }
    assert environment["XDG_CACHE_HOME"] == f"{hostile['HOME']}/.cache"
    assert run("python", "-c", "import sys, yaml; print(sys.executable)", environment=environment)


def test_commands_of_the_tools_are_of_this_project_and_this_python(
    source: Clone, other: Clone, hostile: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (hostile | {"GIT_DIR": f"{other.path}/.git", "PATH": os.defpath}).items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(source.path)
    assert run("git", "rev-parse", "--show-toplevel") == str(source.path.resolve())
    printed = run("python", "-c", "import os, sys; print(os.path.dirname(sys.executable))")
    assert printed == str(Path(sys.executable).parent)
    with pytest.raises(StageError, match="no-such-program: not on PATH"):
        run("no-such-program")


def state(repository: Clone) -> list[str]:
    """What a commit, or a change of files or settings, would change."""
    return [
        repository.git(*command)
        for command in (
            ("for-each-ref", "--format=%(refname)"),
            ("rev-parse", "HEAD"),
            ("status", "--porcelain"),
            ("config", "--local", "--list"),
        )
    ]


def write_script(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
