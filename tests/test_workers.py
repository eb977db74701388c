"""The number of workers: the user's, if it is one."""

import pytest

from stages.common.console import StageError
from stages.common.workers import WORKERS_SETTING, count_workers


@pytest.mark.parametrize("wrong", ["two", "0", "-1", "1.5"])
def test_a_wrong_number_of_workers_is_refused(wrong: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(WORKERS_SETTING, wrong)
    with pytest.raises(StageError) as refusal:
        count_workers()
    assert str(refusal.value) == (
        f"FASHION_MNIST_WORKERS={wrong}: should be a number of cores, such as 1"
    )


def test_the_users_number_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(WORKERS_SETTING, "3")
    assert count_workers() == 3
