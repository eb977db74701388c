"""The training loop, one epoch at a time."""

import copy
import ctypes
import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812, the field's name for it
from torch import nn

from stages.common.augmentation import apply_changes, draw_changes
from stages.common.console import StageError
from stages.common.determinism import derive_seed
from stages.common.networks import ImageClassifier
from stages.common.optimizers import make_optimizers
from stages.common.params import RecipeParams
from stages.common.tensors import LabelledImages

CPU = torch.device("cpu")


class Trainer:
    """The training of one network: a one-cycle learning rate, and an average of the weights.

    All randomness of an epoch comes from seeds derived for it, so that the state between two
    epochs is tensors alone.

    Parameters
    ----------
    network : ImageClassifier
        Changed in place.
    examples : LabelledImages
        The training split.
    recipe : RecipeParams
    epochs : int
        The learning rate reaches zero after that many.
    seed : int
    device : torch.device
        Where to train; the network stays there.

    Attributes
    ----------
    average : ImageClassifier
        The exponential moving average of the weights and of batch norm's statistics: the result.
    learning_rate : float
        That of SGD in the latest step.
    """

    def __init__(
        self,
        network: ImageClassifier,
        examples: LabelledImages,
        recipe: RecipeParams,
        epochs: int,
        seed: int,
        device: torch.device = CPU,
    ) -> None:
        self.network = network.to(device)
        self.examples = examples.to(device)
        self.device = device
        self.recipe = recipe
        self.seed = seed
        self.steps_per_epoch = len(examples) // recipe.batch_size
        self.total_steps = self.steps_per_epoch * epochs
        self.learning_rate = 0.0
        self.average = copy.deepcopy(network)
        self._kept, self._current = (
            [tensor for tensor in _tensors(of) if tensor.is_floating_point()]
            for of in (self.average, network)
        )
        self.optimizers = make_optimizers(network, recipe)
        _keep_freed_memory()
        if device.type == "cuda":
            self._record_step()

    def run_epoch(self, epoch: int, on_step: Callable[[], None] = lambda: None) -> None:
        """Train for one epoch, counted from 1, and call ``on_step`` after each step.

        Raises
        ------
        StageError
            If the loss of a step or a weight after the last one is not a finite number.
        """
        torch.manual_seed(derive_seed(self.seed, "dropout", epoch))
        steps, size, max_shift = self.steps_per_epoch, self.recipe.batch_size, self.recipe.max_shift
        shuffling = torch.Generator().manual_seed(derive_seed(self.seed, "batches", epoch))
        # int32, the same numbers in half the memory: for ever more images, all but theirs counts.
        order = torch.randperm(len(self.examples), generator=shuffling, dtype=torch.int32)
        augmenting = torch.Generator().manual_seed(derive_seed(self.seed, "augmentation", epoch))
        changes = draw_changes(steps * size, self.recipe.flip, max_shift, augmenting)
        # To the device at once: a copy a step would make it wait.
        order, changes = order.to(self.device), changes.to(self.device)
        losses = torch.empty(steps, device=self.device)
        self.network.train()
        for step in range(steps):
            of_batch = slice(step * size, (step + 1) * size)
            batch = self.examples.take(order[of_batch])
            images = apply_changes(batch.images, changes.take(of_batch), max_shift)
            done = (epoch - 1) * steps + step
            self._set_learning_rates(one_cycle(done, self.total_steps, self.recipe.warmup))
            losses[step] = self._take_step(images, batch.labels)
            self._update_average(done)
            on_step()
        self._check_finite(epoch, losses)

    def state(self) -> dict[str, torch.Tensor]:
        """Return all that the next epoch depends on, beside what the trainer was made from."""
        return {
            **{f"network.{key}": value for key, value in self.network.state_dict().items()},
            **{f"average.{key}": value for key, value in self.average.state_dict().items()},
            **{f"momentum.{key}": buffer for key, buffer in self._momentum_buffers().items()},
        }

    def load_state(self, state: dict[str, torch.Tensor]) -> None:
        """Go back to a state that ``state`` returned."""
        parts: dict[str, dict[str, torch.Tensor]] = {"network": {}, "average": {}, "momentum": {}}
        for name, tensor in state.items():
            part, key = name.split(".", 1)
            parts[part][key] = tensor
        self.network.load_state_dict(parts["network"])
        self.average.load_state_dict(parts["average"])
        named = dict(self.network.named_parameters())
        for key, buffer in parts["momentum"].items():
            # like the parameter, channels last: the fused step wants the same strides
            fresh = torch.empty_like(named[key])
            # where there is one, a recorded step reads it there
            self._optimizer_state(named[key]).setdefault("momentum_buffer", fresh).copy_(buffer)

    def _momentum_buffers(self) -> dict[str, torch.Tensor]:
        buffers = {
            key: self._optimizer_state(parameter).get("momentum_buffer")
            for key, parameter in self.network.named_parameters()
        }
        return {key: buffer for key, buffer in buffers.items() if buffer is not None}

    def _optimizer_state(self, parameter: nn.Parameter) -> dict[str, torch.Tensor]:
        (state,) = (
            optimizer.state[parameter]
            for optimizer in self.optimizers
            for group in optimizer.param_groups
            if any(parameter is member for member in group["params"])
        )
        return state

    def _set_learning_rates(self, share: float) -> None:
        self.learning_rate = self.recipe.learning_rate * share
        for group in self._groups():
            learning_rate = group["initial_lr"] * share
            if isinstance(group["lr"], torch.Tensor):  # a recorded step reads it there
                group["lr"].fill_(learning_rate)
            else:
                group["lr"] = learning_rate

    def _groups(self) -> Iterator[dict[str, Any]]:
        for optimizer in self.optimizers:
            yield from optimizer.param_groups

    def _take_step(self, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        smoothing = self.recipe.label_smoothing
        loss = F.cross_entropy(self.network(images), labels, label_smoothing=smoothing)
        self.network.zero_grad()
        loss.backward()
        for optimizer in self.optimizers:
            optimizer.step()
        return loss.detach()

    def _check_finite(self, epoch: int, losses: torch.Tensor) -> None:
        for step, loss in enumerate(losses.tolist(), start=1):
            if not math.isfinite(loss):
                raise _diverged(epoch, step, f"the training loss is {loss}")
        if not all(tensor.isfinite().all() for tensor in _tensors(self.average)):
            # The last step's own loss was computed before it broke the weights.
            raise _diverged(epoch, self.steps_per_epoch, "a weight is not a finite number")

    @torch.no_grad()
    def _update_average(self, done: int) -> None:
        # Young averages forget faster, lest the random first weights linger.
        decay = min(self.recipe.ema_decay, (1 + done) / (10 + done))
        torch._foreach_lerp_(self._kept, self._current, 1 - decay)

    def _record_step(self) -> None:
        """Record a step as a CUDA graph.

        On a GPU, the launches of kernels this small take longer than the kernels; a graph is one
        launch. What changes from step to step, it reads from memory: images, labels, and the
        learning rates.
        """
        self.network.train()
        before = copy.deepcopy(self.network.state_dict())
        for group in self._groups():
            group["lr"] = torch.tensor(0.0, device=self.device)
        first = self.examples.take(slice(self.recipe.batch_size))
        images, labels = first.images.clone(), first.labels.clone()
        # In some steps before the recording, libraries choose their kernels.
        aside = torch.cuda.Stream()
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):
            for _ in range(3):
                self._take_step(images, labels)
        torch.cuda.current_stream().wait_stream(aside)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            loss = self._take_step(images, labels)
        # Undo these steps; the momenta stay where the graph reads them.
        self.network.load_state_dict(before)
        for buffer in self._momentum_buffers().values():
            buffer.zero_()

        def replay(batch_images: torch.Tensor, batch_labels: torch.Tensor) -> torch.Tensor:
            images.copy_(batch_images)
            labels.copy_(batch_labels)
            graph.replay()
            return loss

        self._take_step = replay


def _tensors(network: nn.Module) -> Iterator[torch.Tensor]:
    yield from network.parameters()
    yield from network.buffers()


def one_cycle(done: int, total: int, warmup: float) -> float:
    """Compute the share of the peak learning rate in the step after ``done`` of ``total`` steps.

    It climbs linearly for the share ``warmup`` of the steps, then falls linearly to zero
    (Smith and Topin 2018, without the change of momentum).
    """
    climbing = warmup * total
    climb = (done + 1) / climbing if climbing else 1.0
    fall = (total - done) / (total - climbing)
    return min(climb, fall, 1.0)


def _diverged(epoch: int, step: int, what: str) -> StageError:
    return StageError(f"epoch {epoch}, step {step}: {what}; lower the learning rate in params.yaml")


def _keep_freed_memory() -> None:
    """Tell glibc to keep large freed blocks, which every step needs again.

    By default it hands them back to the kernel and pays with page faults at the next step.
    """
    m_trim_threshold, m_mmap_threshold = -1, -3  # from glibc's malloc.h
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # not glibc
        return
    mallopt(m_mmap_threshold, 2**25)  # the most that glibc takes
    mallopt(m_trim_threshold, 2**31 - 1)
