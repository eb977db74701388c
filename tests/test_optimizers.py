"""Muon and SGD move what is theirs, as torch's own do."""

import pytest
import torch
from torch import nn

from stages.classifier.image_classifier import build_network
from stages.common.params import load_params
from stages.training.optimizers import SGD, Muon, as_matrix, make_optimizers, orthogonalise
from tests.conftest import REPOSITORY

PARAMS = load_params(REPOSITORY / "params.yaml")
RATES = (0.1, 0.2, 0.05)


def test_sgd_steps_as_torchs_own_does() -> None:
    ours, torchs = (nn.Parameter(draw(1, (24, 60))) for _ in range(2))
    sgd = SGD([ours], learning_rate=1, momentum=0.9, weight_decay=0.1)
    torchs_sgd = torch.optim.SGD([torchs], momentum=0.9, nesterov=True)
    for step, rate in enumerate(RATES):
        ours.grad, torchs.grad = draw(step, (24, 60)), draw(step, (24, 60))
        take_step(sgd, rate)
        with torch.no_grad():
            torchs.mul_(1 - rate * 0.1)  # decoupled, as torch's own decay isn't
        take_torchs_step(torchs_sgd, rate)
    torch.testing.assert_close(ours, torchs)


@pytest.mark.parametrize("shape", [(24, 60), (60, 24), (16, 6, 5, 5), (16, 1, 5, 5)], ids=str)
def test_muon_steps_as_torchs_own_does(shape: tuple[int, ...]) -> None:
    start = draw(1, shape)
    ours, torchs = nn.Parameter(start.clone()), nn.Parameter(as_matrix(start).clone())
    rows, columns = torchs.shape
    scale = max(1, rows / columns) ** 0.5  # by which torch takes larger steps, but decays the same
    muon = Muon([ours], learning_rate=1, momentum=0.95, weight_decay=0.1)
    torchs_muon = torch.optim.Muon([torchs], weight_decay=0.1 * scale, momentum=0.95)
    for step, rate in enumerate(RATES):
        ours.grad = draw(step, shape)
        torchs.grad = as_matrix(ours.grad)
        take_step(muon, rate)
        take_torchs_step(torchs_muon, rate / scale)
    moved = (ours - start).norm()
    print((as_matrix(ours) - torchs).norm() / moved)
    assert (as_matrix(ours) - torchs).norm() < 0.03 * moved  # torch iterates in bfloat16


def draw(seed: int, shape: tuple[int, ...]) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def take_step(optimizer, rate):
    optimizer.learning_rate = rate
    optimizer.step()


def take_torchs_step(optimizer, rate):
    optimizer.param_groups[0]["lr"] = rate
    optimizer.step()


@pytest.mark.parametrize("shape", [(128, 800), (800, 128), (32, 25), (10, 6272)])
def test_muons_matrices_are_those_of_its_authors_iteration(shape: tuple[int, int]) -> None:
    matrix = draw(1, shape)
    found = orthogonalise(matrix)
    x = matrix.double() if shape[0] <= shape[1] else matrix.double().T
    x /= x.norm()
    a, b, c = 3.4445, -4.7750, 2.0315
    for _ in range(5):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    x = x if shape[0] <= shape[1] else x.T
    print((found - x).norm() / x.norm(), (found - x).abs().max(), x.abs().max())
    singular = torch.linalg.svdvals(found)
    print(singular.min(), singular.max())


@pytest.mark.parametrize(
    ("name", "many_rows"), [("two_conv", []), ("lenet5", ["layers.13.weight"])], ids=str
)
def test_muon_moves_weights_and_sgd_matrices_of_many_rows_norms_and_biases(
    name: str, many_rows: list[str]
) -> None:
    recipe = PARAMS.recipe(name)
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


def test_without_muon_weights_decay_and_norms_and_biases_do_not() -> None:
    network = build_network("two_conv", PARAMS.two_conv)
    without_muon = PARAMS.two_conv.muon.model_copy(update={"learning_rate": 0.0})
    recipe = PARAMS.two_conv.model_copy(update={"muon": without_muon, "weight_decay": 0.1})
    optimizers = make_optimizers(network, recipe)
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
