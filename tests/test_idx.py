"""The IDX reader gives the very content of a file, or says in one line what is wrong with it."""

import contextlib
import gzip
import struct
import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from stages.common.console import StageError
from stages.raw.idx import MAX_BYTES, encode_idx, read_idx, read_images, read_labels
from tests.conftest import assert_refused_in_one_line

IMAGES = np.arange(3 * 28 * 28, dtype=np.uint8).reshape(3, 28, 28)
LABELS = np.arange(10, dtype=np.uint8)
GOOD = encode_idx(IMAGES)
MIB = 1 << 20

ANY_ARRAY = arrays.arrays(np.uint8, arrays.array_shapes(min_dims=1, max_dims=5, min_side=0))


def idx(kind: int, *shape: int, body: bytes) -> bytes:
    """Make a gzipped IDX file whose header need not be true."""
    return gzip.compress(struct.pack(f">HBB{len(shape)}I", 0, kind, len(shape), *shape) + body)


DAMAGED_IMAGES = {
    "missing": (None, "no such file; run `dvc repro fetch`"),
    "empty": (b"", "not a whole gzip file in the IDX format"),
    "an HTML page": (b"<!DOCTYPE html><title>Moved</title>", "not a whole gzip file"),
    "unpacked": (gzip.decompress(GOOD), "not a whole gzip file"),
    "gzip of nothing": (gzip.compress(b""), "not a whole gzip file"),
    "half a header": (gzip.compress(gzip.decompress(GOOD)[:9]), "not a whole gzip file"),
    "truncated": (GOOD[: len(GOOD) // 2], "not a whole gzip file"),
    "no checksum": (GOOD[:-8], "not a whole gzip file"),
    "wrong checksum": (GOOD[:-8] + bytes(4) + GOOD[-4:], "CRC check failed"),
    "something behind it": (GOOD + b"more", "not a whole gzip file"),
    "labels": (encode_idx(LABELS), "expected the magic number 2051, found 2049"),
    "floats": (idx(0x0D, 3, 28, 28, body=bytes(4 * 2352)), "expected the magic number 2051, found"),
    "no magic": (gzip.compress(bytes(100)), "expected the magic number 2051, found 0"),
    "32x32 pixels": (idx(8, 1, 32, 32, body=bytes(1024)), "28x28 pixels, found 32x32"),
    "no images": (idx(8, 0, 28, 28, body=b""), "expected images, found none"),
    "an endless shape": (idx(8, 2**32 - 1, 2**32 - 1, 0, body=b""), "not a whole gzip file"),
    "short": (idx(8, 3, 28, 28, body=bytes(2351)), "promises 2,352 bytes, it holds 2,351"),
    "long": (idx(8, 3, 28, 28, body=bytes(2353)), "promises 2,352 bytes, it holds more"),
    "boundless": (idx(8, 2**32 - 1, 28, 28, body=b""), f"more than {MAX_BYTES:,}"),
}


@pytest.mark.parametrize("fault", DAMAGED_IMAGES)
def test_damaged_images_are_refused_in_one_line(fault: str, tmp_path: Path) -> None:
    content, reason = DAMAGED_IMAGES[fault]
    path = tmp_path / "images.gz"
    assert_refused_in_one_line(read_images, path, content, reason, "fetch")


def test_labels_outside_the_classes_are_refused(tmp_path: Path) -> None:
    (tmp_path / "labels.gz").write_bytes(encode_idx(LABELS))
    assert read_labels(tmp_path / "labels.gz", classes=10).tolist() == list(range(10))
    with pytest.raises(StageError, match="expected labels from 0 to 8, found 9"):
        read_labels(tmp_path / "labels.gz", classes=9)


@pytest.mark.parametrize("promised", [28 * 28, 20 * MIB, 2**32 - 1])
def test_a_gzip_bomb_takes_no_more_memory_than_its_header_promises(
    promised: int, tmp_path: Path
) -> None:
    packer = zlib.compressobj(wbits=31)
    header = struct.pack(">HBB3I", 0, 8, 3, promised // 784 + (promised > MAX_BYTES), 28, 28)
    with (tmp_path / "bomb.gz").open("wb") as file:
        file.write(packer.compress(header))
        for _ in range(64):
            file.write(packer.compress(bytes(MIB)))
        file.write(packer.flush())
    tracemalloc.start()
    with pytest.raises(StageError):
        read_images(tmp_path / "bomb.gz")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    room = promised if promised <= MAX_BYTES else 0
    assert peak < room + 24 * MIB  # what gzip unpacks at once: 8 MiB, and a copy


def test_the_gzip_header_is_the_same_in_every_version_of_python() -> None:
    assert GOOD[:10].hex() == "1f8b0800000000000003"  # no time, no name, made on Unix


@given(array=ANY_ARRAY)
def test_any_array_comes_back_as_it_was(array: np.ndarray, tmp_path_factory) -> None:
    path = tmp_path_factory.getbasetemp() / "round_trip.gz"
    path.write_bytes(encode_idx(array))
    back = read_idx(path, array.ndim)
    assert back.dtype == np.uint8
    assert np.array_equal(back, array)


@st.composite
def mutations(draw: st.DrawFn, original: bytes) -> bytes:
    """Draw a copy of some bytes with one to four pieces replaced, cut out or put in."""
    content = original
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(content)))
        end = draw(st.integers(start, min(start + 8, len(content))) | st.just(len(content)))
        content = content[:start] + draw(st.binary(max_size=8)) + content[end:]
    return content


@given(data=st.data(), array=ANY_ARRAY)
def test_a_mutated_file_is_read_to_the_same_content_or_refused(
    data: st.DataObject, array: np.ndarray, tmp_path_factory
) -> None:
    path = tmp_path_factory.getbasetemp() / "mutated.gz"
    path.write_bytes(data.draw(mutations(encode_idx(array))))
    with contextlib.suppress(StageError):
        assert np.array_equal(read_idx(path, array.ndim), array)


@given(data=st.data(), array=ANY_ARRAY)
def test_a_file_whose_unpacked_bytes_are_mutated_is_read_as_it_stands_or_refused(
    data: st.DataObject, array: np.ndarray, tmp_path_factory
) -> None:
    path = tmp_path_factory.getbasetemp() / "mutated_inside.gz"
    content = data.draw(mutations(gzip.decompress(encode_idx(array))))
    path.write_bytes(gzip.compress(content))
    try:
        read = read_idx(path, array.ndim)
    except StageError:
        return
    assert gzip.decompress(encode_idx(read)) == content


@given(content=st.binary())
def test_any_bytes_are_refused(content: bytes, tmp_path_factory) -> None:
    path = tmp_path_factory.getbasetemp() / "any.gz"
    path.write_bytes(content)
    with pytest.raises(StageError):
        read_idx(path, dimensions=3)
