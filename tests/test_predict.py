"""predict: the very answers on the test images that evaluate counted; a user's own pictures."""

import csv
import json
import os
import shutil
import struct
import sys
from pathlib import Path
from threading import Thread

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw, ImageOps

from stages.classifier.weights import read_network
from stages.common.console import StageError
from stages.common.layout import model_file
from stages.common.params import load_params
from stages.common.tensors import read_split
from stages.pictures.own_pictures import read_own_picture, read_picture, to_colours
from stages.predict import classify_pictures, parse_arguments
from tests.conftest import Clone


@pytest.mark.parametrize("name", ["two_conv", "lenet5"])
def test_predictions_follow_the_order_of_the_test_set(built: Clone, name: str) -> None:
    rows = list(csv.DictReader(built.read(f"data/predictions/{name}.csv").decode().splitlines()))
    assert list(rows[0]) == ["index", "class_id", "class_name", "confidence"]
    assert [int(row["index"]) for row in rows] == list(range(200))
    class_names = built.params()["dataset"]["class_names"]
    assert all(row["class_name"] == class_names[int(row["class_id"])] for row in rows)
    assert all(0.1 <= float(row["confidence"]) <= 1 for row in rows)

    test, _ = read_split(built.path / "data/split/test.safetensors", 10)
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
    neutral = Image.new("L", photo.size, 128)
    Image.merge("LAB", (photo.convert("L"), neutral, neutral)).save(folder / "lab.tif")
    photo.save(folder / "animated.gif", save_all=True, append_images=[neutral])
    photo.save(folder / "pages.tif", save_all=True, append_images=[neutral])
    floats = np.asarray(photo.convert("L"), np.float32)
    floats[100, 120:123] = np.inf, -np.inf, np.nan
    Image.fromarray(floats).save(folder / "infinite.tif")
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
    grains = np.random.default_rng(1).integers(0, 256, (200, 300, 3), np.uint8)
    Image.fromarray(grains).save(folder / "noise.png")
    (folder / "iphone.heic").write_bytes(b"\0\0\0\x18ftypheic" + bytes(100))
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
    "lab.tif",
    "animated.gif",
    "pages.tif",
    "infinite.tif",
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
        ("one_pixel.png", "nothing stands out in 1x1 pixels"),
        ("transparent.png", "nothing stands out in 50x50 pixels"),
        ("noise.png", "nothing stands out in 300x200 pixels"),
        ("iphone.heic", "HEIC, as iPhones take photos; export it as JPEG"),
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


@pytest.mark.parametrize(
    "mode",
    [
        *("1", "L", "P", "RGB", "RGBA", "RGBX", "RGBa", "CMYK", "YCbCr", "HSV", "LAB"),
        *("LA", "PA", "I", "I;16", "I;16L", "I;16B", "I;16N", "F"),
    ],
)
def test_every_mode_is_converted(mode: str) -> None:
    converted = to_colours(Image.new(mode, (3, 2)))
    assert converted.mode in ("RGB", "RGBA")
    assert converted.size == (3, 2)


def test_a_photo_whose_other_tags_are_odd_is_turned(own: Path, tmp_path: Path) -> None:
    odd = b"Exif\0\0II*\0\x08\0\0\0\x02\0"
    odd += struct.pack("<HHIHH", 0x0112, 3, 1, 6, 0)  # turn by a quarter
    odd += struct.pack("<HHI4s", 0x011A, 2, 3, b"ab") + bytes(4)  # a resolution that is a text
    with Image.open(own / "phone.jpg") as lying:
        lying.save(tmp_path / "odd.jpg", quality="keep", exif=odd)
    seen, expected = read_picture(tmp_path / "odd.jpg"), read_picture(own / "phone.jpg")
    assert (seen.float() - expected.float()).abs().mean() < 1


def test_what_is_doubtful_is_noted(own: Path, tmp_path: Path) -> None:
    assert read_own_picture(own / "photo.jpg").notes == []
    with Image.open(own / "photo.jpg") as photo:
        two = Image.new("RGB", (700, 500), "white")
        two.paste(photo.resize((240, 400)), (440, 50))
        two.paste(photo, (30, 0))
        two.save(tmp_path / "two.png")
    seen = read_own_picture(tmp_path / "two.png")
    assert seen.notes == ["several things: the largest was taken"]
    difference = seen.image.float() - read_picture(own / "photo.jpg").float()
    assert difference.abs().mean() < 12
    tiles = np.kron(np.random.default_rng(1).integers(100, 256, (10, 10)), np.ones((50, 50)))
    patchwork = Image.fromarray(np.uint8(tiles))
    patchwork.paste("black", (150, 120, 350, 400))
    patchwork.save(tmp_path / "patchwork.png")
    assert "no plain ground around it" in read_own_picture(tmp_path / "patchwork.png").notes


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

    class_names = clone.params()["dataset"]["class_names"]
    answers = json.loads(clone.stage("predict", "two_conv", *paths[:2], "--json").stdout)
    assert [answer["file"] for answer in answers] == paths[:2]
    assert all(answer["notes"] == [] for answer in answers)
    for answer in answers:
        probabilities = [one["probability"] for one in answer["likeliest"]]
        assert probabilities == sorted(probabilities, reverse=True)
        assert answer["unsure"] == (probabilities[0] < 0.7)
        assert all(one["class_name"] == class_names[one["class_id"]] for one in answer["likeliest"])


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
    network = read_network(model, "two_conv", params)
    (tmp_path / "folder.png").mkdir()
    pictures = [own / "text.png", own / "photo.jpg"]
    with pytest.raises(IsADirectoryError) as refusal:
        classify_pictures(network, params, pictures, False, tmp_path / "folder.png")
    assert refusal.value.filename == str(tmp_path / "folder.png")
    printed = capsys.readouterr()
    assert printed.out.startswith(f"{own / 'photo.jpg'}: ")
    assert printed.err == f"error: {own / 'text.png'}: not a picture that Pillow can read\n"


def test_a_picture_from_a_pipe_is_read(own: Path, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = Thread(target=pipe.write_bytes, args=[(own / "photo.jpg").read_bytes()])
    writer.start()
    assert torch.equal(read_picture(pipe), read_picture(own / "photo.jpg"))
    writer.join()


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
        ([*map(str, range(301)), "--save", "a.png"], "can draw 300 pictures"),
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
