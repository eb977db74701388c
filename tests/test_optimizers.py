"""Muon and SGD move what is theirs, as torch's own do."""

import pytest
import torch
from torch import nn

from stages.classifier.image_classifier import build_network
from stages.training.optimizers import SGD, Muon, as_matrix, make_optimizers, orthogonalise
from tests.conftest import PARAMS

RATES = (0.1, 0.2, 0.05)  # of the steps that are compared


def test_sgd_steps_as_torchs_own_does() -> None:
    shape, decay = (24, 60), 0.1
    ours, torchs = (nn.Parameter(draw(0, shape)) for _ in range(2))
    sgd = SGD([ours], learning_rate=1, momentum=0.9, weight_decay=decay)
    torchs_sgd = torch.optim.SGD([torchs], momentum=0.9, nesterov=True)
    for step, rate in enumerate(RATES, start=1):
        ours.grad, torchs.grad = draw(step, shape), draw(step, shape)
        torchs.data.mul_(1 - rate * decay)  # by hand, as torch adds its decay to the gradient
        sgd.learning_rate = torchs_sgd.param_groups[0]["lr"] = rate
        sgd.step()
        torchs_sgd.step()
    torch.testing.assert_close(ours, torchs)


@pytest.mark.parametrize("shape", [(24, 60), (60, 24), (16, 1, 5, 5), (16, 6, 5, 5)], ids=str)
def test_muon_steps_as_torchs_own_does_up_to_its_rounding(shape: tuple[int, ...]) -> None:
    start = draw(0, shape)
    ours, torchs = nn.Parameter(start.clone()), nn.Parameter(as_matrix(start).clone())
    rows, columns = torchs.shape
    longer = max(1, rows / columns) ** 0.5  # are torch's steps, as Jordan's; not its decay
    muon = Muon([ours], learning_rate=1, momentum=0.95, weight_decay=0.1)
    torchs_muon = torch.optim.Muon([torchs], momentum=0.95, weight_decay=0.1 * longer)
    for step, rate in enumerate(RATES, start=1):
        ours.grad = draw(step, shape)
        torchs.grad = as_matrix(ours.grad)
        muon.learning_rate, torchs_muon.param_groups[0]["lr"] = rate, rate / longer
        muon.step()
        torchs_muon.step()
    # torch iterates in bfloat16, which rounds by up to 0.4%.
    assert (as_matrix(ours) - torchs).norm() < 0.02 * (ours - start).norm()


@pytest.mark.parametrize("shape", [(128, 800), (800, 128), (32, 25), (10, 6272)], ids=str)
def test_muons_matrices_are_nearly_orthogonal_by_its_authors_iteration(
    shape: tuple[int, int],
) -> None:
    matrix = draw(0, shape)
    found = orthogonalise(matrix)
    expected = matrix.double() / matrix.double().norm()
    for _ in range(5):
        once = expected @ expected.T @ expected
        expected = 3.4445 * expected - 4.7750 * once + 2.0315 * expected @ expected.T @ once
    assert (found - expected).norm() < 1e-5 * expected.norm()  # float32 rounds by 6e-8
    singular = torch.linalg.svdvals(found)
    assert singular.min() > 0.5
    assert singular.max() < 1.3


def draw(seed: int, shape: tuple[int, ...]) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(
    ("name", "many_rows"), [("two_conv", []), ("lenet5", ["layers.13.weight"])], ids=str
)
def test_muon_moves_weights_and_sgd_matrices_of_many_rows_norms_and_biases(
    name: str, many_rows: list[str]
) -> None:
    recipe = PARAMS.recipe(name)
    network = build_network(name, PARAMS)
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


@pytest.mark.parametrize(
    ("max_rows", "kind_of_f6", "kinds"),
    [(84, Muon, {Muon, SGD}), (83, SGD, {Muon, SGD}), (0, SGD, {SGD})],
)
def test_muon_moves_matrices_of_up_to_max_rows(
    max_rows: int, kind_of_f6: type[SGD] | type[Muon], kinds: set[type]
) -> None:
    network = build_network("lenet5", PARAMS)
    muon = PARAMS.lenet5.muon.model_copy(update={"max_rows": max_rows})
    optimizers = make_optimizers(network, PARAMS.lenet5.model_copy(update={"muon": muon}))
    assert {type(optimizer) for optimizer in optimizers} == kinds
    f6 = network.get_parameter("layers.13.weight")  # 84 rows
    (moving,) = (one for one in optimizers if any(f6 is moved for moved in one.parameters))
    assert type(moving) is kind_of_f6


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
    network = build_network("two_conv", PARAMS)
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
