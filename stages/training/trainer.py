"""The training of one network, an epoch at a time."""

import copy
import math
from collections.abc import Callable

import torch
from torch import nn

from stages.classifier.image_classifier import ImageClassifier
from stages.common.determinism import derive_seed
from stages.common.params import RecipeParams
from stages.common.tensors import LabelledImages
from stages.training.augmentation import Batch, draw_changes
from stages.training.cuda_step import RecordedStep
from stages.training.optimizers import make_optimizers, momenta_by_name
from stages.training.step import Step, floating_buffers

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
        The network's section of ``params.yaml``.
    epochs : int
        The learning rate reaches zero after that many.
    seed : int
        All randomness is derived from it.
    device : torch.device
        Where to train; the network stays there.

    Attributes
    ----------
    average : ImageClassifier
        The exponential moving average of the weights and of batch norm's statistics: the result.
    optimizers : list of Optimizer
        They move the network's parameters.
    sgd_learning_rate : float
        That of the latest step.
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
        self.epochs = epochs
        self.total_steps = self.steps_per_epoch * epochs
        self.sgd_learning_rate = 0.0
        self.average = copy.deepcopy(network)
        self.optimizers = make_optimizers(network, recipe)
        self._averaged = _averaged_tensors(self.average)
        self._current = _averaged_tensors(network)
        self._take_step = self._make_step()

    def _make_step(self) -> Step | RecordedStep:
        recipe = self.recipe
        step = Step(self.network, self.optimizers, recipe.label_smoothing, recipe.shards)
        if self.device.type != "cuda":
            return step
        members = torch.arange(recipe.batch_size, dtype=torch.int32, device=self.device)
        changes = draw_changes(len(members), False, recipe.max_shift, torch.Generator())
        batch = Batch(self.examples, members, changes.to(self.device), recipe.max_shift)
        return RecordedStep(step, batch)

    def run_epoch(self, epoch: int, on_step: Callable[[], None] = lambda: None) -> None:
        """Train for one epoch, counted from 1, and call ``on_step`` after each step.

        Raises
        ------
        FloatingPointError
            If the loss of a step or a weight after the last one is not a finite number.
        """
        torch.manual_seed(derive_seed(self.seed, "dropout", epoch))
        steps = self.steps_per_epoch
        size = self.recipe.batch_size
        max_shift = self.recipe.max_shift
        shuffling = torch.Generator().manual_seed(derive_seed(self.seed, "batches", epoch))
        # int32: the same order in half the memory, which counts as the data set grows.
        order = torch.randperm(len(self.examples), generator=shuffling, dtype=torch.int32)
        augmenting = torch.Generator().manual_seed(derive_seed(self.seed, "augmentation", epoch))
        changes = draw_changes(steps * size, self.recipe.flip, max_shift, augmenting)
        # To the device at once: a copy per step would make it wait.
        order, changes = order.to(self.device), changes.to(self.device)
        losses = torch.empty(steps, device=self.device)
        for step in range(steps):
            members = slice(step * size, (step + 1) * size)
            batch = Batch(self.examples, order[members], changes.take(members), max_shift)
            done = (epoch - 1) * steps + step
            rate_factor = one_cycle(done, self.total_steps, self.recipe.warmup)
            losses[step] = self._take_step(batch, rate_factor)
            self._update_average(done)
            on_step()
        self.sgd_learning_rate = self.recipe.sgd.learning_rate * rate_factor
        self._check_finite(epoch, losses)

    def state(self) -> dict[str, torch.Tensor]:
        """Return all that the next epoch depends on, beside what the trainer was made from."""
        momenta = momenta_by_name(self.network, self.optimizers)
        return {
            **{f"network.{key}": value for key, value in self.network.state_dict().items()},
            **{f"average.{key}": value for key, value in self.average.state_dict().items()},
            **{f"momentum.{key}": value for key, value in momenta.items()},
        }

    def load_state(self, state: dict[str, torch.Tensor]) -> None:
        """Go back to a state that ``state`` returned."""
        parts: dict[str, dict[str, torch.Tensor]] = {"network": {}, "average": {}, "momentum": {}}
        for name, tensor in state.items():
            part, key = name.split(".", 1)
            parts[part][key] = tensor
        self.network.load_state_dict(parts["network"])
        self.average.load_state_dict(parts["average"])
        for name, momentum in momenta_by_name(self.network, self.optimizers).items():
            momentum.copy_(parts["momentum"][name])  # in place: a recorded step reads it there

    def _check_finite(self, epoch: int, losses: torch.Tensor) -> None:
        for step, loss in enumerate(losses.tolist(), start=1):
            if not math.isfinite(loss):
                raise _diverged(epoch, step, f"the training loss is {loss}")
        if not all(tensor.isfinite().all() for tensor in self._averaged):
            # The last step's own loss was computed before it broke the weights.
            raise _diverged(epoch, self.steps_per_epoch, "a weight is not a finite number")

    @torch.no_grad()
    def _update_average(self, done: int) -> None:
        # Young averages forget faster, or the random first weights would linger.
        decay = min(self.recipe.ema_decay, (1 + done) / (10 + done))
        torch._foreach_lerp_(self._averaged, self._current, 1 - decay)


def one_cycle(done: int, total: int, warmup: float) -> float:
    """Compute the factor of the peak learning rates in the step after ``done`` of ``total`` steps.

    It climbs linearly for the share ``warmup`` of the steps, then falls linearly to zero
    (Smith and Topin 2018, without the change of momentum).
    """
    climbing = warmup * total
    climb = (done + 1) / climbing if climbing else 1.0
    fall = (total - done) / (total - climbing)
    return min(climb, fall, 1.0)


def _averaged_tensors(network: nn.Module) -> list[torch.Tensor]:
    return [*network.parameters(), *floating_buffers(network)]


def _diverged(epoch: int, step: int, reason: str) -> FloatingPointError:
    return FloatingPointError(f"epoch {epoch}, step {step}: {reason}")
