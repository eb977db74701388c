"""A user's own pictures, made into images like those of the data set."""

import io
import warnings
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import ExifTags, Image

from stages.common.console import StageError, printable
from stages.pictures.garment import find_garment

DRAFT = (1500, 1500)  # JPEGs are read no larger than need be, but no smaller than this
THUMBNAIL = (224, 224)
# How to turn a photo, by the orientation that its camera noted.
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
HEIC_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")

with suppress(ImportError):  # a package that those install who have such pictures
    from pillow_heif import register_heif_opener

    register_heif_opener()


class OwnPicture(NamedTuple):
    """What a network sees of a picture, uint8 [1, 28, 28], what is doubtful, and itself, small."""

    image: torch.Tensor
    notes: list[str]
    thumbnail: Image.Image


def read_picture(path: Path) -> torch.Tensor:
    """Read what a network sees of a picture of one garment: uint8 [1, 28, 28].

    Raises
    ------
    StageError
        As ``read_own_picture`` does.
    """
    return read_own_picture(path).image


def read_own_picture(path: Path) -> OwnPicture:
    """Read a picture of one garment the way the data set was made (Xiao et al. 2017, section 2).

    The garment is light on a background of 0, resized so that its longest edge fills the image, and
    centred; but not sharpened.

    Raises
    ------
    StageError
        If the file can't be read as a picture, or nothing stands out in it.
    """
    picture = open_picture(path)
    found = find_garment(picture)
    if found is None:
        raise StageError(
            f"{printable(path)}: nothing stands out in {picture.width}x{picture.height} pixels; "
            "take a picture of one garment on a plain ground of another colour"
        )
    picture.thumbnail(THUMBNAIL)
    return OwnPicture(*found, on_white(picture))


def open_picture(path: Path) -> Image.Image:
    """Open a picture as it is meant to be seen, in RGB, or in RGBA if some of it is transparent.

    Raises
    ------
    StageError
        If Pillow can't read the file, or can't convert it.
    """
    name = printable(path)
    try:
        with warnings.catch_warnings(), path.open("rb") as file:
            warnings.simplefilter("ignore")  # of what is odd in a file, but can be read
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            # Pillow goes back and forth in a file, which a pipe such as /dev/stdin can't.
            content = file if file.seekable() else io.BytesIO(file.read())
            start = content.read(12)
            content.seek(0)
            with Image.open(content) as opened:
                opened.draft(None, DRAFT)
                picture = to_colours(upright(opened))
    except FileNotFoundError:
        if name.startswith(("http:", "https:")):
            raise StageError(f"{name}: a URL isn't fetched; save it and name the file") from None
        raise StageError(f"{name}: no such file") from None
    except (Image.DecompressionBombWarning, Image.DecompressionBombError):
        limit = Image.MAX_IMAGE_PIXELS // 10**6
        raise StageError(f"{name}: more than {limit} million pixels; make it smaller") from None
    except Image.UnidentifiedImageError:
        if start[4:8] == b"ftyp" and start[8:] in HEIC_BRANDS:
            raise StageError(
                f"{name}: HEIC, as iPhones take photos; export it as JPEG, "
                "or install the package pillow-heif"
            ) from None
        raise StageError(f"{name}: not a picture that Pillow can read") from None
    except Exception as error:  # each of Pillow's many formats fails in its own ways
        reason = " ".join(str(getattr(error, "strerror", None) or error).split())
        reason = reason or type(error).__name__
        raise StageError(f"{name}: can't be read as a picture ({reason:.120})") from None
    if not picture.width or not picture.height:
        raise StageError(f"{name}: a picture without a pixel")
    return picture


def upright(picture: Image.Image) -> Image.Image:
    """Turn a photo that lies on its side. What else its camera noted may be odd."""
    try:
        orientation = picture.getexif().get(ExifTags.Base.Orientation)
    except Exception:  # as each of Pillow's formats
        orientation = None
    return picture.transpose(TURNS[orientation]) if orientation in TURNS else picture


def to_colours(picture: Image.Image) -> Image.Image:
    """Convert a picture of any of Pillow's modes to RGB, or to RGBA if it is a cut-out."""
    if picture.mode.startswith(("I", "F")):  # more than 8 bits a pixel
        values = np.nan_to_num(np.asarray(picture, np.float64), posinf=0, neginf=0)
        spread = np.ptp(values)
        values = (values - values.min()) * (255 / spread if spread else 0)
        picture = Image.fromarray(np.uint8(values.round()))
    elif picture.mode == "LAB":  # which Pillow doesn't convert; L is the lightness
        picture = picture.getchannel("L")
    if not picture.has_transparency_data:
        return picture.convert("RGB")
    picture = picture.convert("RGBA")
    transparent = sum(picture.getchannel("A").histogram()[:128])
    # Less than that is no cut-out, but a photo with round corners.
    few = transparent < 0.02 * picture.width * picture.height
    return on_white(picture) if few else picture


def on_white(picture: Image.Image) -> Image.Image:
    """Lay a picture, RGB or RGBA, on white, as shops show their clothes."""
    if picture.mode == "RGB":
        return picture
    return Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture).convert("RGB")
