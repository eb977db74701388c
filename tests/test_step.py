"""A step's shards add up to the batch, and share no random numbers."""

import copy

import pytest
import torch
from torch import nn

from stages.classifier.image_classifier import ImageClassifier, build_network
from stages.common.console import StageError
from stages.common.params import RecipeParams
from stages.common.tensors import LabelledImages
from stages.training.augmentation import Batch, draw_changes
from stages.training.optimizers import make_optimizers
from stages.training.step import Step
from tests.conftest import PARAMS


def take_a_step(network: nn.Module, recipe: RecipeParams, shards: int) -> torch.Tensor:
    """Take a step on images that are always the same; return its loss."""
    step, batch = prepare_a_step(network, recipe, shards)
    return step(batch, rate_factor=1.0)


def prepare_a_step(network: nn.Module, recipe: RecipeParams, shards: int) -> tuple[Step, Batch]:
    generator = torch.Generator().manual_seed(1)
    images = torch.randint(256, (50, 1, 28, 28), dtype=torch.uint8, generator=generator)
    labels = torch.randint(10, (50,), generator=generator)
    step = Step(network, make_optimizers(network, recipe), recipe.label_smoothing, shards)
    unchanged = draw_changes(len(labels), False, 0, generator)
    return step, Batch(LabelledImages(images, labels), torch.arange(len(labels)), unchanged, 0)


def test_the_shards_add_up_to_the_step_of_the_whole_batch() -> None:
    # Batch norm sees shards, and Muon enlarges small differences.
    without_muon = PARAMS.lenet5.muon.model_copy(update={"learning_rate": 0.0})
    recipe = PARAMS.lenet5.model_copy(update={"variant": "classic", "muon": without_muon})
    whole = build_network("lenet5", PARAMS.model_copy(update={"lenet5": recipe}))
    sharded = copy.deepcopy(whole)
    before = copy.deepcopy(whole.state_dict())
    assert take_a_step(sharded, recipe, shards=3) == pytest.approx(
        take_a_step(whole, recipe, shards=1).item(), rel=1e-5
    )
    for name, expected in whole.state_dict().items():
        torch.testing.assert_close(sharded.state_dict()[name], expected, rtol=1e-4, atol=1e-6)
    weights = dict(whole.named_parameters())
    assert all(not weights[name].equal(before[name]) for name in weights)


@pytest.mark.parametrize("name", ["two_conv", "lenet5"])
def test_shards_one_after_another_and_rates_in_tensors_give_the_same_bits(name: str) -> None:
    recipe = PARAMS.recipe(name)
    in_threads = build_network(name, PARAMS)
    in_turn = copy.deepcopy(in_threads)
    loss = take_a_step(in_threads, recipe, shards=3)
    step, batch = prepare_a_step(in_turn, recipe, shards=3)
    step._map = map  # as it is off the CPU
    for optimizer in step.optimizers:
        optimizer.learning_rate = torch.tensor(optimizer.peak)
    assert step.take(batch).equal(loss)
    state = in_turn.state_dict()
    assert all(state[key].equal(kept) for key, kept in in_threads.state_dict().items())


def test_batch_norm_keeps_the_mean_of_the_shards_statistics() -> None:
    network = build_network("lenet5", PARAMS)
    norm = next(module for module in network.modules() if isinstance(module, nn.BatchNorm2d))
    seen = []
    norm.register_forward_hook(
        lambda _module, inputs, _output: seen.append(inputs[0].detach().mean((0, 2, 3)))
    )
    take_a_step(network.train(), PARAMS.lenet5, shards=2)
    _, *shards = seen  # the first is the look for random draws
    assert len(shards) == 2
    torch.testing.assert_close(norm.running_mean, norm.momentum * (shards[0] + shards[1]) / 2)


def test_a_network_whose_threads_would_share_random_numbers_is_refused() -> None:
    network = ImageClassifier(nn.Dropout2d(0.5), nn.Flatten(), nn.Linear(784, 10))
    with pytest.raises(StageError, match="draws random numbers"):
        take_a_step(network.train(), PARAMS.lenet5, shards=2)
