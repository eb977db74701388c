"""A user's own pictures, made into images like those of the data set."""

import io
import warnings
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps

from stages.common.console import StageError, printable
from stages.common.fashion_mnist import IMAGE_SIZE

# Of 255; a pixel that differs from the background by less belongs to it: noise, soft shadows.
BACKGROUND_TOLERANCE = 32


def read_picture(path: Path) -> torch.Tensor:
    """Read a picture of one garment the way the data set was made (Xiao et al. 2017, section 2).

    The picture is turned to grey, negated if its background is light, trimmed, resized so that
    its longest edge fills the image, and centred; but not sharpened.

    Returns
    -------
    uint8 [1, 28, 28]
        A light garment on a background of 0.

    Raises
    ------
    StageError
        If the file can't be read as a picture, or shows nothing but a background.
    """
    grey = read_grey(path)
    border = np.concatenate([grey[0], grey[-1], grey[:, 0], grey[:, -1]])
    if np.median(border) > 127:
        grey, border = 255 - grey, 255 - border
    background = np.median(border)
    # Stretched, so that the background is 0 as in the data set and white stays white.
    grey = (grey - background).clip(min=0) * (255 / (255 - background))
    shown = grey > BACKGROUND_TOLERANCE
    if not shown.any():
        raise StageError(
            f"{printable(path)}: an even {grey.shape[1]}x{grey.shape[0]} surface, with nothing to "
            "classify; take a picture with one garment that stands out from its background"
        )
    rows, columns = shown.any(axis=1).nonzero()[0], shown.any(axis=0).nonzero()[0]
    garment = grey[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    return torch.from_numpy(resize_and_centre(garment))[None]


def read_grey(path: Path) -> np.ndarray:
    """Read a picture as it is meant to be seen, without its colours: float32 [H, W], 0 to 255.

    Raises
    ------
    StageError
        If Pillow can't read the file, or can't turn it to grey.
    """
    name = printable(path)
    try:
        with warnings.catch_warnings(), path.open("rb") as file:
            warnings.simplefilter("ignore")  # of what is odd in a file, but can be read
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            # Pillow goes back and forth in a file, which a pipe such as /dev/stdin can't.
            with Image.open(file if file.seekable() else io.BytesIO(file.read())) as picture:
                grey = to_grey(ImageOps.exif_transpose(picture))  # a photo may lie on its side
    except FileNotFoundError:
        raise StageError(f"{name}: no such file") from None
    except (Image.DecompressionBombWarning, Image.DecompressionBombError):
        limit = Image.MAX_IMAGE_PIXELS // 10**6
        raise StageError(f"{name}: more than {limit} million pixels; make it smaller") from None
    except Image.UnidentifiedImageError:
        raise StageError(f"{name}: not a picture that Pillow can read") from None
    except Exception as error:  # each of Pillow's many formats fails in its own ways
        reason = " ".join(str(getattr(error, "strerror", None) or error).split())
        reason = reason or type(error).__name__
        raise StageError(f"{name}: can't be read as a picture ({reason:.120})") from None
    if not grey.size:
        raise StageError(f"{name}: a picture without a pixel")
    return grey


def to_grey(picture: Image.Image) -> np.ndarray:
    """Turn a picture of any of Pillow's modes to grey: float32 [H, W], 0 to 255."""
    if picture.mode.startswith(("I", "F")):  # more than 8 bits a pixel
        values = np.nan_to_num(np.asarray(picture, np.float64), posinf=0, neginf=0)
        spread = np.ptp(values)
        return np.float32((values - values.min()) * (255 / spread if spread else 0))
    if picture.mode == "LAB":  # which Pillow doesn't convert; L is the lightness
        return np.asarray(picture.getchannel("L"), np.float32)
    if picture.has_transparency_data:  # on white, as shops show their clothes
        picture = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture)
    return np.asarray(picture.convert("L"), np.float32)


def resize_and_centre(garment: np.ndarray) -> np.ndarray:
    """Resize a garment, float32 [H, W], to fill uint8 [28, 28] one way, centred the other way."""
    scale = IMAGE_SIZE / max(garment.shape)
    height, width = (max(1, round(edge * scale)) for edge in garment.shape)
    small = Image.fromarray(garment).resize((width, height), Image.Resampling.LANCZOS)
    top, left = (IMAGE_SIZE - height) // 2, (IMAGE_SIZE - width) // 2
    image = np.zeros((IMAGE_SIZE, IMAGE_SIZE), np.uint8)
    image[top : top + height, left : left + width] = np.asarray(small).round().clip(0, 255)
    return image
