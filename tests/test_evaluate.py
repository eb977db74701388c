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
def test_metrics_are_of_the_mean_over_ten_views_of_all_three_splits(
    built: Clone, name: str
) -> None:
    metrics = json.loads(built.read(f"metrics/{name}.json"))
    assert list(metrics) == ["dataset", "views", "train", "val", "test", "parameters"]
    assert (metrics["dataset"], metrics["views"]) == ("synthetic", 10)
    recipe = load_params(built.path / "params.yaml").recipe(name)
    network = read_network(built.path / f"models/{name}/model.safetensors", name, recipe)
    val, _ = read_split(built.path / "data/split/val.safetensors")
    for split in ("train", "val", "test"):
        examples, _ = read_split(built.path / f"data/split/{split}.safetensors")
        if split == "train":  # as the history's
            examples = examples.take(slice(len(val)))
        logits = (
            sum(
                compute_logits(network, view)
                for image in (examples.images, examples.images.flip(-1))
                for view in moved(image)
            )
            / 10
        )
        probabilities = logits.double().softmax(dim=1)
        likelihood = probabilities[torch.arange(len(examples)), examples.labels]
        right = (probabilities.argmax(dim=1) == examples.labels).sum().item()
        assert metrics[split]["loss"] == pytest.approx(-likelihood.log().mean().item(), abs=1e-4)
        assert metrics[split]["accuracy"] == pytest.approx(right / len(examples), abs=1e-4)


@pytest.mark.parametrize("name", NETWORKS)
def test_the_last_point_of_the_curves_is_the_metric_of_one_view(built: Clone, name: str) -> None:
    *_, last = csv.DictReader(built.read(f"plots/{name}/curves.csv").decode().splitlines())
    one_view = json.loads(built.read(f"metrics/one_view/{name}.json"))
    assert one_view["views"] == 1
    for split in ("train", "val"):
        for figure in ("loss", "accuracy"):
            expected = pytest.approx(one_view[split][figure], abs=1e-4)
            assert float(last[f"{split}_{figure}"]) == expected


def test_with_one_view_the_metrics_are_those_beside_them(clone: Clone) -> None:
    one_view = clone.read("metrics/one_view/lenet5.json")
    assert clone.read("metrics/lenet5.json") != one_view
    clone.set_params({"evaluate.flip": False, "evaluate.shift": 0})
    assert clone.stage("evaluate", "lenet5").returncode == 0
    assert clone.read("metrics/lenet5.json") == one_view


@pytest.mark.parametrize("name", NETWORKS)
def test_the_confusion_plot_has_a_row_a_test_image(built: Clone, name: str) -> None:
    rows = list(csv.DictReader(built.read(f"plots/{name}/confusion.csv").decode().splitlines()))
    right = sum(row["actual"] == row["predicted"] for row in rows)
    assert len(rows) == 200
    assert right / 200 == json.loads(built.read(f"metrics/{name}.json"))["test"]["accuracy"]


def test_the_console_shows_a_small_table(built: Clone) -> None:
    title = "lenet5 on synthetic, by the mean over 10 views of each image and by one"
    start = built.log.splitlines().index(title)
    header, *rows = built.log.splitlines()[start + 1 : start + 5]
    assert header.split() == ["split", "loss", "accuracy", "one", "view:", "loss", "accuracy"]
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


def moved(images: torch.Tensor) -> list[torch.Tensor]:
    """Return images unmoved and moved by a pixel each way; what is shifted in is background."""
    padded = torch.nn.functional.pad(images, (1, 1, 1, 1))
    places = ((1, 1), (0, 1), (2, 1), (1, 0), (1, 2))
    return [padded[:, :, row : row + 28, column : column + 28] for row, column in places]
