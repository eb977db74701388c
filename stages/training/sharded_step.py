"""A step of training cut into shards, for the cores of a CPU."""

import copy

import torch
from torch import nn

from stages.common.console import StageError
from stages.common.fashion_mnist import IMAGE_SIZE
from stages.common.workers import map_in_order
from stages.training.augmentation import Batch
from stages.training.dropout import OwnDropout
from stages.training.step import Step


class ShardedStep:
    """A step whose batch is cut into shards, each computed by one thread.

    Losses, gradients and batch norm's running statistics are added in the order of the shards: the
    result depends on the number of shards, never on that of cores. Batch norm sees a shard at a
    time, which is ghost batch normalization (Hoffer et al. 2017).

    Parameters
    ----------
    step : Step
        Of a network on the CPU.
    shards : int
        Into how many parts a batch is cut.

    Raises
    ------
    StageError
        If the network draws random numbers other than by ``nn.Dropout``.
    """

    def __init__(self, step: Step, shards: int) -> None:
        self.step = step
        self.parameters = list(step.network.parameters())
        self.buffers = floating_buffers(step.network)
        for parameter in self.parameters:
            # In the parameter's own layout, on which the optimizers count.
            parameter.grad = torch.empty_like(parameter)
        self.replicas = [_Replica(step.network) for _ in range(shards)]
        _refuse_shared_draws(self.replicas[0].network)

    def __call__(self, batch: Batch) -> torch.Tensor:
        """Take a step on a batch.

        Returns
        -------
        float32 []
            The loss before the step.
        """
        count = len(self.replicas)
        seeds = torch.randint(2**62, (count,)).tolist()
        shards = batch.split(count)
        shares = [len(shard) / len(batch) for shard in shards]
        losses, gradients = zip(
            *map_in_order(self._differentiate, self.replicas, seeds, shares, shards), strict=True
        )
        total = [parameter.grad for parameter in self.parameters]
        torch._foreach_copy_(total, gradients[0])
        for others in gradients[1:]:
            torch._foreach_add_(total, others)
        self.step.move()
        self._average_buffers()
        return sum(losses)

    def _differentiate(
        self, replica: "_Replica", seed: int, share: float, shard: Batch
    ) -> tuple[torch.Tensor, tuple[torch.Tensor, ...]]:
        """Compute a shard's share of the batch's mean loss, and its gradients."""
        torch._foreach_copy_(replica.buffers, self.buffers)
        replica.generator.manual_seed(seed)
        loss = share * self.step.compute_loss(replica.network, shard.make())
        # Not backward(), which adds to the parameters' gradients: they belong to all threads.
        return loss.detach(), torch.autograd.grad(loss, self.parameters)

    def _average_buffers(self) -> None:
        first, *others = (replica.buffers for replica in self.replicas)
        torch._foreach_copy_(self.buffers, first)
        for count, buffers in enumerate(others, start=2):
            # The mean of so many; what all have alike stays so to the bit.
            torch._foreach_lerp_(self.buffers, buffers, 1 / count)


class _Replica:
    """A network with the parameters of another, but its own buffers and random numbers."""

    def __init__(self, network: nn.Module) -> None:
        shared = {id(parameter): parameter for parameter in network.parameters()}
        self.network = copy.deepcopy(network, shared).train()
        self.buffers = floating_buffers(self.network)
        self.generator = torch.Generator()
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
    """List the buffers, but for those that count batches."""
    return [buffer for buffer in network.buffers() if buffer.is_floating_point()]
