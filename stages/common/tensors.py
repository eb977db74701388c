"""Tensors and splits on disk: safetensors files, checked when they are read."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import safetensors
import safetensors.torch
import torch

from stages.common.console import StageError, file_error
from stages.common.fashion_mnist import CLASS_NAMES, IMAGE_SIZE
from stages.common.files import write_bytes

METADATA_KEY = "content"  # one key only: with several, their order varies from process to process


@dataclass(frozen=True)
class LabelledImages:
    """Images and their classes: uint8 [N, 1, 28, 28] and int64 [N]."""

    images: torch.Tensor
    labels: torch.Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, index: torch.Tensor | slice) -> "LabelledImages":
        """Return those at ``index``."""
        return LabelledImages(self.images[index], self.labels[index])

    def to(self, device: torch.device) -> "LabelledImages":
        """Return them on a device; where they are there already, nothing is copied."""
        return LabelledImages(self.images.to(device), self.labels.to(device))


def write_tensors(path: Path, tensors: dict[str, torch.Tensor], content: dict) -> None:
    """Write named tensors with a JSON description of them, whole or not at all."""
    metadata = {METADATA_KEY: json.dumps(content, sort_keys=True)}
    tensors = {name: tensor.contiguous() for name, tensor in tensors.items()}
    write_bytes(path, safetensors.torch.save(tensors, metadata))


def read_tensors(path: Path, rebuild: str) -> tuple[dict[str, torch.Tensor], dict]:
    """Read what ``write_tensors`` wrote.

    Parameters
    ----------
    path : Path
        A safetensors file.
    rebuild : str
        The stage that writes this file, for the error's advice.

    Raises
    ------
    StageError
        If the file is missing, damaged, or not ours.
    """
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        return tensors, dict(json.loads(metadata[METADATA_KEY]))
    except FileNotFoundError:
        raise StageError(f"{path}: no such file; run `dvc repro {rebuild}` to make it") from None
    except (KeyError, TypeError, ValueError, RecursionError):
        raise file_error(
            path, "a safetensors file that this pipeline didn't write", rebuild
        ) from None
    except (OSError, RuntimeError, safetensors.SafetensorError) as error:
        raise file_error(path, f"not a whole safetensors file ({error!s:.120})", rebuild) from None


def hash_tensors(tensors: Sequence[torch.Tensor]) -> str:
    """Compute the SHA-256 of the bytes of tensors, one after another."""
    data = b"".join(tensor.detach().cpu().contiguous().numpy().tobytes() for tensor in tensors)
    return hashlib.sha256(data).hexdigest()


def write_split(path: Path, examples: LabelledImages, dataset: str) -> None:
    """Write one split and the name of the data set that it belongs to."""
    tensors = {"images": examples.images, "labels": examples.labels}
    write_tensors(path, tensors, {"dataset": dataset})


def read_split(path: Path) -> tuple[LabelledImages, str]:
    """Read one split and the name of its data set.

    Raises
    ------
    StageError
        If the file is missing, damaged, or doesn't hold images and labels as in the contract.
    """
    tensors, content = read_tensors(path, rebuild="split")
    expected = {
        "images": (torch.uint8, (1, IMAGE_SIZE, IMAGE_SIZE)),
        "labels": (torch.int64, ()),
    }
    if set(tensors) != set(expected):
        raise file_error(
            path, f"expected images and labels, found {sorted(tensors)!s:.120}", "split"
        )
    if not isinstance(dataset := content.get("dataset"), str):
        raise file_error(path, f"expected the name of a data set, found {dataset!r:.80}", "split")
    for name, (dtype, shape) in expected.items():
        tensor = tensors[name]
        if tensor.dtype != dtype or tensor.ndim == 0 or tuple(tensor.shape[1:]) != shape:
            wanted = f"{dtype} {['N', *shape]}"
            found = f"{tensor.dtype} {list(tensor.shape)}"
            raise file_error(path, f"expected {name} of {wanted}, found {found}", "split")
    examples = LabelledImages(tensors["images"], tensors["labels"])
    if not len(examples.images):
        raise file_error(path, "expected images, found none", "split")
    if len(examples.images) != len(examples.labels):
        counts = f"{len(examples.images)} images and {len(examples.labels)} labels"
        raise file_error(path, f"expected as many images as labels, found {counts}", "split")
    if examples.labels.min() < 0 or examples.labels.max() >= len(CLASS_NAMES):
        raise file_error(path, f"expected labels from 0 to {len(CLASS_NAMES) - 1}", "split")
    return examples, dataset
