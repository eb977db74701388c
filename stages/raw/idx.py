"""The IDX format of MNIST: a big-endian header and unsigned bytes, in a gzip file."""

import gzip
import math
import struct
import zlib
from pathlib import Path

import numpy as np

from stages.common.console import StageError, file_error
from stages.common.fashion_mnist import IMAGE_SIZE

UNSIGNED_BYTE = 0x08
MAX_BYTES = 1 << 30  # refuse headers that promise more than this: 1.3 million images


def read_images(path: Path) -> np.ndarray:
    """Read images as uint8 [N, 28, 28].

    Raises
    ------
    StageError
        If the file is missing, damaged, or holds anything else.
    """
    images = read_idx(path, dimensions=3)
    if not len(images):
        raise _file_error(path, "expected images, found none")
    if images.shape[1:] != (IMAGE_SIZE, IMAGE_SIZE):
        found = "x".join(map(str, images.shape[1:]))
        raise _file_error(
            path, f"expected images of {IMAGE_SIZE}x{IMAGE_SIZE} pixels, found {found}"
        )
    return images


def read_labels(path: Path, classes: int) -> np.ndarray:
    """Read labels as uint8 [N], each below ``classes``.

    Raises
    ------
    StageError
        If the file is missing, damaged, or holds anything else.
    """
    labels = read_idx(path, dimensions=1)
    if labels.size and labels.max() >= classes:
        raise _file_error(path, f"expected labels from 0 to {classes - 1}, found {labels.max()}")
    return labels


def read_idx(path: Path, dimensions: int) -> np.ndarray:
    """Read a gzipped IDX file of unsigned bytes with the given number of dimensions.

    Holds in memory no more than the size in the header plus what one read of the gzip file unpacks.

    Raises
    ------
    StageError
        If the file is missing, is not such a file, or is shorter or longer than its header says.
    """
    try:
        with gzip.open(path) as file:
            zeros, kind, found = struct.unpack(">HBB", file.read(4))
            if (zeros, kind, found) != (0, UNSIGNED_BYTE, dimensions):
                magic = (zeros << 16) | (kind << 8) | found
                expected = (UNSIGNED_BYTE << 8) | dimensions
                raise _file_error(path, f"expected the magic number {expected}, found {magic}")
            shape = struct.unpack(f">{dimensions}I", file.read(4 * dimensions))
            size = math.prod(shape)
            if size > MAX_BYTES:
                raise _file_error(
                    path, f"its header promises {size:,} bytes, more than {MAX_BYTES:,}"
                )
            content = file.read(size)
            if len(content) < size or file.read(1):
                more = "more" if len(content) == size else f"{len(content):,}"
                raise _file_error(path, f"its header promises {size:,} bytes, it holds {more}")
            return np.frombuffer(content, np.uint8).reshape(shape)
    except FileNotFoundError:
        raise StageError(f"{path}: no such file; run `dvc repro fetch` to bring it") from None
    except (OSError, EOFError, ValueError, zlib.error, struct.error) as error:
        raise _file_error(path, f"not a whole gzip file in the IDX format ({error})") from None


def encode_idx(array: np.ndarray) -> bytes:
    """Encode a uint8 array of any shape as a gzipped IDX file, the same bytes every time."""
    header = struct.pack(f">HBB{array.ndim}I", 0, UNSIGNED_BYTE, array.ndim, *array.shape)
    # not gzip.compress: its header differs between versions of Python
    return zlib.compress(header + array.tobytes(), level=6, wbits=31)


def _file_error(path: Path, reason: str) -> StageError:
    return file_error(path, reason, "fetch")
