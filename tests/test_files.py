"""The writers give files that are whole, and whose content any reader gets back."""

import csv
import json
import math
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from stages.classifier.inference import Score
from stages.common.console import StageError
from stages.common.fashion_mnist import CLASS_NAMES
from stages.common.files import write_bytes, write_csv
from stages.common.history import CURVES, read_history
from stages.evaluate import write_curves, write_metrics
from stages.predict import write_predictions
from tests.conftest import Clone

ANY_FLOAT = st.floats()
# csv.writer leaves a lone carriage return unquoted; no cell of ours has one.
TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\r"))
LABELS = st.lists(st.integers(0, len(CLASS_NAMES) - 1), max_size=20)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("files")


@given(rows=st.lists(st.lists(TEXT, min_size=2, max_size=2)))
def test_csv_rows_of_any_text_come_back(rows: list[list[str]], folder: Path) -> None:
    write_csv(folder / "any.csv", ("a", "b"), rows)
    with (folder / "any.csv").open(newline="", encoding="utf-8") as file:
        assert list(csv.reader(file)) == [["a", "b"], *rows]


@given(
    scores=st.fixed_dictionaries(
        {split: st.builds(Score, ANY_FLOAT, st.floats(0, 1)) for split in ("train", "val", "test")}
    )
)
def test_metrics_are_valid_json_or_refused(scores: dict[str, Score], folder: Path) -> None:
    path = folder / "metrics.json"
    if all(math.isfinite(score.loss) for score in scores.values()):
        write_metrics(path, "synthetic", 10, scores, 7)
        written = json.loads(path.read_bytes())
        for split, score in scores.items():
            assert written[split]["accuracy"] == pytest.approx(score.accuracy, abs=1e-4)
            assert written[split]["loss"] == pytest.approx(score.loss, abs=1e-4)
    else:
        with pytest.raises(StageError, match=r"lower metrics\.sgd\.learning_rate"):
            write_metrics(path, "synthetic", 10, scores, 7)


@given(rows=st.lists(st.lists(ANY_FLOAT, min_size=4, max_size=4), min_size=1, max_size=5))
def test_curves_come_back_or_are_refused(rows: list[list[float]], folder: Path) -> None:
    history = [
        {"epoch": epoch, **dict(zip(CURVES, row, strict=True))}
        for epoch, row in enumerate(rows, start=1)
    ]
    write_curves(folder / "curves.csv", history)
    if all(math.isfinite(value) for row in rows for value in row):
        assert read_history(folder / "curves.csv") == history
    else:
        with pytest.raises(StageError, match="not the history of a training"):
            read_history(folder / "curves.csv")


@given(content=st.binary() | st.text("epoch,tainlsvcury_0123456789.\n\"'").map(str.encode))
def test_any_other_history_is_refused(content: bytes, folder: Path) -> None:
    (folder / "history.csv").write_bytes(content)
    with pytest.raises(StageError):
        read_history(folder / "history.csv")


@given(labels=LABELS, data=st.data())
def test_predictions_come_back_in_order(
    labels: list[int], data: st.DataObject, folder: Path
) -> None:
    confidence = data.draw(
        st.lists(st.floats(0, 1, width=32), min_size=len(labels), max_size=len(labels))
    )
    path = folder / "predictions.csv"
    write_predictions(path, torch.tensor(labels, dtype=torch.int64), torch.tensor(confidence))
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["index"]) for row in rows] == list(range(len(labels)))
    assert [int(row["class_id"]) for row in rows] == labels
    assert [row["class_name"] for row in rows] == [CLASS_NAMES[label] for label in labels]
    assert [float(row["confidence"]) for row in rows] == pytest.approx(confidence, abs=1e-6)


def test_a_writer_that_fails_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    def rows() -> Iterator[list[str]]:
        yield ["half", "written"]
        raise StageError("no more rows")

    path = tmp_path / "table.csv"
    write_bytes(path, b"old")
    with pytest.raises(StageError):
        write_csv(path, ("a", "b"), rows())
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_what_a_killed_writer_left_is_removed_by_the_next(tmp_path: Path) -> None:
    (tmp_path / ".table.csv.abc.part").touch()
    write_bytes(tmp_path / "table.csv", b"new")
    assert [path.name for path in tmp_path.iterdir()] == ["table.csv"]


@pytest.mark.parametrize("name", ["x**.png", "[a]?.csv", "**", "a\nb", "$HOME", "\udcff"])
def test_any_name_is_written_and_takes_no_other_for_its_own(name: str, tmp_path: Path) -> None:
    (tmp_path / f".{name}.abc.part").touch()
    (tmp_path / ".other.abc.part").touch()
    write_bytes(tmp_path / name, b"new")
    assert {path.name for path in tmp_path.iterdir()} == {name, ".other.abc.part"}


FAILING_STAGE = """
from pathlib import Path
from stages.common.console import run_stage
from stages.common.files import replacing

def main():
    with replacing(Path("out")):
        raise OSError({arguments})

run_stage(main)
"""


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ("'no bundle'", "no bundle"),
        ("", "OSError"),
        ("5, 'Input/output error'", "Input/output error"),
    ],
)
def test_a_stage_that_fails_to_write_gives_the_reason_whether_or_not_it_has_a_number(
    arguments: str, reason: str, source: Clone
) -> None:
    code = FAILING_STAGE.format(arguments=arguments)
    done = source.run("python", "-c", code, check=False)
    assert done.returncode == 1
    assert done.stdout == f"error: out: {reason}; nothing was left half-written\n"
