"""One step of training."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F  # noqa: N812, the field's name for it
from torch import nn

from stages.common.tensors import LabelledImages
from stages.training.augmentation import Batch
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

    def __call__(self, batch: Batch) -> torch.Tensor:
        """Take a step on a batch.

        Returns
        -------
        float32 []
            The loss before the step.
        """
        return self.take(batch.make())

    def take(self, examples: LabelledImages) -> torch.Tensor:
        """Take a step on images that are made already; return the loss before it."""
        loss = self.compute_loss(self.network, examples)
        self.network.zero_grad()
        loss.backward()
        self.move()
        return loss.detach()

    def compute_loss(self, network: nn.Module, examples: LabelledImages) -> torch.Tensor:
        """Compute the mean loss, float32 [], of a network."""
        logits = network(examples.images)
        return F.cross_entropy(logits, examples.labels, label_smoothing=self.label_smoothing)

    def move(self) -> None:
        """Let the optimizers move the parameters by their gradients."""
        for optimizer in self.optimizers:
            optimizer.step()
