"""The loop of many a tutorial, on the layers of our networks: what ours is compared with."""

import time
from collections.abc import Iterator

import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from stages.classifier.inference import compute_logits, score_logits
from stages.classifier.network import build_network
from stages.common.params import load_params
from stages.common.tensors import LabelledImages
from stages.networks.two_conv import FlattenChannelsLast


class PlainLoop:
    """A DataLoader over float tensors, the default memory layout, Adam, the loss at each step.

    No augmentation, no averaging of weights, no pins; torch takes as many threads as it likes.

    Parameters
    ----------
    name : str
        A network of ``params.yaml``: its layers and its batch size.
    examples : LabelledImages
        What is trained on.
    seed : int
        Of the weights and of the order of the images.
    """

    def __init__(self, name: str, examples: LabelledImages, seed: int) -> None:
        torch.manual_seed(seed)
        recipe = load_params().recipe(name)
        layers = build_network(name, recipe).layers.to(memory_format=torch.contiguous_format)
        for i, layer in enumerate(layers):
            if isinstance(layer, FlattenChannelsLast):  # would copy in this layout
                layers[i] = nn.Flatten()
        self.layers = layers
        self.optimizer = torch.optim.Adam(layers.parameters())
        self.batches = DataLoader(
            TensorDataset(normalise(examples.images), examples.labels),
            recipe.batch_size,
            shuffle=True,
        )

    def run_epoch(self) -> Iterator[float]:
        """Train for an epoch; yield the seconds that each step took."""
        self.layers.train()
        total_loss = 0.0
        start = time.perf_counter()
        for images, labels in self.batches:
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


def normalise(images: torch.Tensor) -> torch.Tensor:
    """Turn images, uint8, into floats of about zero mean and unit deviation, as tutorials do."""
    return (images.float() / 255 - 0.2860) / 0.3530
