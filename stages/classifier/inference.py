"""What a trained network says of images."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F  # noqa: N812, the field's name for it
from torch import nn

from stages.classifier.views import views_of
from stages.common.params import EvaluateParams
from stages.common.tensors import LabelledImages
from stages.common.workers import map_in_order

BATCH_SIZE = 100  # images; part of the result, as it decides how sums are split


class Score(NamedTuple):
    """Cross-entropy in nats and the share of images that are classified correctly."""

    loss: float
    accuracy: float


def compute_logits(network: nn.Module, images: torch.Tensor) -> torch.Tensor:
    """Compute logits, float32 [N, 10], of images, uint8 [N, 1, 28, 28], in evaluation mode."""
    network.eval()
    call = torch.inference_mode(network)  # in each thread: the mode is a thread's own
    map_batches = map_in_order if images.is_cpu else map
    return torch.cat([*map_batches(call, images.split(BATCH_SIZE))])


def compute_logits_of_views(
    network: nn.Module, images: torch.Tensor, params: EvaluateParams
) -> list[torch.Tensor]:
    """Compute logits, float32 [N, 10], by each of the views; by the images as they are first."""
    return [compute_logits(network, view) for view in views_of(images, params)]


def mean_logits(of_views: Sequence[torch.Tensor]) -> torch.Tensor:
    """Compute what a network answers with: the mean over the views, float32 [N, 10]."""
    first, *others = of_views
    return sum(others, first) / len(of_views)


def score(network: nn.Module, examples: LabelledImages) -> Score:
    """Compute the plain cross-entropy and the accuracy on labelled images."""
    return score_logits(compute_logits(network, examples.images), examples.labels)


def score_logits(logits: torch.Tensor, labels: torch.Tensor) -> Score:
    """Compute the plain cross-entropy and the accuracy of logits, float32 [N, 10]."""
    loss = F.cross_entropy(logits, labels).item()
    accuracy = (logits.argmax(dim=1) == labels).sum().item() / len(labels)
    return Score(loss, accuracy)
