"""make bench: its measurements run, on what the project trains."""

import json

import pytest

from tests.conftest import Clone
from tools.bench import accuracy, scaling
from tools.bench.speed import Speed, report
from tools.bench.worker import measure_in_new_process


@pytest.mark.parametrize("loop", ["ours", "unpinned", "plain"])
def test_a_loop_trains_and_is_timed(loop: str) -> None:
    assert measure_in_new_process(loop, "lenet5", "2")["images_per_second"] > 0


@pytest.mark.parametrize("layout", ["default", "channels_last"])
def test_the_careful_loop_trains_in_both_layouts(layout: str) -> None:
    assert measure_in_new_process("careful", "two_conv", "2", layout)["images_per_second"] > 0


def test_an_epoch_tells_its_time_and_memory() -> None:
    measured = measure_in_new_process("epoch", "lenet5", "256")
    assert measured["seconds"] > 0
    assert 0.05 < measured["peak_gigabytes"] < 2
    assert measured["examples_gigabytes"] == 256 * (28 * 28 + 8) / 1e9


def test_the_table_tells_ratios(capsys: pytest.CaptureFixture[str]) -> None:
    speed = Speed(ours=3000, unpinned=3300, plain=1500, careful=4000, gflops=50)
    report({"lenet5": speed}, sgemm=100)
    *_, row = capsys.readouterr().out.splitlines()
    expected = ["3,000", "3,300", "+10%", "1,500", "2.00", "4,000", "0.75", "50", "50%"]
    assert row.split() == ["lenet5", *expected]


def test_both_loops_are_compared_on_the_validation_split(built: Clone) -> None:
    worker = ("python", "-m", "tools.bench.worker")
    plain = json.loads(built.run(*worker, "plain_curve", "lenet5", "1").stdout)["val"]
    ours = json.loads(built.run(*worker, "our_accuracy", "lenet5", "1", "1").stdout)["val"]
    assert len(plain) == built.params()["train"]["epochs"]
    assert all(0.1 < val <= 1 for val in (*plain, ours))


def test_the_plain_loop_is_taken_at_the_best_of_its_epochs() -> None:
    summary = accuracy.summarise_plain([[0.8, 0.9, 0.9], [0.7, 0.8, 0.6]])
    assert summary == {"mean": 0.85, "accuracies": [0.9, 0.8], "epochs": [2, 2]}


def test_the_time_to_accuracy_is_the_epochs_by_the_speed(
    capsys: pytest.CaptureFixture[str],
) -> None:
    found = json.loads(accuracy.SUMMARY.read_text())["lenet5"]
    accuracy.report({"lenet5": Speed(ours=5400, unpinned=0, plain=2700, careful=0, gflops=0)})
    *_, row = capsys.readouterr().out.splitlines()
    plain_seconds = sum(found["plain"]["epochs"]) / 3 * 20
    assert f"{plain_seconds:.0f} s" in row
    assert row.split()[-1] == f"{plain_seconds / (found['ours']['epochs'] * 10):.1f}"


def test_more_workers_are_timed_on_the_same_weights(capsys: pytest.CaptureFixture[str]) -> None:
    scaling.report({"lenet5": {1: 0.016, 2: 0.008}})
    *_, row = capsys.readouterr().out.splitlines()
    assert row.split() == ["lenet5,", "workers:", "2", "8.0", "ms", "2.00"]
    one, two = (
        measure_in_new_process("ours", "lenet5", "2", FASHION_MNIST_WORKERS=workers)["weights"]
        for workers in ("1", "2")
    )
    assert one == two
