"""A step of training recorded for a GPU."""

import copy

import torch

from stages.training.augmentation import Batch
from stages.training.step import Step

WARM_UP = 3  # steps before the recording, in which libraries choose their kernels


class RecordedStep:
    """A step that was recorded once, as a CUDA graph, and is replayed for each batch.

    The launches of kernels this small take longer than the kernels; a graph is one launch. What
    changes from step to step, it reads from memory: which images and how they are changed, and the
    learning rates.

    Parameters
    ----------
    step : Step
        Its network, on a GPU, is left with the weights that it had.
    batch : Batch
        Any, as large as those that follow, from the same examples. Its memory is overwritten.
    """

    def __init__(self, step: Step, batch: Batch) -> None:
        self.optimizers = step.optimizers
        self.batch = batch
        self.graph = torch.cuda.CUDAGraph()
        before = copy.deepcopy(step.network.state_dict())
        for optimizer in self.optimizers:
            optimizer.learning_rate = torch.tensor(0.0, device=batch.members.device)
        aside = torch.cuda.Stream()
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):
            for _ in range(WARM_UP):
                step.take(self.batch)
        torch.cuda.current_stream().wait_stream(aside)
        with torch.cuda.graph(self.graph):
            self.loss = step.take(self.batch)
        # Undo these steps; the momenta stay where the graph reads them.
        step.network.load_state_dict(before)
        for optimizer in self.optimizers:
            for momentum in optimizer.momenta:
                momentum.zero_()

    def __call__(self, batch: Batch, rate_factor: float) -> torch.Tensor:
        """Take the step on another batch; return its loss, which the next step overwrites."""
        for optimizer in self.optimizers:
            optimizer.learning_rate.fill_(rate_factor * optimizer.peak)
        self.batch.overwrite(batch)
        self.graph.replay()
        return self.loss
