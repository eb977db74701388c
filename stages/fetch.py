"""Bring the four raw files of the data set: mirrors -> data/raw/."""

import logging
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pooch

from stages.common import synthetic
from stages.common.console import StageError, run_stage
from stages.common.fashion_mnist import (
    TEST_IMAGES,
    TEST_LABELS,
    TRAIN_IMAGES,
    TRAIN_LABELS,
)
from stages.common.files import replacing, sha256, write_bytes
from stages.common.idx import encode_idx
from stages.common.params import FetchParams, FileParams, SyntheticParams, load_params

RAW_FOLDER = Path("data/raw")
LOCAL_FOLDER_VARIABLE = "FASHION_MNIST_DIR"
TIMEOUT = 30  # seconds without a byte


def main() -> None:
    params = load_params().fetch
    if params.dataset == "synthetic":
        draw_synthetic(params.synthetic)
    else:
        pooch.get_logger().setLevel(logging.WARNING)
        for file in params.files:
            fetch_file(file, [*list_sources(params)])


def draw_synthetic(params: SyntheticParams) -> None:
    """Write the four files with images that are drawn, not downloaded."""
    rng = np.random.default_rng(params.seed)
    train_images, train_labels = synthetic.draw_dataset(params.train_images, rng)
    test_images, test_labels = synthetic.draw_dataset(params.test_images, rng)
    write_bytes(RAW_FOLDER / TRAIN_IMAGES, encode_idx(train_images))
    write_bytes(RAW_FOLDER / TRAIN_LABELS, encode_idx(train_labels))
    write_bytes(RAW_FOLDER / TEST_IMAGES, encode_idx(test_images))
    write_bytes(RAW_FOLDER / TEST_LABELS, encode_idx(test_labels))
    print(f"drew {len(train_images):,} training and {len(test_images):,} test images")


def fetch_file(file: FileParams, sources: Sequence[str]) -> None:
    """Bring one file from the first source that has the right one.

    Raises
    ------
    StageError
        If none of the sources has it; it gives each one's reason.
    """
    target = RAW_FOLDER / file.name
    if target.is_file() and sha256(target) == file.sha256:
        print(f"{file.name}: already there")
        return
    failures = []
    for source in sources:
        try:
            with replacing(target) as temporary:
                copy_from(source + file.name, temporary)
                check_digest(temporary, file.sha256)
        except (OSError, ValueError) as error:
            failures.append(f"{source}: {' '.join(str(error).split())}")
            print(f"{file.name}: passed over {failures[-1]}")
        else:
            print(f"{file.name}: from {source}")
            return
    raise StageError(
        f"{target}: no source has the right file ({'; '.join(failures)}); get the four files "
        f"elsewhere and set {LOCAL_FOLDER_VARIABLE} to their folder, or try `make demo`"
    )


def list_sources(params: FetchParams) -> Iterator[str]:
    """Yield the places to look in, each to be followed by a file's name."""
    if folder := os.environ.get(LOCAL_FOLDER_VARIABLE):
        yield f"{folder.rstrip('/')}/"
    for mirror in params.mirrors:
        yield f"{str(mirror).rstrip('/')}/"


def copy_from(source: str, target: Path) -> None:
    """Copy a URL or a local file to ``target``.

    Raises
    ------
    OSError
        If it can't be had.
    """
    if source.startswith(("http://", "https://")):
        pooch.HTTPDownloader(timeout=TIMEOUT)(source, str(target), None)
    else:
        target.write_bytes(Path(source).read_bytes())


def check_digest(path: Path, expected: str) -> None:
    """Compare a file's SHA-256 with the expected one.

    Raises
    ------
    ValueError
        If it is another.
    """
    found = sha256(path)
    if found != expected:
        raise ValueError(f"expected SHA-256 {expected}, found {found}")


if __name__ == "__main__":
    run_stage(main)
