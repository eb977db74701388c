"""What turns gradients into steps: SGD, and Muon for weights."""

from collections.abc import Iterable

import torch
from torch import nn

from stages.common.params import RecipeParams

# A quintic that pulls singular values between 0 and 1 towards 1, from the authors' code.
COEFFICIENTS = (3.4445, -4.7750, 2.0315)
ITERATIONS = 5


def make_optimizers(network: nn.Module, recipe: RecipeParams) -> list[torch.optim.Optimizer]:
    """Make SGD with Nesterov momentum and, where the recipe has it, Muon for the weights.

    Norms and biases are always SGD's. Each group of parameters has the peak of its learning rate
    in ``initial_lr``.
    """
    weights = [parameter for parameter in network.parameters() if parameter.ndim > 1]
    norms_and_biases = [parameter for parameter in network.parameters() if parameter.ndim == 1]
    optimizers = []
    groups = [{"params": norms_and_biases, "weight_decay": 0}]  # by custom, these don't decay
    if recipe.muon_learning_rate:
        optimizers.append(Muon(weights, lr=recipe.muon_learning_rate))
    else:
        groups.append({"params": weights})
    sgd = torch.optim.SGD(
        groups,
        lr=recipe.learning_rate,
        momentum=recipe.momentum,
        nesterov=recipe.momentum > 0,
        weight_decay=recipe.weight_decay,
        fused=True,
    )
    optimizers.append(sgd)
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["initial_lr"] = group["lr"]
    return optimizers


class Muon(torch.optim.Optimizer):
    """Nesterov momentum, of which each step takes the nearest orthogonal matrix (Jordan 2024).

    All directions of a layer's weights learn at the same pace, also those whose gradients are
    small. A convolution counts as a matrix of [maps, inputs x height x width]. Jordan leaves the
    first and the last layer to another optimizer; ``two_conv`` gains by giving them to Muon too.

    Parameters
    ----------
    parameters : iterable of torch.Tensor
        Of two or more dimensions.
    lr : float
        The singular values of a step.
    momentum : float
    """

    def __init__(
        self, parameters: Iterable[torch.Tensor], lr: float, momentum: float = 0.95
    ) -> None:
        super().__init__(parameters, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self) -> None:
        """Change the parameters by their gradients."""
        for group in self.param_groups:
            for parameter in group["params"]:
                state, gradient = self.state[parameter], parameter.grad
                if "momentum_buffer" not in state:
                    state["momentum_buffer"] = torch.zeros_like(parameter)
                momentum = state["momentum_buffer"].mul_(group["momentum"]).add_(gradient)
                ahead = gradient.add(momentum, alpha=group["momentum"])
                update = orthogonalise(ahead.flatten(1)).view_as(parameter)
                if isinstance(group["lr"], torch.Tensor):  # on a GPU, in a recorded step
                    parameter.sub_(update * group["lr"])
                else:
                    parameter.sub_(update, alpha=group["lr"])


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
