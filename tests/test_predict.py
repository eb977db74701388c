"""predict: the very answers on the test images that evaluate counted; a user's own pictures."""

import csv
import json
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageOps

from stages.common.console import StageError
from stages.common.fashion_mnist import CLASS_NAMES
from stages.common.tensors import read_split
from stages.pictures.own_pictures import read_picture
from stages.predict import parse_arguments
from tests.conftest import Clone


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
    """Pictures that people might bring: a dark pair of trousers in many guises, and oddities."""
    folder = tmp_path_factory.mktemp("own")
    trousers = Image.new("RGBA", (300, 500), (0, 0, 0, 0))
    pen = ImageDraw.Draw(trousers)
    pen.polygon([(90, 30), (210, 30), (230, 470), (170, 470), (150, 130)], fill=(30, 40, 90, 255))
    pen.polygon([(90, 30), (210, 30), (150, 130), (130, 470), (70, 470)], fill=(30, 40, 90, 255))
    on_white = Image.new("RGBA", trousers.size, "white")
    on_white.alpha_composite(trousers)
    photo = on_white.convert("RGB")
    photo.save(folder / "photo.jpg")
    trousers.save(folder / "alpha.png")
    photo.convert("P").save(folder / "palette.gif")
    photo.convert("CMYK").save(folder / "cmyk.tif")
    ImageOps.invert(photo.convert("L")).save(folder / "dark_background.bmp")
    photo.resize((3000, 5000)).save(folder / "large.webp")
    deep = np.asarray(photo.convert("L"), np.uint16) * 200
    Image.fromarray(deep).save(folder / "sixteen_bits.png")
    wide = Image.new("L", (10_000, 800), 250)
    wide.paste(photo, (5_000, 150))
    wide.save(folder / "wide.png")
    lying = Image.Exif()
    lying[0x0112] = 6  # turn by a quarter to see it upright
    photo.transpose(Image.Transpose.ROTATE_90).save(folder / "phone.jpg", exif=lying)

    Image.new("RGB", (1, 1), "red").save(folder / "one_pixel.png")
    Image.new("RGBA", (50, 50), (0, 0, 0, 0)).save(folder / "transparent.png")
    (folder / "text.png").write_text("not a picture")
    (folder / "empty.png").touch()
    (folder / "cut.jpg").write_bytes((folder / "photo.jpg").read_bytes()[:2000])
    Image.new("1", (12_000, 12_000)).save(folder / "bomb.png")
    (folder / "folder.png").mkdir()
    return folder


GUISES = [
    "photo.jpg",
    "alpha.png",
    "palette.gif",
    "cmyk.tif",
    "dark_background.bmp",
    "large.webp",
    "sixteen_bits.png",
    "wide.png",
    "phone.jpg",
]


def test_a_garment_looks_the_same_in_every_guise(own: Path) -> None:
    expected = read_picture(own / "photo.jpg").float()
    assert expected.shape == (1, 28, 28)
    assert expected[0, 0].max() > 100, "the longest edge fills the image"
    assert expected[0, :, :5].max() == 0, "centred on an empty background"
    for name in GUISES:
        difference = (read_picture(own / name).float() - expected).abs().mean()
        assert difference < 12, name  # of 255: the encodings differ, and brightness


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("one_pixel.png", "an even 1x1 surface, with nothing to classify"),
        ("transparent.png", "an even 50x50 surface, with nothing to classify"),
        ("text.png", "not a picture that Pillow can read"),
        ("empty.png", "not a picture that Pillow can read"),
        ("cut.jpg", "can't be read as a picture"),
        ("bomb.png", "more than 89 million pixels"),
        ("folder.png", "can't be read as a picture"),
        ("absent.png", "no such file"),
    ],
)
def test_what_shows_no_garment_is_refused_in_one_line(own: Path, name: str, reason: str) -> None:
    with pytest.raises(StageError) as refusal:
        read_picture(own / name)
    assert str(refusal.value).startswith(f"{own / name}: {reason}")
    assert "\n" not in str(refusal.value)


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
    for answer in answers:
        probabilities = [one["probability"] for one in answer["likeliest"]]
        assert probabilities == sorted(probabilities, reverse=True)
        assert answer["unsure"] == (probabilities[0] < 0.7)
        assert all(one["class_name"] == CLASS_NAMES[one["class_id"]] for one in answer["likeliest"])


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--json"], "name one or more"),
        (["a.jpg", "--save", "out.jpg"], "should end in .png"),
        (["a.png", "--save", "a.png"], "would overwrite a picture"),
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
