"""A user's own pictures: a garment is found in any guise, or what is wrong is said in one line."""

import os
import struct
from pathlib import Path
from threading import Thread

import numpy as np
import pytest
import torch
from PIL import Image

from stages.common.console import StageError
from stages.pictures.own_pictures import read_own_picture, read_picture, to_colours
from tests.guises import GUISES, draw_own_pictures


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("own")
    draw_own_pictures(folder)
    return folder


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


def test_a_picture_from_a_pipe_is_read(own: Path, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = Thread(target=pipe.write_bytes, args=[(own / "photo.jpg").read_bytes()])
    writer.start()
    assert torch.equal(read_picture(pipe), read_picture(own / "photo.jpg"))
    writer.join()
