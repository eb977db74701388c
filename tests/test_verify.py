"""`make verify` passes on a lock that the code reproduces, and on no other."""

import os

import pytest
import yaml

from stages.common.console import StageError
from tests.conftest import Clone
from tools.verify import find_revision

VERIFY = ("python", "-m", "tools.verify")


def test_every_output_of_the_committed_lock_is_rebuilt(built: Clone) -> None:
    done = built.run(*VERIFY)
    committed = yaml.safe_load(built.read("dvc.lock"))["stages"].values()
    outputs = sum(len(stage["outs"]) for stage in committed)
    assert f"all {outputs} outputs" in done.stdout.splitlines()[-1]


def test_outputs_that_differ_or_are_no_longer_made_are_named(clone: Clone) -> None:
    # One byte of a model's hash is changed in the lock, and no stage draws the samples any more.
    model, picture = "models/lenet5/model.safetensors", "plots/samples.png"
    lock = clone.read("dvc.lock").decode()
    digest = lock.split(f"{model}\n      hash: md5\n      md5: ")[1][:32]
    other = ("0" if digest[0] != "0" else "1") + digest[1:]
    edit(clone, "dvc.lock", digest, other)
    edit(clone, "dvc.yaml", f"    plots:\n      - {picture}: {{cache: false}}\n", "")
    edit(clone, "stages/split.py", "    figures.draw_samples(", "    print(")
    clone.commit("a lock that nothing can reproduce")

    done = clone.run(*VERIFY, "train@lenet5", check=False)
    assert done.returncode == 1
    assert any(line.split() == [model, other, digest] for line in done.stdout.splitlines())
    assert done.stdout.splitlines()[-1].endswith(f"its dvc.lock: {picture}, {model}")
    assert "metrics/" not in done.stdout, "evaluate is no part of the target"


PIPELINE = """\
stages:
  note:
    matrix: {net: "${networks}"}
    cmd: echo ${item.net} > ${item.net}.txt
    outs: ["${item.net}.txt"]
"""


def test_what_dvc_yaml_defines_is_expected_and_no_stage_that_only_the_lock_keeps(
    fresh: Clone,
) -> None:
    (fresh.path / "dvc.yaml").write_text(PIPELINE)
    fresh.dvc("repro")
    fresh.set_params({"networks": ["lenet5"]})
    (fresh.path / "dvc.yaml").write_text(
        f"{PIPELINE}  later:\n    cmd: echo > later.txt\n    outs: [later.txt]\n"
    )
    fresh.commit("a network less, a stage more than the lock has")
    *table, error = fresh.run(*VERIFY, check=False).stdout.splitlines()
    assert error.endswith("doesn't rebuild to its dvc.lock: later.txt")
    *_, (_, expected, got), (_, later, _) = map(str.split, table)
    assert expected == got
    assert later == "absent"
    assert "two_conv" in fresh.read("dvc.lock").decode()


def test_a_lock_that_names_files_elsewhere_removes_none(clone: Clone, tmp_path) -> None:
    precious = tmp_path / "precious"
    precious.write_bytes(clone.read("data/params_checked.txt"))
    edit(clone, "dvc.lock", "path: data/params_checked.txt", f"path: {precious}")
    clone.commit("a forged lock")
    done = clone.run(*VERIFY, check=False)
    assert (done.returncode, done.stdout.count("\n")) == (1, 1)
    assert f"its dvc.lock names files outside of the project: {precious}" in done.stdout
    assert precious.exists()


@pytest.mark.parametrize("path", ["metrics/dvc.yaml", "params.yaml.d/x", "stages/split.py"])
def test_a_commit_that_brings_code_is_not_rebuilt(clone: Clone, path: str) -> None:
    check_refused(clone, path)


def test_figures_that_no_stage_of_the_commit_writes_are_refused(clone: Clone) -> None:
    clone.set_params({"networks": ["lenet5"]})
    check_refused(clone, "metrics/seeds.json", "metrics/two_conv.json")


def test_an_experiment_that_only_the_remote_has_is_found_by_its_name_or_hash(
    fresh: Clone, tmp_path, monkeypatch
) -> None:
    monkeypatch.chdir(fresh.path)
    with pytest.raises(StageError, match=r"^lower-rate: nothing is named so, here or on origin"):
        find_revision("lower-rate")
    fresh.git("clone", "--quiet", "--bare", ".", str(tmp_path / "bare.git"))
    fresh.git("remote", "add", "origin", str(tmp_path / "bare.git"))
    theirs = fresh.git("commit-tree", "HEAD^{tree}", "-p", "HEAD", "-m", "theirs").strip()
    fresh.git("push", "--quiet", "origin", f"{theirs}:refs/exps/ab/cdef/lower-rate")
    (fresh.path / ".git/objects" / theirs[:2] / theirs[2:]).unlink()
    assert find_revision("lower-rate") == theirs
    assert find_revision(theirs) == theirs
    assert fresh.git("cat-file", "-t", theirs).strip() == "commit"
    fresh.git("push", "--quiet", "origin", "HEAD:refs/exps/01/2345/lower-rate")
    with pytest.raises(StageError, match=r"^lower-rate: experiments of several commits have this"):
        find_revision("lower-rate")
    (tmp_path / "bare.git").rename(tmp_path / "away")
    with pytest.raises(StageError, match=r"^another: nothing is named so here, and origin says: "):
        find_revision("another")


def check_refused(clone: Clone, *paths: str) -> None:
    """Check that a commit on another branch that changes these files is refused in one line."""
    clone.git("switch", "--quiet", "--create", "theirs")
    for path in paths:
        (clone.path / path).parent.mkdir(exist_ok=True)
        (clone.path / path).write_text("what its author likes\n")
    clone.commit("theirs")
    clone.git("switch", "--quiet", "main")
    done = clone.run(*VERIFY, "--rev", "theirs", check=False)
    assert (done.returncode, done.stdout.count("\n")) == (1, 1)
    assert f" changes {', '.join(paths)} since " in done.stdout


def test_without_a_lock_or_a_repository_it_says_so(fresh: Clone, tmp_path) -> None:
    done = fresh.run(*VERIFY, check=False)
    assert (done.returncode, done.stdout.count("\n")) == (1, 1)
    assert "no dvc.lock is committed" in done.stdout
    outside = {"PYTHONPATH": str(fresh.path), "GIT_CEILING_DIRECTORIES": os.fspath(tmp_path)}
    (tmp_path / "elsewhere").mkdir()
    done = Clone(tmp_path / "elsewhere", fresh.environment).run(*VERIFY, check=False, **outside)
    assert (done.returncode, done.stdout.count("\n")) == (1, 1)
    assert "not a git repository" in done.stdout


def edit(clone: Clone, path: str, old: str, new: str) -> None:
    text = clone.read(path).decode()
    assert old in text
    (clone.path / path).write_text(text.replace(old, new))
