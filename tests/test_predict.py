"""predict: the very answers on the test images that evaluate counted; a user's own pictures."""

import csv
import json
import os
import shutil
import sys
from pathlib import Path

import pytest

from stages.classifier.calibration import UNSURE_BELOW
from stages.classifier.weights import read_network
from stages.common.fashion_mnist import CLASS_NAMES
from stages.common.layout import model_file
from stages.common.params import load_params
from stages.common.tensors import read_split
from stages.pictures.figures import MOST_TITLED
from stages.predict import classify_pictures, parse_arguments
from tests.conftest import Clone
from tests.guises import GUISES, draw_own_pictures


@pytest.mark.parametrize("name", ["two_conv", "lenet5"])
def test_predictions_follow_the_order_of_the_test_set(built: Clone, name: str) -> None:
    rows = list(csv.DictReader(built.read(f"data/predictions/{name}.csv").decode().splitlines()))
    assert list(rows[0]) == ["index", "class_id", "class_name", "confidence"]
    assert [int(row["index"]) for row in rows] == list(range(200))
    assert all(row["class_name"] == CLASS_NAMES[int(row["class_id"])] for row in rows)
    assert all(0.1 <= float(row["confidence"]) <= 1 for row in rows)

    test, _ = read_split(built.path / "data/split/test.safetensors")
    right = sum(
        int(row["class_id"]) == label for row, label in zip(rows, test.labels.tolist(), strict=True)
    )
    assert right / 200 == json.loads(built.read(f"metrics/{name}.json"))["test"]["accuracy"]


def test_a_model_that_is_not_there_is_one_clear_line(clone: Clone) -> None:
    (clone.path / "models/two_conv/model.safetensors").unlink()
    done = clone.stage("predict", "two_conv")
    assert done.returncode == 1
    assert done.stdout == (
        "error: models/two_conv/model.safetensors: no such file; "
        "run `dvc repro train@two_conv` to make it\n"
    )


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("own")
    draw_own_pictures(folder)
    return folder


def test_own_pictures_are_answered_with_three_classes_each(clone: Clone, own: Path) -> None:
    paths = [str(own / name) for name in (*GUISES, "text.png")]
    done = clone.stage("predict", "two_conv", *paths, "--save", "seen.png")
    assert done.returncode == 1, "because of text.png"
    *answers, error = done.stdout.splitlines()
    assert error == f"error: {paths[-1]}: not a picture that Pillow can read"
    assert [line.partition(": ")[0] for line in answers] == paths[:-1]
    assert all(line.count("%") == 3 for line in answers)
    assert clone.read("seen.png").startswith(b"\x89PNG")
    (clone.path / "seen.png").unlink()
    assert clone.git("status", "--porcelain") == "", "the pipeline's own predictions stay"

    answers = json.loads(clone.stage("predict", "two_conv", *paths[:2], "--json").stdout)
    assert [answer["file"] for answer in answers] == paths[:2]
    assert all(answer["notes"] == [] for answer in answers)
    for answer in answers:
        probabilities = [one["probability"] for one in answer["likeliest"]]
        assert probabilities == sorted(probabilities, reverse=True)
        assert answer["unsure"] == (probabilities[0] < UNSURE_BELOW)
        assert all(one["class_name"] == CLASS_NAMES[one["class_id"]] for one in answer["likeliest"])


def test_any_name_is_answered_in_a_line_and_drawn(clone: Clone, own: Path) -> None:
    names = [b"\xff.png", "\u00e9.png".encode(), b"new\nline.png", b"\x1b[31m.png", b"$x^$.png"]
    names += ["\u65e5".encode() * 80 + b".png", b"W" * 251 + b".png"]
    for name in names:
        shutil.copy(own / "alpha.png", os.fsencode(clone.path) + b"/" + name)
    # As in a locale such as en_US.UTF-8, which may not be installed here.
    strict = {"PYTHONIOENCODING": "utf-8:strict"}
    done = clone.stage("predict", "two_conv", *names, b"\xfe.png", "--save", "x**.png", **strict)
    *answers, error = done.stdout.splitlines()
    assert error == "error: \\xfe.png: no such file"
    shown = [r"\xff.png", "\u00e9.png", r"new\nline.png", r"\x1b[31m.png", "$x^$.png"]
    shown += ["\u65e5" * 80 + ".png", "W" * 251 + ".png"]
    assert [line.partition(": ")[0] for line in answers] == shown
    assert clone.read("x**.png").startswith(b"\x89PNG")


def test_answers_are_printed_whatever_becomes_of_the_drawing(
    built: Clone, own: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    params = load_params(built.path / "params.yaml")
    model = built.path / model_file("two_conv")
    network = read_network(model, "two_conv", params.recipe("two_conv"))
    (tmp_path / "folder.png").mkdir()
    pictures = [own / "text.png", own / "photo.jpg"]
    with pytest.raises(IsADirectoryError) as refusal:
        classify_pictures(network, params, pictures, False, tmp_path / "folder.png")
    assert refusal.value.filename == str(tmp_path / "folder.png")
    printed = capsys.readouterr()
    assert printed.out.startswith(f"{own / 'photo.jpg'}: ")
    assert printed.err == f"error: {own / 'text.png'}: not a picture that Pillow can read\n"


def test_no_link_lets_a_picture_be_overwritten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "link.png").symlink_to("photo.png")
    (tmp_path / "folder").symlink_to(".")
    (tmp_path / "circle.png").symlink_to("circle.png")
    monkeypatch.chdir(tmp_path)
    for saved in ("link.png", "folder/link.png", "photo.png"):
        arguments = ["folder/photo.png", "circle.png", "--save", saved]
        monkeypatch.setattr(sys, "argv", ["predict", "two_conv", *arguments])
        with pytest.raises(SystemExit):
            parse_arguments()
        assert "would overwrite a picture" in capsys.readouterr().err.splitlines()[-1]


def test_names_may_follow_options_and_begin_with_a_dash(clone: Clone, own: Path) -> None:
    shutil.copy(own / "photo.jpg", clone.path / "-x.jpg")
    url = "https://example.com/shoe.jpg"
    done = clone.stage("predict", "two_conv", "--json", "--", "-x.jpg", url)
    *answers, error = done.stdout.splitlines()
    assert [one["file"] for one in json.loads("".join(answers))] == ["-x.jpg"]
    assert error.endswith("shoe.jpg: a URL isn't fetched; save it and name the file")


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--json"], "name one or more"),
        (["a.jpg", "--save", "out.jpg"], "should end in .png"),
        (["a.png", "--save", "a.png"], "would overwrite a picture"),
        (
            [*map(str, range(MOST_TITLED + 1)), "--save", "a.png"],
            f"can draw {MOST_TITLED} pictures",
        ),
    ],
)
def test_wrong_arguments_are_refused(
    arguments: list[str],
    reason: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sys, "argv", ["predict", "two_conv", *arguments])
    with pytest.raises(SystemExit) as end:
        parse_arguments()
    assert end.value.code == 2
    assert reason in capsys.readouterr().err.splitlines()[-1]
