"""Bring the four raw files of the data set: mirrors -> data/raw/."""

import logging
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pooch
import requests

from stages.common.console import StageError, run_stage
from stages.common.determinism import derive_seed
from stages.common.files import replacing, sha256, write_bytes
from stages.common.inputs import Inputs
from stages.common.layout import LOCAL_FOLDER_VARIABLE, RAW_FOLDER
from stages.common.mnist_format import TEST_IMAGES, TEST_LABELS, TRAIN_IMAGES, TRAIN_LABELS
from stages.common.params import DatasetParams, FetchParams, FileParams, SyntheticParams
from stages.raw import synthetic
from stages.raw.idx import encode_idx

CHUNK_SIZE = 1 << 16
CA_BUNDLE_VARIABLES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")  # of requests, the first that is set
TRANSIENT = {408, 429, 500, 502, 503, 504}  # HTTP statuses that a retry may cure


class SourceError(Exception):
    """Why one source can't give a file; the next may."""


def main() -> None:
    inputs = Inputs("fetch")
    dataset, params = inputs.params.dataset, inputs.params.fetch
    if params.source == "synthetic":
        draw_synthetic(params.synthetic, len(dataset.class_names))
    else:
        pooch.get_logger().setLevel(logging.WARNING)
        os.environ["NETRC"] = os.devnull  # no mirror is sent a password of ~/.netrc
        fetch_files(dataset, params)
    inputs.refuse_changes()  # the files may all have been there, so none is the last to be written


def draw_synthetic(params: SyntheticParams, classes: int) -> None:
    """Write the four files with images that are drawn, not downloaded."""
    for split, count, images_file, labels_file in (
        ("train", params.train_images, TRAIN_IMAGES, TRAIN_LABELS),
        ("test", params.test_images, TEST_IMAGES, TEST_LABELS),
    ):
        rng = np.random.default_rng(derive_seed(params.seed, "synthetic", split))
        images, labels = synthetic.draw_dataset(count, classes, rng)
        write_bytes(RAW_FOLDER / images_file, encode_idx(images))
        write_bytes(RAW_FOLDER / labels_file, encode_idx(labels))
        print(f"{split}: drew {count:,} images")


def fetch_files(dataset: DatasetParams, params: FetchParams) -> None:
    """Bring all files, each beginning at the mirror that had the one before: others may be slow."""
    mirrors = [f"{str(mirror).rstrip('/')}/" for mirror in dataset.mirrors]
    for file in dataset.files:
        source = fetch_file(file, [*local_folder(), *mirrors], params)
        if source in mirrors:
            first = mirrors.index(source)
            mirrors = mirrors[first:] + mirrors[:first]


def fetch_file(file: FileParams, sources: Sequence[str], params: FetchParams) -> str | None:
    """Bring one file from the first source that has the right one, unless it is already there.

    Returns
    -------
    str or None
        The source, if one was needed.

    Raises
    ------
    StageError
        If none of the sources has it; it gives each one's reason.
    OSError
        If the file can't be written.
    """
    target = RAW_FOLDER / file.name
    if target.is_file() and sha256(target) == file.sha256:
        print(f"{file.name}: already there")
        return None
    if not sources:
        raise StageError(
            f"{target}: dataset.mirrors in params.yaml lists no address, so set "
            f"{LOCAL_FOLDER_VARIABLE} to the folder that has the four files"
        )
    failures = []
    for source in sources:
        try:
            with replacing(target) as temporary:
                copy_from(source, file.name, temporary, params)
                check_digest(temporary, file.sha256)
        except SourceError as error:
            failures.append(f"{source}: {error}")
            print(f"{file.name}: passed over {failures[-1]}")
        else:
            print(f"{file.name}: from {source}")
            return source
    raise StageError(
        "\n  ".join([f"{target}: no source has the right file:", *failures])
        + f"\nget the four files elsewhere and set {LOCAL_FOLDER_VARIABLE} to their folder, "
        "or try the pipeline without a network: `make demo`"
    )


def local_folder() -> list[str]:
    """List the folder that the user has set, to be followed by a file's name, or nothing."""
    folder = os.environ.get(LOCAL_FOLDER_VARIABLE)
    # pathlib's own expanduser fails where a user has no home
    return [f"{Path(os.path.expanduser(folder))}/"] if folder else []  # noqa: PTH111


def copy_from(source: str, name: str, target: Path, params: FetchParams) -> None:
    """Copy a file of a mirror or of a local folder to ``target``.

    Raises
    ------
    SourceError
        If the source doesn't have it.
    """
    if source.startswith(("http://", "https://")):
        download(source, name, target, params)
        return
    try:
        content = Path(source, name).read_bytes()
    except OSError as error:
        raise SourceError(error.strerror or error) from None
    target.write_bytes(content)


def download(mirror: str, name: str, target: Path, params: FetchParams) -> None:
    """Download a file, again and again if the mirror's trouble may pass.

    Raises
    ------
    SourceError
        If the download fails.
    """
    downloader = pooch.HTTPDownloader(
        progressbar=sys.stderr.isatty(), chunk_size=CHUNK_SIZE, timeout=params.timeout
    )
    for attempt in range(1, params.retries + 2):
        try:
            downloader(mirror + name, str(target), None)
        except (OSError, ValueError) as error:
            if getattr(error, "errno", None):  # a full disk's: requests' own have none
                raise
            reason, transient = explain(error, mirror, params.timeout)
            if not transient or attempt > params.retries:
                raise SourceError(reason) from None
            print(f"{name}: trying {mirror} again: {reason}")
            time.sleep(attempt)
        else:
            return


def explain(error: Exception, mirror: str, timeout: float) -> tuple[str, bool]:
    """Put a failed download in a few words, and tell whether a retry may help."""
    if isinstance(error, requests.HTTPError):
        response = error.response
        return f"HTTP {response.status_code} {response.reason}", response.status_code in TRANSIENT
    cause: BaseException = error
    while cause.__context__:  # requests wraps urllib3, which wraps the socket's error
        cause = cause.__context__
    reason = getattr(cause, "strerror", None) or repr(cause)
    if isinstance(cause, TimeoutError):
        reason = f"not a byte for {timeout:g} seconds"
    place = name_setting(error, mirror) or getattr(cause, "filename", None)
    transient = isinstance(error, requests.RequestException) and not isinstance(error, ValueError)
    return (f"{place}: " if place else "") + f"{reason:.200}", transient


def name_setting(error: Exception, mirror: str) -> str | None:
    """Name what the user has set in the environment that a failed download may be due to."""
    proxy = requests.utils.select_proxy(mirror, requests.utils.get_environ_proxies(mirror))
    is_malformed = isinstance(error, ValueError) and proxy
    if is_malformed or isinstance(error, requests.exceptions.ProxyError):
        return "the proxy set in the environment"
    if isinstance(error, requests.exceptions.SSLError) or type(error) is OSError:  # no such bundle
        for variable in CA_BUNDLE_VARIABLES:
            if path := os.environ.get(variable):
                return f"{variable}={path}"
    return None


def check_digest(path: Path, expected: str) -> None:
    """Compare a file's SHA-256 with the expected one.

    Raises
    ------
    SourceError
        If it is another.
    """
    found = sha256(path)
    if found != expected:
        size = path.stat().st_size
        digests = f"SHA-256 {found[:12]}..., not {expected[:12]}..."
        raise SourceError(f"another file, {size:,} bytes with {digests}")


if __name__ == "__main__":
    run_stage(main)
