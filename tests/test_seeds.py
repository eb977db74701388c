"""make seeds: the spread over seeds, from queued experiments that can be looked at afterwards."""

import csv
import json
import shutil
import statistics
from pathlib import Path

import pytest

from stages.common.console import StageError
from tests.conftest import PARAMS, REPOSITORY, Clone
from tools.common.commands import run
from tools.common.repository import committed_head


@pytest.mark.slow
def test_the_summary_holds_the_accuracies_of_one_experiment_a_seed(clone: Clone) -> None:
    first = clone.run("python", "-m", "tools.seeds", "1", "2").stdout
    summary = json.loads(clone.read("metrics/seeds.json"))
    commit = clone.git("rev-parse", "--short", "HEAD").strip()
    for network in ("two_conv", "lenet5"):
        assert summary[network]["seeds"] == [1, 2]
        found = [
            json.loads(clone.git("show", f"{experiment}:metrics/{network}.json"))
            for experiment in experiments(clone, commit)
        ]
        for split in ("val", "test"):
            accuracies = [metrics[split]["accuracy"] for metrics in found]
            assert summary[network][split]["values"] == accuracies
            assert abs(summary[network][split]["mean"] - statistics.mean(accuracies)) < 1e-5
            assert abs(summary[network][split]["std"] - statistics.stdev(accuracies)) < 1e-5
    assert clone.read("plots/seeds.png").startswith(b"\x89PNG")
    assert changed(clone) == {"metrics/seeds.json", "plots/seeds.png"}

    # What is there already isn't run again.
    clone.git("stash", "--include-untracked")
    again = clone.run("python", "-m", "tools.seeds", "1", "2").stdout
    assert "running" in first
    assert "running" not in again
    assert json.loads(clone.read("metrics/seeds.json")) == summary


def test_changes_that_are_not_committed_are_refused(clone: Clone) -> None:
    clone.set_params({"train.epochs": 1})
    done = clone.run("python", "-m", "tools.seeds", "1", "2", check=False)
    assert done.returncode == 1
    assert done.stdout.startswith("error: there are changes that aren't committed")
    assert done.stdout.count("\n") == 1


def test_code_that_git_does_not_have_is_refused(clone: Clone) -> None:
    (clone.path / "stages/networks/perceptron.py").write_text("")
    (clone.path / "stages/notes.txt").write_text("no code\n")
    done = clone.run("python", "-m", "tools.seeds", "1", "2", check=False)
    assert done.returncode == 1
    assert done.stdout.startswith("error: stages/networks/perceptron.py: not in git, ")
    assert done.stdout.count("\n") == 1


def test_a_shallow_clone_is_refused_before_anything_is_queued(
    source: Clone, tmp_path: Path
) -> None:
    clone = Clone(tmp_path / "shallow", source.environment)
    source.git("clone", "--quiet", "--depth=1", source.path.as_uri(), str(clone.path))
    done = clone.run("python", "-m", "tools.seeds", "1", "2", check=False)
    assert done.returncode == 1
    assert done.stdout.startswith("error: this clone is shallow")
    assert done.stdout.count("\n") == 1
    assert not (clone.path / ".dvc/tmp/exps").exists()


def test_a_repository_without_a_commit_is_refused(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    run("git", "init", "--quiet")
    with pytest.raises(StageError, match=r"^nothing is committed yet"):
        committed_head()


@pytest.mark.slow
def test_the_summary_is_of_the_commit_that_it_began_with(clone: Clone) -> None:
    head = clone.git("rev-parse", "--short", "HEAD").strip()
    process = clone.start("python", "-m", "tools.seeds", "1", "2")
    next(line for line in process.stdout if line.startswith("running "))
    clone.commit("another")
    rest = process.communicate()[0]
    assert process.returncode == 0, rest
    assert f"are of {head}, which isn't HEAD any more" in rest
    assert json.loads(clone.read("metrics/seeds.json"))["lenet5"]["seeds"] == [1, 2]


@pytest.mark.slow
def test_nothing_is_queued_under_the_name_of_another_commit(clone: Clone) -> None:
    clone.dvc("exp", "run", "--queue", "--name", "seed-1-of-another", "-S", "train.seed=1")
    clone.git("commit", "--quiet", "--allow-empty", "--message", "another")
    check = "from tools.seeds import check_queued; check_queued('another', 'seed-1-of-another')"
    done = clone.run("python", "-c", check, check=False)
    assert "StageError: the project was changed while seed-1-of-another was queued" in done.stdout
    assert "No experiment tasks" in clone.dvc("queue", "status")


@pytest.mark.slow
def test_it_works_in_a_folder_of_a_larger_repository(clone: Clone, tmp_path: Path) -> None:
    shutil.rmtree(clone.path / ".git")
    Clone(tmp_path, clone.environment).git("init", "--quiet")
    clone.commit("the project is a folder")
    clone.run("python", "-m", "tools.seeds", "1", "2")
    assert json.loads(clone.read("metrics/seeds.json"))["lenet5"]["seeds"] == [1, 2]


@pytest.mark.slow
def test_it_ends_with_the_experiments_that_failed_and_why(clone: Clone) -> None:
    seeds, cores = ("python", "-m", "tools.seeds", "2", "3"), {"FASHION_MNIST_WORKERS": "none"}
    done = clone.run(*seeds, check=False, **cores)
    assert done.returncode == 1
    commit = clone.git("rev-parse", "--short", "HEAD").strip()
    error = "error: FASHION_MNIST_WORKERS=none: should be a number of cores, such as 1"
    assert done.stdout.splitlines()[-3:] == [
        f"seed-2-of-{commit}: {error}",
        f"seed-3-of-{commit}: {error}",
        "error: no metrics/seeds.json: 2 experiments failed or weren't stored",
    ]


def test_the_published_spread_is_of_the_committed_metrics() -> None:
    summary = json.loads((REPOSITORY / "metrics/seeds.json").read_text())
    for network, figures in summary.items():
        metrics = json.loads((REPOSITORY / f"metrics/{network}.json").read_text())
        assert figures["seeds"] == [1, 2, 3, 4, 5]
        one_view = json.loads((REPOSITORY / f"metrics/one_view/{network}.json").read_text())
        for split in ("val", "test"):
            assert figures[split]["values"][0] == metrics[split]["accuracy"]
            assert figures[f"{split}_one_view"]["values"][0] == one_view[split]["accuracy"]


@pytest.mark.parametrize("network", ["two_conv", "lenet5"])
def test_the_validation_loss_falls_to_the_end(network: str) -> None:
    curves = (REPOSITORY / f"plots/{network}/curves.csv").read_text().splitlines()
    val_loss = [float(row["val_loss"]) for row in csv.DictReader(curves)]
    assert len(val_loss) == PARAMS.train.epochs
    assert val_loss[-1] <= min(val_loss) + 0.001
    rise = json.loads((REPOSITORY / "metrics/seeds.json").read_text())[network]["val_loss_rise"]
    assert rise["values"][0] == pytest.approx(val_loss[-1] - min(val_loss), abs=1e-5)
    assert rise["mean"] <= 0.001


def experiments(clone: Clone, commit: str) -> list[str]:
    """List the commits of the experiments of seeds 1 and 2."""
    listed = clone.git("for-each-ref", "--format=%(refname)", "refs/exps").split()
    return [
        next(ref for ref in listed if ref.endswith(f"/seed-{seed}-of-{commit}")) for seed in (1, 2)
    ]


def changed(clone: Clone) -> set[str]:
    lines = clone.git("status", "--porcelain", "--untracked-files=all").splitlines()
    return {line[3:] for line in lines}
