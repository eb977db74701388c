"""Muon: momentum whose steps are orthogonal matrices (Jordan et al. 2024)."""

from collections.abc import Iterable

import torch

# A quintic that pulls singular values between 0 and 1 towards 1, from the authors' code.
COEFFICIENTS = (3.4445, -4.7750, 2.0315)
ITERATIONS = 5


class Muon(torch.optim.Optimizer):
    """Nesterov momentum, of which each step takes the nearest orthogonal matrix.

    All directions of a layer's weights learn at the same pace, also those whose gradients are
    small. For the weights of hidden layers: a convolution counts as a matrix of [maps, inputs x
    height x width].

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
                parameter.sub_(update, alpha=group["lr"])


def orthogonalise(matrix: torch.Tensor) -> torch.Tensor:
    """Approximate the nearest orthogonal matrix, float32 [M, N], by Newton and Schulz's iteration.

    Singular values end between about 0.7 and 1.2, which serves as well as 1.
    """
    if len(matrix) > matrix.shape[1]:
        return orthogonalise(matrix.T).T
    a, b, c = COEFFICIENTS
    x = matrix / (matrix.norm() + 1e-7)
    for _ in range(ITERATIONS):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x
