"""make seeds: the spread over seeds, from queued experiments that can be looked at afterwards."""

import json
import statistics

import pytest

from tests.conftest import REPOSITORY, Clone


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
            assert summary[network][split]["accuracies"] == accuracies
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


def test_the_published_spread_is_of_the_committed_metrics() -> None:
    summary = json.loads((REPOSITORY / "metrics/seeds.json").read_text())
    for network, splits in summary.items():
        metrics = json.loads((REPOSITORY / f"metrics/{network}.json").read_text())
        assert splits["seeds"] == [1, 2, 3, 4, 5]
        one_view = json.loads((REPOSITORY / f"metrics/one_view/{network}.json").read_text())
        for split in ("val", "test"):
            assert splits[split]["accuracies"][0] == metrics[split]["accuracy"]
            assert splits[f"{split}_one_view"]["accuracies"][0] == one_view[split]["accuracy"]


def experiments(clone: Clone, commit: str) -> list[str]:
    """List the commits of the experiments of seeds 1 and 2."""
    listed = clone.git("for-each-ref", "--format=%(refname)", "refs/exps").split()
    return [
        next(ref for ref in listed if ref.endswith(f"/seed-{seed}-of-{commit}")) for seed in (1, 2)
    ]


def changed(clone: Clone) -> set[str]:
    lines = clone.git("status", "--porcelain", "--untracked-files=all").splitlines()
    return {line[3:] for line in lines}
