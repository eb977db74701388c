"""The trainer's learning rate."""

import pytest

from stages.training.trainer import one_cycle


@pytest.mark.parametrize("warmup", [0.0, 0.2, 0.5])
def test_the_learning_rate_climbs_to_its_peak_and_falls_towards_zero(
    warmup: float,
) -> None:
    rates = [one_cycle(done, 100, warmup) for done in range(100)]
    peak = rates.index(max(rates))
    assert max(rates) == pytest.approx(1)
    assert peak == pytest.approx(100 * warmup, abs=1)
    assert rates[: peak + 1] == sorted(rates[: peak + 1])
    assert rates[peak + 1 :] == sorted(rates[peak + 1 :], reverse=True)
    assert 0 < rates[-1] < 0.05
