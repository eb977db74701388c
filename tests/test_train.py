"""train: the networks, the loop, and what it hands on."""

import copy
import csv
import itertools
import json
import os
import pty
import subprocess
import termios
from typing import Any

import pytest
import torch
from torch import nn

from stages.classifier.image_classifier import ImageClassifier, build_network, count_parameters
from stages.classifier.views import mirror_and_move
from stages.classifier.weights import read_network
from stages.common.console import StageError
from stages.common.params import Params, RecipeParams, load_params
from stages.common.tensors import LabelledImages
from stages.networks.two_conv import FlattenChannelsLast
from stages.training.augmentation import Batch, draw_changes
from stages.training.dropout import OwnDropout
from stages.training.optimizers import SGD, Muon, make_optimizers
from stages.training.step import Step
from stages.training.trainer import one_cycle
from tests.conftest import REPOSITORY, Clone

NETWORKS = ("two_conv", "lenet5")


@pytest.fixture(scope="module")
def params() -> Params:
    return load_params(REPOSITORY / "params.yaml")


def count(network: nn.Module, kind: type[nn.Module]) -> int:
    return sum(isinstance(module, kind) for module in network.modules())


def shapes(network: ImageClassifier) -> list[tuple[int, ...]]:
    """List the shapes of what the layers with weights put out, without the norms."""
    found = []

    def note(module: nn.Module, _inputs: object, output: torch.Tensor) -> None:
        if isinstance(module, (nn.Conv2d, nn.Linear, nn.MaxPool2d, nn.AvgPool2d)):
            found.append(tuple(output.shape[1:]))

    for module in network.modules():
        module.register_forward_hook(note)
    network.eval()(torch.zeros(1, 1, 28, 28, dtype=torch.uint8))
    return found


def test_two_conv_is_two_convolutions_and_a_linear_layer(params: Params) -> None:
    network = build_network("two_conv", params.two_conv)
    assert (count(network, nn.Conv2d), count(network, nn.Linear)) == (2, 1)
    assert count_parameters(network) <= 200_000


def test_lenet5_has_the_maps_and_units_of_the_paper(params: Params) -> None:
    network = build_network("lenet5", params.lenet5)
    c1, s2, c3, s4, c5, f6, output = (6, 28, 28), (6, 14, 14), (16, 10, 10), (16, 5, 5), 120, 84, 10
    assert shapes(network) == [c1, s2, c3, s4, (c5, 1, 1), (f6,), (output,)]


def test_the_classic_lenet5_has_the_trained_weights_of_the_paper(params: Params) -> None:
    recipe = params.lenet5.model_copy(update={"variant": "classic"})
    network = build_network("lenet5", recipe)
    c1, s2, c3, s4, c5, f6, output = (6, 28, 28), (6, 14, 14), (16, 10, 10), (16, 5, 5), 120, 84, 10
    assert shapes(network) == [c1, s2, c3, s4, (c5, 1, 1), (f6,), (output,)]

    images = torch.randint(256, (64, 1, 28, 28), dtype=torch.uint8)
    network(images).square().sum().backward()
    used = sum(weight.grad.count_nonzero().item() for weight in network.parameters())
    assert used == 60_000 + 850  # the paper counts its output layer, here linear, as not trained


def test_a_device_that_is_not_there_is_refused(clone: Clone) -> None:
    clone.set_params({"train.device": "mps"})
    before = clone.read("models/lenet5/model.safetensors")
    done = clone.stage("train", "lenet5")
    assert done.returncode == 1
    assert done.stdout == (
        "error: params.yaml: train.device: torch finds no mps device here; take cpu, "
        "or install a build of torch for your device\n"
    )
    assert clone.read("models/lenet5/model.safetensors") == before


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_trains_the_same_recipe(clone: Clone) -> None:
    on_cpu = json.loads(clone.read("metrics/two_conv.json"))["val"]["accuracy"]
    clone.set_params({"train.device": "cuda"})
    clone.dvc("repro", "evaluate@two_conv")
    on_gpu = json.loads(clone.read("metrics/two_conv.json"))["val"]["accuracy"]
    assert on_gpu == pytest.approx(on_cpu, abs=0.1)


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_takes_raw_images_and_carries_the_pixel_statistics(
    built: Clone, name: str
) -> None:
    recipe = load_params(built.path / "params.yaml").recipe(name)
    network = read_network(built.path / f"models/{name}/model.safetensors", name, recipe)
    assert network.pixel_mean > 1
    assert network.pixel_std > 1
    assert network(torch.zeros(3, 1, 28, 28, dtype=torch.uint8)).shape == (3, 10)


@pytest.mark.parametrize("name", NETWORKS)
def test_history_has_a_row_an_epoch_and_the_validation_loss_falls(built: Clone, name: str) -> None:
    rows = list(csv.DictReader(built.read(f"models/{name}/history.csv").decode().splitlines()))
    assert list(rows[0]) == [
        "epoch",
        "sgd_learning_rate",
        "train_loss",
        "train_accuracy",
        "val_loss",
        "val_accuracy",
    ]
    assert [row["epoch"] for row in rows] == ["1", "2"]
    assert float(rows[-1]["val_loss"]) < float(rows[0]["val_loss"])


@pytest.mark.parametrize("name", NETWORKS)
def test_the_synthetic_data_set_is_not_learnt_in_one_epoch(built: Clone, name: str) -> None:
    first, *_ = csv.DictReader(built.read(f"models/{name}/history.csv").decode().splitlines())
    assert float(first["val_accuracy"]) < 0.9


def test_the_console_tells_each_epoch_in_a_line(built: Clone) -> None:
    lines = [line for line in built.log.splitlines() if line.startswith("two_conv  epoch")]
    assert len(lines) == 2
    for quantity in ("train loss", "val loss", "train accuracy", "val accuracy"):
        assert quantity in lines[0]
    assert "\r" not in built.log  # the bar is for terminals


def test_a_terminal_shows_a_progress_bar(clone: Clone) -> None:
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 80))
    process = subprocess.Popen(
        ["python", "-m", "stages.train", "lenet5"],  # noqa: S607
        cwd=clone.path,
        env=clone.environment,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    shown = b""
    try:
        while part := os.read(ours, 4096):
            shown += part
    except OSError:  # Linux's way to say that the other side is closed
        pass
    assert process.wait() == 0
    assert b"epoch 1:" in shown
    assert b"/18 [" in shown


def test_another_seed_gives_other_weights(clone: Clone) -> None:
    before = clone.read("models/lenet5/model.safetensors")
    clone.set_params({"train.seed": 2})
    clone.run("python", "-m", "stages.train", "lenet5")
    assert clone.read("models/lenet5/model.safetensors") != before


def test_a_batch_larger_than_the_training_split_is_refused(clone: Clone) -> None:
    clone.set_params({"lenet5.batch_size": 5000})
    done = clone.stage("train", "lenet5")
    assert done.returncode == 1
    assert done.stdout == (
        "error: params.yaml: lenet5.batch_size: 5000 is more than the 900 images "
        "of the training split; choose a smaller batch\n"
    )


def augment(images: torch.Tensor, flip: bool, max_shift: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    changes = draw_changes(len(images), flip, max_shift, generator)
    return mirror_and_move(images, *changes, max_shift)


def test_augmentation_gives_each_mirror_and_shift_and_nothing_else() -> None:
    image = torch.zeros(1, 1, 28, 28, dtype=torch.uint8)
    image[0, 0, 5:20, 8:12] = torch.arange(60, dtype=torch.uint8).view(15, 4) + 1
    expected = {
        torch.roll(flipped, (dy, dx), (-2, -1)).numpy().tobytes()
        for flipped in (image, image.flip(-1))
        for dy, dx in itertools.product((-1, 0, 1), repeat=2)
    }
    images = augment(image.expand(500, 1, 28, 28), flip=True, max_shift=1)
    assert {found.numpy().tobytes() for found in images} == expected


def test_what_is_shifted_in_is_background() -> None:
    image = torch.full((200, 1, 28, 28), 255, dtype=torch.uint8)
    images = augment(image, flip=False, max_shift=2)
    sums = {int(found.count_nonzero()) for found in images}
    assert sums == {a * b for a in (26, 27, 28) for b in (26, 27, 28)}


def test_without_augmentation_images_stay_as_they_are() -> None:
    images = torch.randint(256, (50, 1, 28, 28), dtype=torch.uint8)
    assert torch.equal(augment(images, flip=False, max_shift=0), images)


def test_two_conv_flattens_its_maps_without_a_copy(params: Params) -> None:
    network = build_network("two_conv", params.two_conv)
    (flatten,) = (module for module in network.modules() if isinstance(module, FlattenChannelsLast))
    seen = []
    flatten.register_forward_hook(lambda _, inputs, flat: seen.append((*inputs, flat)))
    network(torch.zeros(3, 1, 28, 28, dtype=torch.uint8))
    ((maps, flat),) = seen
    assert flat.shape == (3, maps[0].numel())
    assert flat.data_ptr() == maps.data_ptr()


@pytest.mark.parametrize("shape", [(128, 800), (800, 128), (32, 25), (10, 6272)])
def test_muon_steps_by_nearly_orthogonal_matrices(shape: tuple[int, int]) -> None:
    weights = nn.Parameter(torch.zeros(shape))
    weights.grad = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    Muon([weights], learning_rate=0.5, momentum=0.95, weight_decay=0).step()
    steps = torch.linalg.svdvals(weights.detach())
    assert steps.min() > 0.25
    assert steps.max() < 0.65
    assert (weights * weights.grad).sum() < 0  # downhill


@pytest.mark.parametrize(
    ("name", "many_rows"), [("two_conv", []), ("lenet5", ["layers.13.weight"])], ids=str
)
def test_muon_moves_weights_and_sgd_matrices_of_many_rows_norms_and_biases(
    params: Params, name: str, many_rows: list[str]
) -> None:
    recipe = params.recipe(name)
    network = build_network(name, recipe)
    muon, *sgd = make_optimizers(network, recipe)
    parameters = dict(network.named_parameters())
    assert type(muon) is Muon
    weights = [key for key, one in parameters.items() if one.ndim > 1 and key not in many_rows]
    assert [*map(id, muon.parameters)] == [id(parameters[key]) for key in weights]
    assert all(type(optimizer) is SGD for optimizer in sgd)
    decaying = [one for optimizer in sgd if optimizer.weight_decay for one in optimizer.parameters]
    assert [*map(id, decaying)] == [id(parameters[key]) for key in many_rows]
    moved = {id(one) for optimizer in (muon, *sgd) for one in optimizer.parameters}
    assert moved == {*map(id, parameters.values())}


@pytest.mark.parametrize("optimizer", [SGD, Muon])
@pytest.mark.parametrize("rate", [0.5, torch.tensor(0.5)], ids=["number", "tensor"])
def test_a_step_takes_rate_times_decay_off_whatever_the_gradient(
    optimizer: type[SGD] | type[Muon], rate: float | torch.Tensor
) -> None:
    weights = nn.Parameter(torch.ones(2, 3))
    weights.grad = torch.zeros(2, 3)
    moving = optimizer([weights], learning_rate=0.5, momentum=0.9, weight_decay=0.1)
    moving.learning_rate = rate  # a tensor in a recorded step
    moving.step()
    torch.testing.assert_close(weights.detach(), torch.full((2, 3), 0.95))


def without_muon(recipe: RecipeParams, **changes: Any) -> RecipeParams:
    changes["muon"] = recipe.muon.model_copy(update={"learning_rate": 0.0})
    return recipe.model_copy(update=changes)


def test_without_muon_weights_decay_and_norms_and_biases_do_not(params: Params) -> None:
    network = build_network("two_conv", params.two_conv)
    optimizers = make_optimizers(network, without_muon(params.two_conv, weight_decay=0.1))
    assert {type(optimizer) for optimizer in optimizers} == {SGD}
    moved = [parameter for optimizer in optimizers for parameter in optimizer.parameters]
    assert {*map(id, moved)} == {*map(id, network.parameters())}
    assert len(moved) == len(list(network.parameters()))
    decays = {
        (parameter.ndim, optimizer.weight_decay)
        for optimizer in optimizers
        for parameter in optimizer.parameters
    }
    assert decays == {(1, 0), (2, 0.1), (4, 0.1)}


@pytest.mark.parametrize("warmup", [0.0, 0.2, 0.5])
def test_the_learning_rate_climbs_to_its_peak_and_falls_towards_zero(
    warmup: float,
) -> None:
    rates = [one_cycle(done, 100, warmup) for done in range(100)]
    peak = rates.index(max(rates))
    assert max(rates) == pytest.approx(1)
    assert peak == pytest.approx(100 * warmup, abs=1)
    assert rates[: peak + 1] == sorted(rates[: peak + 1])
    assert rates[peak + 1 :] == sorted(rates[peak + 1 :], reverse=True)
    assert 0 < rates[-1] < 0.05


def take_a_step(network: nn.Module, recipe: RecipeParams, shards: int) -> torch.Tensor:
    """Take a step on images that are always the same; return its loss."""
    generator = torch.Generator().manual_seed(1)
    images = torch.randint(256, (50, 1, 28, 28), dtype=torch.uint8, generator=generator)
    labels = torch.randint(10, (50,), generator=generator)
    step = Step(network, make_optimizers(network, recipe), recipe.label_smoothing, shards)
    unchanged = draw_changes(len(labels), False, 0, generator)
    batch = Batch(LabelledImages(images, labels), torch.arange(len(labels)), unchanged, 0)
    return step(batch, rate_factor=1.0)


def test_the_shards_add_up_to_the_step_of_the_whole_batch(params: Params) -> None:
    # Batch norm sees shards, and Muon enlarges small differences.
    recipe = without_muon(params.lenet5, variant="classic")
    whole = build_network("lenet5", recipe)
    sharded = copy.deepcopy(whole)
    before = copy.deepcopy(whole.state_dict())
    assert take_a_step(sharded, recipe, shards=3) == pytest.approx(
        take_a_step(whole, recipe, shards=1).item(), rel=1e-5
    )
    for name, expected in whole.state_dict().items():
        torch.testing.assert_close(sharded.state_dict()[name], expected, rtol=1e-4, atol=1e-6)
    weights = dict(whole.named_parameters())
    assert all(not weights[name].equal(before[name]) for name in weights)


def test_batch_norm_keeps_the_mean_of_the_shards_statistics(params: Params) -> None:
    network = build_network("lenet5", params.lenet5)
    norm = next(module for module in network.modules() if isinstance(module, nn.BatchNorm2d))
    seen = []
    norm.register_forward_hook(
        lambda _module, inputs, _output: seen.append(inputs[0].detach().mean((0, 2, 3)))
    )
    take_a_step(network.train(), params.lenet5, shards=2)
    _, *shards = seen  # the first is the look for random draws
    assert len(shards) == 2
    torch.testing.assert_close(norm.running_mean, norm.momentum * (shards[0] + shards[1]) / 2)


def test_a_network_whose_threads_would_share_random_numbers_is_refused(params: Params) -> None:
    network = ImageClassifier(nn.Dropout2d(0.5), nn.Flatten(), nn.Linear(784, 10))
    with pytest.raises(StageError, match="draws random numbers"):
        take_a_step(network.train(), params.lenet5, shards=2)


def test_dropout_draws_from_its_own_generator() -> None:
    dropout = OwnDropout(0.25, torch.Generator().manual_seed(1))
    features = torch.ones(100, 100)
    shared = torch.get_rng_state()
    dropped = dropout(features)
    assert torch.get_rng_state().equal(shared)
    assert dropped.unique().tolist() == pytest.approx([0, 4 / 3])
    assert (dropped == 0).float().mean() == pytest.approx(0.25, abs=0.02)
    dropout.generator.manual_seed(1)
    assert dropout(features).equal(dropped)
    assert dropout.eval()(features).equal(features)
