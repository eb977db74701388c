"""The loops that are compared, on the layers of our networks: ours, a tutorial's, a careful one."""

from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F  # noqa: N812, the field's name for it
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
from torch.utils.flop_counter import FlopCounterMode

from stages.classifier.image_classifier import build_layers, build_network
from stages.classifier.inference import compute_logits, score, score_logits
from stages.common.params import load_params
from stages.common.tensors import LabelledImages
from stages.networks.two_conv import FlattenChannelsLast
from stages.train import initialise
from stages.training.trainer import Trainer

RANDOM_PIXELS = {"mean": 127.5, "std": 73.9}


class OurLoop:
    """Ours, of which the averaged weights count.

    Parameters
    ----------
    name : str
        A network of ``params.yaml``.
    examples : LabelledImages
        What is trained on.
    seed : int
        All randomness is derived from it.
    epochs : int
        The learning rate reaches zero after that many.
    pixels : dict
        Mean and standard deviation of the pixels.
    """

    def __init__(
        self,
        name: str,
        examples: LabelledImages,
        seed: int,
        epochs: int = 1,
        pixels: dict[str, float] = RANDOM_PIXELS,
    ) -> None:
        recipe = load_params().recipe(name)
        self.network = initialise(name, recipe, seed, pixels)
        self.trainer = Trainer(self.network, examples, recipe, epochs, seed)
        self.epoch = 0

    def run_epoch(self, on_step: Callable[[], None] = lambda: None) -> None:
        """Train for an epoch, and call ``on_step`` after each step."""
        self.epoch += 1
        self.trainer.run_epoch(self.epoch, on_step)

    def accuracy(self, examples: LabelledImages) -> float:
        """Measure the share of images that are classified correctly, by one view of each."""
        return score(self.trainer.average, examples).accuracy


class PlainLoop:
    """The loop of many a tutorial: a DataLoader over float tensors, Adam, the loss at each step.

    No augmentation, no averaging of weights.

    Parameters
    ----------
    name : str
        A network of ``params.yaml``: its layers and its batch size.
    examples : LabelledImages
        What is trained on.
    seed : int
        Of the weights and of the order of the images.
    """

    layout = torch.contiguous_format
    fused = False  # whether Adam moves all weights in one operation

    def __init__(self, name: str, examples: LabelledImages, seed: int) -> None:
        torch.manual_seed(seed)
        recipe = load_params().recipe(name)
        layers = build_layers(name, recipe)
        if self.layout == torch.contiguous_format:  # in which that layer would copy
            layers = [nn.Flatten() if isinstance(x, FlattenChannelsLast) else x for x in layers]
        self.batch_size = recipe.batch_size
        self.network = nn.Sequential(*layers).to(memory_format=self.layout)
        self.optimizer = torch.optim.Adam(self.network.parameters(), fused=self.fused)
        self.images = normalise(examples.images).contiguous(memory_format=self.layout)
        self.labels = examples.labels

    def batches(self) -> Iterator[list[torch.Tensor]]:
        """Yield the batches of an epoch, images and labels."""
        examples = TensorDataset(self.images, self.labels)
        yield from DataLoader(examples, self.batch_size, shuffle=True)

    def run_epoch(self, on_step: Callable[[], None] = lambda: None) -> None:
        """Train for an epoch, and call ``on_step`` after each step."""
        self.network.train()
        total_loss = 0.0
        for images, labels in self.batches():
            self.optimizer.zero_grad()
            loss = F.cross_entropy(self.network(images), labels)
            loss.backward()
            self.optimizer.step()
            total_loss += loss.item()
            on_step()

    def accuracy(self, examples: LabelledImages) -> float:
        """Measure the share of images that are classified correctly, by one view of each."""
        logits = compute_logits(self.network, normalise(examples.images))
        return score_logits(logits, examples.labels).accuracy


class CarefulLoop(PlainLoop):
    """The same by someone who cares for speed: no DataLoader, fused Adam."""

    fused = True

    def batches(self) -> Iterator[list[torch.Tensor]]:
        """Yield the batches of an epoch, images and labels."""
        for members in torch.randperm(len(self.images)).split(self.batch_size):
            yield [self.images[members], self.labels[members]]


class CarefulLoopChannelsLast(CarefulLoop):
    """The same with images and weights in the other layout."""

    layout = torch.channels_last


LOOPS = {
    "ours": OurLoop,
    "unpinned": OurLoop,
    "plain": PlainLoop,
    "careful": CarefulLoop,
    "careful_channels_last": CarefulLoopChannelsLast,
}


def normalise(images: torch.Tensor) -> torch.Tensor:
    """Turn images, uint8, into floats of about zero mean and unit deviation, as tutorials do."""
    return (images.float() / 255 - 0.2860) / 0.3530


def count_gflop(name: str) -> float:
    """Count the operations of an image, forward and backward, in GFLOP; Muon's are left out."""
    network = build_network(name, load_params().recipe(name))
    images = torch.zeros(2, 1, 28, 28, dtype=torch.uint8)
    with FlopCounterMode(display=False) as counter:
        network(images).sum().backward()
    return counter.get_total_flops() / len(images) / 1e9
