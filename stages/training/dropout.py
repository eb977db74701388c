"""Dropout for one of several threads."""

import torch
from torch import nn


class OwnDropout(nn.Module):
    """Dropout (Srivastava et al. 2014) with a generator of its own.

    ``nn.Dropout`` draws from the one that all threads share: chance would decide which of them gets
    which numbers.

    Parameters
    ----------
    p : float
        The probability that a feature is set to zero; the others are scaled up.
    generator : torch.Generator
        The CPU's.
    """

    def __init__(self, p: float, generator: torch.Generator) -> None:
        super().__init__()
        self.p = p
        self.generator = generator

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Drop some of the features, float32 of any shape, in training."""
        if not self.training or not self.p:
            return features
        kept = torch.empty_like(features).bernoulli_(1 - self.p, generator=self.generator)
        return features * kept.div_(1 - self.p)
