"""evaluate: the metrics and the plots tell what the network does."""

import csv
import json

import pytest
import torch
from torch import nn

from stages.classifier.inference import compute_logits
from stages.classifier.weights import read_network
from stages.common.params import load_params
from stages.common.tensors import read_split
from stages.evaluate import first_filters
from tests.conftest import Clone

NETWORKS = ("two_conv", "lenet5")


@pytest.mark.parametrize("name", NETWORKS)
def test_metrics_are_the_losses_and_accuracies_of_all_three_splits(built: Clone, name: str) -> None:
    metrics = json.loads(built.read(f"metrics/{name}.json"))
    assert list(metrics) == ["dataset", "train", "val", "test", "parameters"]
    assert metrics["dataset"] == "synthetic"
    recipe = load_params(built.path / "params.yaml").recipe(name)
    network = read_network(built.path / f"models/{name}/model.safetensors", name, recipe)
    for split in ("train", "val", "test"):
        examples, _ = read_split(built.path / f"data/split/{split}.safetensors")
        mirrored = compute_logits(network, examples.images.flip(-1))
        logits = (compute_logits(network, examples.images) + mirrored) / 2
        probabilities = logits.double().softmax(dim=1)
        likelihood = probabilities[torch.arange(len(examples)), examples.labels]
        right = (probabilities.argmax(dim=1) == examples.labels).sum().item()
        assert metrics[split]["loss"] == pytest.approx(-likelihood.log().mean().item(), abs=1e-4)
        assert metrics[split]["accuracy"] == pytest.approx(right / len(examples), abs=1e-4)


@pytest.mark.parametrize("name", NETWORKS)
def test_the_last_point_of_the_curves_is_the_validation_metric_without_mirror_images(
    built: Clone, name: str
) -> None:
    *_, last = csv.DictReader(built.read(f"plots/{name}/curves.csv").decode().splitlines())
    on_val = json.loads(built.read(f"metrics/one_view/{name}.json"))["val"]
    assert float(last["val_loss"]) == pytest.approx(on_val["loss"], abs=1e-4)
    assert float(last["val_accuracy"]) == pytest.approx(on_val["accuracy"], abs=1e-4)


def test_without_mirror_images_the_metrics_are_those_of_one_view(clone: Clone) -> None:
    one_view = json.loads(clone.read("metrics/one_view/lenet5.json"))
    assert json.loads(clone.read("metrics/lenet5.json"))["val"] != one_view["val"]
    clone.set_params({"evaluate.average_mirrored": False})
    assert clone.stage("evaluate", "lenet5").returncode == 0
    metrics = json.loads(clone.read("metrics/lenet5.json"))
    for split in ("val", "test"):
        assert metrics[split] == one_view[split]


@pytest.mark.parametrize("name", NETWORKS)
def test_the_confusion_plot_has_a_row_a_test_image(built: Clone, name: str) -> None:
    rows = list(csv.DictReader(built.read(f"plots/{name}/confusion.csv").decode().splitlines()))
    right = sum(row["actual"] == row["predicted"] for row in rows)
    assert len(rows) == 200
    assert right / 200 == json.loads(built.read(f"metrics/{name}.json"))["test"]["accuracy"]


def test_the_console_shows_a_small_table(built: Clone) -> None:
    start = built.log.splitlines().index("lenet5 on synthetic")
    header, *rows = built.log.splitlines()[start + 1 : start + 5]
    assert header.split() == ["split", "loss", "accuracy"]
    assert [row.split()[0] for row in rows] == ["train", "val", "test"]


def test_a_history_of_something_else_is_refused(clone: Clone) -> None:
    (clone.path / "models/lenet5/history.csv").write_text("a,b\n1,2\n")
    before = clone.read("metrics/lenet5.json")
    done = clone.stage("evaluate", "lenet5")
    assert done.returncode == 1
    assert done.stdout == (
        "error: models/lenet5/history.csv: missing, or not the history of a training; "
        "delete it and run `dvc repro train@lenet5`\n"
    )
    assert clone.read("metrics/lenet5.json") == before


def test_weights_of_another_network_are_refused(clone: Clone) -> None:
    (clone.path / "models/lenet5/model.safetensors").write_bytes(
        clone.read("models/two_conv/model.safetensors")
    )
    done = clone.stage("evaluate", "lenet5")
    assert done.returncode == 1
    assert done.stdout == (
        "error: models/lenet5/model.safetensors: expected the weights of lenet5, found two_conv; "
        "delete it and run `dvc repro train@lenet5`\n"
    )


def test_a_network_without_convolutions_shows_the_templates_of_its_linear_layer() -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(28 * 28, 10))
    filters = first_filters(network)
    assert filters.shape == (10, 1, 28, 28)
    assert filters[3, 0, 1, 2] == network[1].weight[3, 28 + 2]
