"""One step of training."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F  # noqa: N812, the field's name for it
from torch import nn

from stages.training.optimizers import Optimizer


class Step:
    """Forward, backward, and the optimizers' turn, for one batch."""

    def __init__(
        self,
        network: nn.Module,
        optimizers: Sequence[Optimizer],
        label_smoothing: float,
    ) -> None:
        self.network = network
        self.optimizers = optimizers
        self.label_smoothing = label_smoothing

    def __call__(self, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Take a step on images, uint8 [N, 1, 28, 28], with labels, int64 [N].

        Returns
        -------
        float32 []
            The loss before the step.
        """
        loss = self.compute_loss(self.network, images, labels)
        self.network.zero_grad()
        loss.backward()
        self.move()
        return loss.detach()

    def compute_loss(
        self, network: nn.Module, images: torch.Tensor, labels: torch.Tensor
    ) -> torch.Tensor:
        """Compute the mean loss, float32 [], of a network on images."""
        return F.cross_entropy(network(images), labels, label_smoothing=self.label_smoothing)

    def move(self) -> None:
        """Let the optimizers move the parameters by their gradients."""
        for optimizer in self.optimizers:
            optimizer.step()
