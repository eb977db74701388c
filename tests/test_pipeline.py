"""The whole pipeline, run by DVC."""

import json
from typing import Any

import pytest

from tests.conftest import Clone

ARTIFACTS = [
    "data/params_checked.txt",
    "data/raw/train-images-idx3-ubyte.gz",
    "data/raw/train-labels-idx1-ubyte.gz",
    "data/raw/t10k-images-idx3-ubyte.gz",
    "data/raw/t10k-labels-idx1-ubyte.gz",
    "data/split/train.safetensors",
    "data/split/val.safetensors",
    "data/split/test.safetensors",
    "plots/samples.png",
    *(
        path.format(net)
        for net in ("two_conv", "lenet5")
        for path in (
            "models/{}/model.safetensors",
            "models/{}/history.csv",
            "metrics/{}.json",
            "plots/{}/curves.png",
            "plots/{}/confusion.png",
            "plots/{}/filters.png",
            "plots/{}/predictions.png",
            "plots/{}/mistakes.png",
            "data/predictions/{}.csv",
        )
    ),
]


def test_one_repro_makes_every_artifact(built: Clone) -> None:
    for path in ARTIFACTS:
        assert (built.path / path).stat().st_size > 0


def test_a_second_repro_has_nothing_to_do(clone: Clone) -> None:
    assert "Data and pipelines are up to date." in clone.dvc("repro")
    assert "Data and pipelines are up to date." in clone.dvc("status")
    assert clone.git("status", "--porcelain") == ""


def test_an_experiment_reruns_one_network_compares_and_going_back_trains_nothing(
    clone: Clone,
) -> None:
    model = clone.read("models/two_conv/model.safetensors")
    forth = clone.dvc("exp", "run", "-S", "two_conv.muon.learning_rate=0.02")
    assert ran(forth) == ["check", "train@two_conv", "evaluate@two_conv", "predict@two_conv"]
    changed = [
        line for line in clone.git("diff", "-U0", "params.yaml").splitlines() if "@" not in line
    ]
    assert [line.split("#")[0].strip() for line in changed[4:]] == [
        "-    learning_rate: 0.03",
        "+    learning_rate: 0.02",
    ], "DVC should leave the layout of params.yaml alone"
    params, metrics = clone.dvc("params", "diff"), clone.dvc("metrics", "diff")
    assert "two_conv.muon.learning_rate" in params
    assert "metrics/two_conv.json" in metrics
    assert "metrics/lenet5.json" not in metrics

    clone.commit("two_conv: a lower learning rate")
    revisions = ("HEAD~1", "HEAD")
    assert "two_conv.muon.learning_rate" in clone.dvc("params", "diff", *revisions)
    metrics = json.loads(clone.dvc("metrics", "diff", *revisions, "--json"))
    assert set(metrics) == {"metrics/two_conv.json"}
    clone.dvc("plots", "diff", *revisions)
    page = clone.read("dvc_plots/index.html").decode()
    assert "HEAD~1" in page
    assert "two_conv/curves.csv" in page

    assert clone.read("models/two_conv/model.safetensors") != model
    back = clone.dvc("exp", "run", "-S", "two_conv.muon.learning_rate=0.03")
    assert "Stage 'train@two_conv' is cached - skipping run" in back
    assert clone.read("models/two_conv/model.safetensors") == model
    assert clone.git("diff", "--stat", "HEAD~1") == ""
    assert clone.git("ls-files", "--others", "--exclude-standard") == ""


def test_experiments_run_from_a_queue_in_copies_of_their_own(clone: Clone) -> None:
    (clone.path / ".resume").mkdir()
    (clone.path / ".resume/lenet5.state").write_text("what a training in the workspace keeps")
    clone.dvc("exp", "run", "--queue", "-S", "lenet5.muon.learning_rate=0.01,0.03", "train@lenet5")
    clone.run("python", "-c", "from tools.common.queue import finish_queue; finish_queue(3)")
    assert clone.read(".resume/lenet5.state") == b"what a training in the workspace keeps"
    assert clone.git("status", "--porcelain") == ""
    shown = json.loads(clone.dvc("exp", "show", "--json"))
    commit = next(entry for entry in shown if entry["rev"] != "workspace")
    rates = {
        experiment["revs"][0]["data"]["params"]["params.yaml"]["data"]["lenet5"]["muon"][
            "learning_rate"
        ]
        for experiment in commit["experiments"]
    }
    assert rates == {0.01, 0.03}
    assert len(commit["experiments"]) == 2


def test_what_is_pushed_can_be_pulled_into_another_clone(clone: Clone, tmp_path) -> None:
    clone.dvc("remote", "add", "--default", "storage", str(tmp_path / "storage"))
    clone.commit("a remote")
    clone.dvc("push")
    clone.run("git", "clone", "--quiet", str(clone.path), str(tmp_path / "second"))
    second = Clone(tmp_path / "second", clone.environment)
    second.dvc("pull")
    for path in ARTIFACTS:
        assert second.read(path) == clone.read(path)
    assert "Data and pipelines are up to date." in second.dvc("repro")


def test_metrics_show_is_a_table_that_a_person_can_read(clone: Clone) -> None:
    header, *rows = clone.dvc("metrics", "show").splitlines()
    assert {f"{split}.accuracy" for split in ("train", "val", "test")} <= set(header.split())
    assert [row.split()[0] for row in rows] == ["metrics/two_conv.json", "metrics/lenet5.json"]
    assert max(len(row) for row in rows) <= 150
    assert all(len(cell.partition(".")[2]) <= 4 for row in rows for cell in row.split()[2:])


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        (
            "two_conv.sgd.learning_rate",
            0,
            "two_conv.sgd.learning_rate: should be greater than 0, not 0",
        ),
        ("two_cnov", {}, "two_cnov: unknown key, did you mean 'two_conv'?"),
        ("networks", ["lenet5 & touch pwned"], "networks: 'lenet5 & touch pwned' is none of"),
    ],
)
def test_a_mistake_in_params_is_refused_before_an_out_is_touched(
    clone: Clone, key: str, value: Any, reason: str
) -> None:
    clone.set_params(
        {key: value, "lenet5 & touch pwned": {}} if key == "networks" else {key: value}
    )
    model = "models/two_conv/model.safetensors"
    before = clone.read(model)
    done = clone.run("dvc", "repro", check=False)
    assert done.returncode != 0
    assert reason in next(line for line in done.stdout.splitlines() if "error: params.yaml" in line)
    assert clone.read(model) == before
    assert not (clone.path / "pwned").exists()


def ran(log: str) -> list[str]:
    """List the stages that DVC ran, in order."""
    prefix = "Running stage '"
    return [
        line.removeprefix(prefix).rstrip("':")
        for line in log.splitlines()
        if line.startswith(prefix)
    ]


@pytest.mark.parametrize("stage", ["fetch", "train"])
def test_a_stage_reports_wrong_params_in_one_line(fresh: Clone, stage: str) -> None:
    fresh.set_params({"train.epochs": 0, "split.val_fraction": "a tenth"})
    network = [] if stage == "fetch" else ["lenet5"]
    done = fresh.stage(stage, *network)
    assert done.returncode == 1
    assert done.stdout.count("\n") == 1
    assert "train.epochs" in done.stdout
    assert "split.val_fraction" in done.stdout
