"""What ours is compared with, on the layers of our networks: a tutorial's loop and a careful one.

No augmentation, no averaging of weights, no pins; torch takes as many threads as it likes.
"""

import time
from collections.abc import Iterator

import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from stages.classifier.image_classifier import build_layers
from stages.classifier.inference import compute_logits, score_logits
from stages.common.params import load_params
from stages.common.tensors import LabelledImages
from stages.networks.two_conv import FlattenChannelsLast

LAYOUTS = {"default": torch.contiguous_format, "channels_last": torch.channels_last}


class PlainLoop:
    """The loop of many a tutorial: a DataLoader over float tensors, Adam, the loss at each step.

    Parameters
    ----------
    name : str
        A network of ``params.yaml``: its layers and its batch size.
    examples : LabelledImages
        What is trained on.
    seed : int
        Of the weights and of the order of the images.
    layout : str
        Of images and weights in memory: a key of ``LAYOUTS``.
    fused : bool
        Whether Adam moves all weights in one operation.
    """

    def __init__(
        self,
        name: str,
        examples: LabelledImages,
        seed: int,
        layout: str = "default",
        fused: bool = False,
    ) -> None:
        torch.manual_seed(seed)
        recipe = load_params().recipe(name)
        layers = build_layers(name, recipe)
        if layout == "default":  # in which that layer would copy
            layers = [nn.Flatten() if isinstance(x, FlattenChannelsLast) else x for x in layers]
        self.batch_size = recipe.batch_size
        self.layers = nn.Sequential(*layers).to(memory_format=LAYOUTS[layout])
        self.optimizer = torch.optim.Adam(self.layers.parameters(), fused=fused)
        self.images = normalise(examples.images).contiguous(memory_format=LAYOUTS[layout])
        self.labels = examples.labels

    def batches(self) -> Iterator[list[torch.Tensor]]:
        """Yield the batches of an epoch, images and labels."""
        examples = TensorDataset(self.images, self.labels)
        yield from DataLoader(examples, self.batch_size, shuffle=True)

    def run_epoch(self) -> Iterator[float]:
        """Train for an epoch; yield the seconds that each step took."""
        self.layers.train()
        total_loss = 0.0
        start = time.perf_counter()
        for images, labels in self.batches():
            self.optimizer.zero_grad()
            loss = F.cross_entropy(self.layers(images), labels)
            loss.backward()
            self.optimizer.step()
            total_loss += loss.item()
            end = time.perf_counter()
            yield end - start
            start = end

    def accuracy(self, examples: LabelledImages) -> float:
        """Measure the share of images that are classified correctly, by one view of each."""
        logits = compute_logits(self.layers, normalise(examples.images))
        return score_logits(logits, examples.labels).accuracy


class CarefulLoop(PlainLoop):
    """The same by someone who cares for speed: no DataLoader, fused Adam, a layout to choose."""

    def __init__(self, name: str, examples: LabelledImages, seed: int, layout: str) -> None:
        super().__init__(name, examples, seed, layout, fused=True)

    def batches(self) -> Iterator[list[torch.Tensor]]:
        """Yield the batches of an epoch, images and labels."""
        for members in torch.randperm(len(self.images)).split(self.batch_size):
            yield [self.images[members], self.labels[members]]


def normalise(images: torch.Tensor) -> torch.Tensor:
    """Turn images, uint8, into floats of about zero mean and unit deviation, as tutorials do."""
    return (images.float() / 255 - 0.2860) / 0.3530
