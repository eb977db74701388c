"""make bench: its measurements run, on what the project trains."""

import pytest

from tools.bench.speed import Speed, report
from tools.bench.worker import measure_in_new_process


@pytest.mark.parametrize("loop", ["ours", "unpinned", "plain"])
def test_a_loop_trains_and_is_timed(loop: str) -> None:
    assert measure_in_new_process(loop, "lenet5", "2")["images_per_second"] > 0


def test_an_epoch_tells_its_time_and_memory() -> None:
    measured = measure_in_new_process("epoch", "lenet5", "256")
    assert measured["seconds"] > 0
    assert 0.05 < measured["peak_gigabytes"] < 2
    assert measured["examples_gigabytes"] == 256 * (28 * 28 + 8) / 1e9


def test_the_table_tells_ratios(capsys: pytest.CaptureFixture[str]) -> None:
    report({"lenet5": Speed(ours=3000, unpinned=3300, plain=1500, gflops=50)}, sgemm=100)
    *_, row = capsys.readouterr().out.splitlines()
    assert row.split() == ["lenet5", "3,000", "3,300", "+10%", "1,500", "2.00", "50", "50%"]
