"""make bench: its measurements run, on what the project trains."""

import json
import statistics
from pathlib import Path

import pytest

from stages.common.console import StageError
from stages.common.params import load_params
from tests.conftest import Clone
from tools.bench import tables
from tools.bench.accuracy import SUMMARY, summarise_plain
from tools.bench.loops import LOOPS
from tools.bench.measurements import WARM_UP, measure
from tools.bench.picture import draw_speeds

STEPS = str(WARM_UP + 1)
SPEEDS = {"lenet5": dict.fromkeys(LOOPS, 2700) | {"ours": 5400, "sgemm": 21600}}


@pytest.mark.parametrize("loop", ["unpinned", "careful_channels_last"])
def test_a_loop_trains_and_tells_its_speed_and_memory(loop: str) -> None:
    measured = measure("speed", loop, "two_conv", STEPS)
    assert measured["images_per_second"] > 0
    assert 0.05 < measured["peak_gigabytes"] < 2
    images = int(STEPS) * load_params().two_conv.batch_size
    assert measured["examples_gigabytes"] == images * (28 * 28 + 8) / 1e9


def test_more_workers_are_timed_on_the_same_weights(capsys: pytest.CaptureFixture[str]) -> None:
    tables.print_workers(["lenet5"])
    _, first, *_ = capsys.readouterr().out.partition("times the speed")[2].splitlines()
    *label, _, unit, ratio = first.split()
    assert (label, unit, ratio) == (["lenet5,", "workers:", "1"], "ms", "1.00")


def test_an_epoch_over_more_images_is_measured(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(tables, "GROWTH", (2000,))
    tables.print_growth(["lenet5"])
    *_, row = capsys.readouterr().out.splitlines()
    images = 2000 // 128 * 128  # whole batches
    assert row.startswith("lenet5, 2,000 images ")
    assert row.split()[-2:] == [f"{images * (28 * 28 + 8) / 1e9:.3f}", "GB"]


def test_each_loop_is_measured_beside_a_product_of_matrices(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tables, "STEPS", STEPS)
    monkeypatch.setattr(tables, "LOOPS", ["careful"])
    (speeds,) = tables.measure_speeds(["lenet5"], repeats=1).values()
    assert [*speeds] == ["careful", "sgemm"]
    assert 0 < speeds["careful"] < speeds["sgemm"]


def test_a_process_tells_its_time_and_memory_and_why_it_failed() -> None:
    measured = measure("process", ".", "-c", "kept = bytearray(300_000_000)")
    assert 0 < measured["seconds"] < 60
    assert 0.3 < measured["peak_gigabytes"] < 0.4
    with pytest.raises(StageError, match="no such garment"):
        measure("process", ".", "-c", "import sys; sys.exit('no such garment')")


def test_both_loops_are_compared_on_the_validation_split(built: Clone) -> None:
    for loop in ("plain", "ours"):
        two_epochs = ("accuracies", loop, "lenet5", "2", "1")
        printed = built.run("python", "-m", "tools.bench.measurements", *two_epochs).stdout
        first, second = json.loads(printed)
        assert 0.1 < first < second <= 1


def test_the_plain_loop_is_taken_at_the_best_of_its_epochs() -> None:
    summary = summarise_plain([[0.8, 0.9, 0.9], [0.7, 0.8, 0.6]])
    assert summary == {"mean": 0.85, "accuracies": [0.9, 0.8], "epochs": [2, 2]}


def test_speeds_are_printed_and_drawn_beside_their_ratios_to_ours(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    tables.print_speeds(SPEEDS)
    printed = capsys.readouterr().out
    assert ["lenet5,", "plain", "2,700", "6", "2.00"] in map(str.split, printed.splitlines())
    assert ["lenet5,", "sgemm", "21,600", "49", "0.25"] in map(str.split, printed.splitlines())
    draw_speeds(tmp_path / "speeds.png", SPEEDS)
    assert (tmp_path / "speeds.png").stat().st_size > 0


def test_the_time_to_accuracy_is_the_epochs_by_the_speed(
    capsys: pytest.CaptureFixture[str],
) -> None:
    found = json.loads(SUMMARY.read_text())["lenet5"]
    tables.print_time_to_accuracy(SPEEDS)
    *_, row = capsys.readouterr().out.splitlines()
    plain_seconds = statistics.mean(found["plain"]["epochs"]) * 20
    assert f"{plain_seconds:.0f} s" in row
    assert row.split()[-1] == f"{plain_seconds / (found['ours']['epochs'] * 10):.1f}"
