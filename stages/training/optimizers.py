"""What turns gradients into steps: SGD, and Muon for weights."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence

import torch
from torch import nn
from torch.optim.sgd import sgd

from stages.common.params import RecipeParams

# A quintic that pulls singular values between 0 and 1 towards 1, from the authors' code.
COEFFICIENTS = (3.4445, -4.7750, 2.0315)
ITERATIONS = 5


class Optimizer(ABC):
    """What moves some parameters by their gradients, with momentum and weight decay.

    The decay is decoupled: each step takes the share ``learning_rate x weight_decay`` off a
    parameter, whatever its gradient (Loshchilov and Hutter 2019).

    Not a ``torch.optim.Optimizer``: making one loads torch's compiler, which takes seconds.

    Parameters
    ----------
    parameters : iterable of torch.Tensor
        What is moved.
    learning_rate : float
        That of the highest step.
    momentum : float
        The share of the momentum that the next step keeps.
    weight_decay : float
        The share that a step takes off, for each unit of the learning rate.

    Attributes
    ----------
    peak : float
        The learning rate of the highest step.
    learning_rate : float or float32 []
        That of the next step; a tensor where a recorded step reads it from memory.
    momenta : list of torch.Tensor
        One for each parameter, like it in shape and layout.
    """

    def __init__(
        self,
        parameters: Iterable[torch.Tensor],
        learning_rate: float,
        momentum: float,
        weight_decay: float,
    ) -> None:
        self.parameters = list(parameters)
        self.peak = self.learning_rate = learning_rate
        self.momentum = momentum
        self.weight_decay = weight_decay
        self.momenta = [torch.zeros_like(parameter) for parameter in self.parameters]

    @torch.no_grad()
    def step(self) -> None:
        """Let the parameters decay, and change them by their gradients."""
        if self.weight_decay:
            torch._foreach_mul_(self.parameters, 1 - self.learning_rate * self.weight_decay)
        self._descend()

    @abstractmethod
    def _descend(self) -> None: ...


class SGD(Optimizer):
    """Gradient descent with Nesterov momentum."""

    def _descend(self) -> None:
        sgd(
            self.parameters,
            [parameter.grad for parameter in self.parameters],
            self.momenta,
            lr=self.learning_rate,
            momentum=self.momentum,
            nesterov=self.momentum > 0,
            weight_decay=0,
            dampening=0,
            maximize=False,
            fused=True,
        )


class Muon(Optimizer):
    """Nesterov momentum, of which each step takes the nearest orthogonal matrix (Jordan 2024).

    All directions of a layer's weights learn at the same pace, also those whose gradients are
    small: the learning rate is the singular value of a step. Jordan leaves the first and the last
    layer to another optimizer; both networks gain by giving them to Muon too.
    """

    def _descend(self) -> None:
        rate = torch.as_tensor(self.learning_rate, device=self.parameters[0].device)
        for parameter, momentum in zip(self.parameters, self.momenta, strict=True):
            gradient = parameter.grad
            momentum.mul_(self.momentum).add_(gradient)
            ahead = gradient.add(momentum, alpha=self.momentum)
            update = orthogonalise_weights(ahead)
            parameter.addcmul_(update, rate, value=-1)


def make_optimizers(network: nn.Module, recipe: RecipeParams) -> list[Optimizer]:
    """Make Muon for the matrices of weights that the recipe gives it, and SGD for the rest.

    Muon's time is the cube of a matrix's rows, or of its columns if they are fewer: larger ones
    than ``muon.max_rows`` are SGD's. By custom, norms and biases don't decay.
    """
    muon, sgd, decay = recipe.muon, recipe.sgd, recipe.weight_decay
    by_muon, by_sgd, norms_and_biases = [], [], []
    for parameter in network.parameters():
        if parameter.ndim == 1:
            norms_and_biases.append(parameter)
        elif muon.learning_rate and min(as_matrix(parameter).shape) <= muon.max_rows:
            by_muon.append(parameter)
        else:
            by_sgd.append(parameter)
    optimizers = [
        Muon(by_muon, muon.learning_rate, muon.momentum, decay),
        SGD(by_sgd, sgd.learning_rate, sgd.momentum, decay),
        SGD(norms_and_biases, sgd.learning_rate, sgd.momentum, weight_decay=0),
    ]
    return [optimizer for optimizer in optimizers if optimizer.parameters]


def momenta_by_name(network: nn.Module, optimizers: Sequence[Optimizer]) -> dict[str, torch.Tensor]:
    """Return the momentum of each parameter of a network, itself and no copy."""
    names = {parameter: name for name, parameter in network.named_parameters()}
    return {
        names[parameter]: momentum
        for optimizer in optimizers
        for parameter, momentum in zip(optimizer.parameters, optimizer.momenta, strict=True)
    }


def orthogonalise_weights(weights: torch.Tensor) -> torch.Tensor:
    """Orthogonalise the weights of a layer as a matrix."""
    matrix = orthogonalise(as_matrix(weights))
    if takes_rows_by_input(weights):
        return matrix.view(weights.transpose(0, 1).shape).transpose(0, 1)
    return matrix.view_as(weights)


def as_matrix(weights: torch.Tensor) -> torch.Tensor:
    """View the weights of a linear layer, or of a convolution, as a matrix, float32 [M, N]."""
    return (weights.transpose(0, 1) if takes_rows_by_input(weights) else weights).flatten(1)


def takes_rows_by_input(weights: torch.Tensor) -> bool:
    """Tell whether a matrix of weights has a row per input of the layer, not one per output.

    Jordan gives a convolution's matrix a row per map. It has more maps than inputs, and fewer rows
    are faster. A single input would leave nothing to orthogonalise: then the rows are the maps.
    """
    return weights.ndim == 4 and weights.shape[1] > 1


def orthogonalise(matrix: torch.Tensor) -> torch.Tensor:
    """Approximate the nearest orthogonal matrix, float32 [M, N], by Newton and Schulz's iteration.

    Singular values end between about 0.7 and 1.2, the smallest ones below: it serves as well as 1.
    """
    if len(matrix) > matrix.shape[1]:
        return orthogonalise(matrix.T).T
    x = matrix / (matrix.norm() + 1e-7)
    # Each iteration multiplies x by p, a polynomial of its Gram matrix G, and G becomes p G p: so
    # only [M, M] matrices are multiplied until the end.
    gram = x @ x.T
    factors = factor = polynomial(gram)
    for _ in range(ITERATIONS - 1):
        gram = factor @ gram @ factor
        factor = polynomial(gram)
        factors = factor @ factors
    return factors @ x


def polynomial(gram: torch.Tensor) -> torch.Tensor:
    """Compute what an iteration multiplies by: a + b G + c G^2, float32 [M, M]."""
    a, b, c = COEFFICIENTS
    factor = torch.addmm(b * gram, gram, gram, alpha=c)
    factor.diagonal().add_(a)
    return factor
