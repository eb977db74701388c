"""One step of training, cut into shards."""

import copy
from collections.abc import Sequence

import torch
import torch.nn.functional as F  # noqa: N812, the field's name for it
from torch import nn

from stages.common.console import StageError
from stages.common.fashion_mnist import IMAGE_SIZE
from stages.common.workers import map_in_order
from stages.training.augmentation import Batch
from stages.training.dropout import OwnDropout
from stages.training.optimizers import Optimizer


class Step:
    """Forward, backward, and the optimizers' turn, for one batch that is cut into shards.

    On a CPU each shard is computed by one thread, elsewhere one after another. Losses, gradients
    and batch norm's running statistics are added in the order of the shards: the result depends on
    the number of shards, never on that of cores. Batch norm sees a shard at a time, which is ghost
    batch normalization (Hoffer et al. 2017).

    Parameters
    ----------
    network : nn.Module
        Whose parameters are moved.
    optimizers : sequence of Optimizer
        Each has some of the parameters.
    label_smoothing : float
        The share of a label that goes to all classes alike.
    shards : int
        Into how many parts a batch is cut.

    Raises
    ------
    StageError
        If the network is on a CPU and draws random numbers other than by ``nn.Dropout``.
    """

    def __init__(
        self,
        network: nn.Module,
        optimizers: Sequence[Optimizer],
        label_smoothing: float,
        shards: int,
    ) -> None:
        self.network = network
        self.optimizers = optimizers
        self.label_smoothing = label_smoothing
        self.parameters = list(network.parameters())
        self.buffers = floating_buffers(network)
        for parameter in self.parameters:
            # In the parameter's own layout, on which the optimizers count.
            parameter.grad = torch.empty_like(parameter)
        in_threads = self.parameters[0].is_cpu
        self._map = map_in_order if in_threads else map
        self._replicas = [_Replica(network, in_threads) for _ in range(shards)]
        if in_threads:
            _refuse_shared_draws(self._replicas[0].network)

    def __call__(self, batch: Batch, rate_factor: float) -> torch.Tensor:
        """Take a step on a batch, with learning rates of ``rate_factor`` times their peaks.

        Returns
        -------
        float32 []
            The loss before the step.
        """
        for optimizer in self.optimizers:
            optimizer.learning_rate = rate_factor * optimizer.peak
        return self.take(batch)

    def take(self, batch: Batch) -> torch.Tensor:
        """Take a step with the learning rates as they are; return the loss before it."""
        count = len(self._replicas)
        seeds = torch.randint(2**62, (count,)).tolist()
        shards = batch.split(count)
        fractions = [len(shard) / len(batch) for shard in shards]
        losses, gradients = zip(
            *self._map(self._differentiate, self._replicas, seeds, fractions, shards), strict=True
        )
        total = [parameter.grad for parameter in self.parameters]
        torch._foreach_copy_(total, gradients[0])
        for others in gradients[1:]:
            torch._foreach_add_(total, others)
        for optimizer in self.optimizers:
            optimizer.step()
        self._average_buffers()
        return sum(losses)

    def _differentiate(
        self, replica: "_Replica", seed: int, fraction: float, shard: Batch
    ) -> tuple[torch.Tensor, tuple[torch.Tensor, ...]]:
        """Compute what a shard adds to the batch's mean loss, and its gradients."""
        torch._foreach_copy_(replica.buffers, self.buffers)
        replica.generator.manual_seed(seed)
        examples = shard.make()
        logits = replica.network(examples.images)
        loss = fraction * F.cross_entropy(
            logits, examples.labels, label_smoothing=self.label_smoothing
        )
        # Not backward(), which adds to the parameters' gradients: they belong to all threads.
        return loss.detach(), torch.autograd.grad(loss, self.parameters)

    def _average_buffers(self) -> None:
        first, *others = (replica.buffers for replica in self._replicas)
        torch._foreach_copy_(self.buffers, first)
        for count, buffers in enumerate(others, start=2):
            # The mean of so many; what all have alike stays so to the bit.
            torch._foreach_lerp_(self.buffers, buffers, 1 / count)


class _Replica:
    """A network with the parameters of another, but its own buffers and, in a thread, draws."""

    def __init__(self, network: nn.Module, in_threads: bool) -> None:
        shared = {id(parameter): parameter for parameter in network.parameters()}
        self.network = copy.deepcopy(network, shared).train()
        self.buffers = floating_buffers(self.network)
        self.generator = torch.Generator()
        if not in_threads:
            return
        for parent in [*self.network.modules()]:
            for name, child in parent.named_children():
                if isinstance(child, nn.Dropout):
                    setattr(parent, name, OwnDropout(child.p, self.generator))


def _refuse_shared_draws(network: nn.Module) -> None:
    before = torch.get_rng_state()
    network(torch.zeros(2, 1, IMAGE_SIZE, IMAGE_SIZE, dtype=torch.uint8))
    if not torch.get_rng_state().equal(before):
        raise StageError(
            "the network draws random numbers other than by nn.Dropout: "
            "its threads would share them in an order left to chance; take nn.Dropout"
        )


def floating_buffers(network: nn.Module) -> list[torch.Tensor]:
    """List the buffers, without those that count batches."""
    return [buffer for buffer in network.buffers() if buffer.is_floating_point()]
