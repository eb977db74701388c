"""A step of training recorded for a GPU."""

import copy

import torch

from stages.common.tensors import LabelledImages
from stages.training.step import Step

WARM_UP = 3  # steps before the recording, in which libraries choose their kernels


class RecordedStep:
    """A step that was recorded once, as a CUDA graph, and is replayed for each batch.

    The launches of kernels this small take longer than the kernels; a graph is one launch. What
    changes from step to step, it reads from memory: images, labels, and the learning rates.

    Parameters
    ----------
    step : Step
        Its network, on a GPU, is left with the weights that it had.
    batch : LabelledImages
        Any batch, as large as all that follow.
    """

    def __init__(self, step: Step, batch: LabelledImages) -> None:
        self.images, self.labels = batch.images.clone(), batch.labels.clone()
        self.graph = torch.cuda.CUDAGraph()
        before = copy.deepcopy(step.network.state_dict())
        for optimizer in step.optimizers:
            optimizer.learning_rate = torch.tensor(0.0, device=self.images.device)
        aside = torch.cuda.Stream()
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):
            for _ in range(WARM_UP):
                step(self.images, self.labels)
        torch.cuda.current_stream().wait_stream(aside)
        with torch.cuda.graph(self.graph):
            self.loss = step(self.images, self.labels)
        # Undo these steps; the momenta stay where the graph reads them.
        step.network.load_state_dict(before)
        for optimizer in step.optimizers:
            for momentum in optimizer.momenta:
                momentum.zero_()

    def __call__(self, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Take the step on another batch; return its loss, which the next step overwrites."""
        self.images.copy_(images)
        self.labels.copy_(labels)
        self.graph.replay()
        return self.loss
