"""Dropout draws from its own generator alone."""

import pytest
import torch

from stages.training.dropout import OwnDropout


def test_dropout_draws_from_its_own_generator() -> None:
    dropout = OwnDropout(0.25, torch.Generator().manual_seed(1))
    features = torch.ones(100, 100)
    shared = torch.get_rng_state()
    dropped = dropout(features)
    assert torch.get_rng_state().equal(shared)
    assert dropped.unique().tolist() == pytest.approx([0, 4 / 3])
    assert (dropped == 0).float().mean() == pytest.approx(0.25, abs=0.02)
    dropout.generator.manual_seed(1)
    assert dropout(features).equal(dropped)
    assert dropout.eval()(features).equal(features)
