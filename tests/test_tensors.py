"""Splits on disk: what is read is whole and ours, or is refused in one line."""

import contextlib
import json
import struct
from pathlib import Path

import pytest
import safetensors.torch
import torch
from hypothesis import given
from hypothesis import strategies as st

from stages.common.console import StageError
from stages.common.tensors import LabelledImages, read_split, read_tensors, write_split
from tests.conftest import assert_refused_in_one_line

IMAGES = torch.arange(2 * 784).to(torch.uint8).view(2, 1, 28, 28)
LABELS = torch.arange(2)
EXAMPLES = LabelledImages(IMAGES, LABELS)


def encode(content: object, images: torch.Tensor, labels: torch.Tensor) -> bytes:
    metadata = {"content": content if isinstance(content, str) else json.dumps(content)}
    return safetensors.torch.save({"images": images, "labels": labels}, metadata)


def encode_header(header: bytes, length: int | None = None) -> bytes:
    return struct.pack("<Q", len(header) if length is None else length) + header


GOOD = encode({"dataset": "synthetic"}, IMAGES, LABELS)
NOT_WHOLE = "not a whole safetensors file"
NOT_OURS = "a safetensors file that this pipeline didn't write"
DAMAGED_SPLITS = {
    "missing": (None, "no such file"),
    "empty": (b"", NOT_WHOLE),
    "truncated": (GOOD[:-1], NOT_WHOLE),
    "something behind it": (GOOD + b"more", NOT_WHOLE),
    "a pickle": (b"\x80\x04}.", NOT_WHOLE),
    "a header of 4 EiB": (encode_header(b"{}", 2**62), NOT_WHOLE),
    "a deep header": (encode_header(b'{"a":' * 10**5), NOT_WHOLE),
    "an endless shape": (
        encode_header(
            b'{"__metadata__": {"content": "{}"}, "images":'
            b'{"dtype": "U8", "shape": [0, 9223372036854775808], "data_offsets": [0, 0]}}'
        ),
        NOT_OURS,
    ),
    "of another program": (safetensors.torch.save({"images": IMAGES}), NOT_OURS),
    "no JSON in it": (encode("{", IMAGES, LABELS), NOT_OURS),
    "deep JSON in it": (encode("[" * 10**5, IMAGES, LABELS), NOT_OURS),
    "a number for its JSON": (encode(3, IMAGES, LABELS), NOT_OURS),
    "no data set's name": (
        encode({}, IMAGES, LABELS),
        "expected the name of a data set, found None",
    ),
    "other tensors": (
        safetensors.torch.save({"weights": LABELS}, {"content": "{}"}),
        "expected images and labels, found ['weights']",
    ),
    "float images": (
        encode({"dataset": "x"}, IMAGES.float(), LABELS),
        "expected images of torch.uint8 ['N', 1, 28, 28], found torch.float32 [2, 1, 28, 28]",
    ),
    "flat images": (
        encode({"dataset": "x"}, IMAGES.view(2, 784), LABELS),
        "found torch.uint8 [2, 784]",
    ),
    "a label too few": (
        encode({"dataset": "x"}, IMAGES, LABELS[:1]),
        "found 2 images and 1 labels",
    ),
    "label 10": (
        encode({"dataset": "x"}, IMAGES, LABELS + 9),
        "expected labels from 0 to 9",
    ),
    "nothing in it": (
        encode({"dataset": "x"}, IMAGES[:0], LABELS[:0]),
        "expected images, found none",
    ),
}


@pytest.mark.parametrize("fault", DAMAGED_SPLITS)
def test_a_damaged_split_is_refused_in_one_line(fault: str, tmp_path: Path) -> None:
    content, reason = DAMAGED_SPLITS[fault]
    path = tmp_path / "val.safetensors"
    message = assert_refused_in_one_line(read_split, path, content, reason, "split")
    assert len(message) < len(str(path)) + 250


def test_a_split_comes_back_as_it_was(tmp_path: Path) -> None:
    write_split(tmp_path / "val.safetensors", EXAMPLES, "synthetic")
    examples, dataset = read_split(tmp_path / "val.safetensors")
    assert dataset == "synthetic"
    assert torch.equal(examples.images, IMAGES)
    assert torch.equal(examples.labels, LABELS)


@given(start=st.integers(0, len(GOOD)), cut=st.integers(0, 8), put=st.binary(max_size=8))
def test_a_mutated_split_is_read_or_refused(
    start: int, cut: int, put: bytes, tmp_path_factory
) -> None:
    path = tmp_path_factory.getbasetemp() / "mutated.safetensors"
    path.write_bytes(GOOD[:start] + put + GOOD[start + cut :])
    with contextlib.suppress(StageError):
        read_split(path)


@given(header=st.binary(max_size=200), length=st.none() | st.integers(0, 2**64 - 1))
def test_any_bytes_are_refused(header: bytes, length: int | None, tmp_path_factory) -> None:
    path = tmp_path_factory.getbasetemp() / "any.safetensors"
    path.write_bytes(encode_header(header, length))
    with pytest.raises(StageError):
        read_tensors(path, "split")
