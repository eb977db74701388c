"""Write DVC's page of plots with Vega inside it, so that it shows charts without a network."""

import argparse
import logging
import os
import tarfile
from pathlib import Path

import pooch
import requests

from stages.common.console import StageError, run_stage
from stages.common.files import write_bytes
from tools.common.commands import run
from tools.common.repository import check_repository

PAGE = Path("dvc_plots/index.html")
FOLDER = Path(".vega")
REGISTRY = "https://registry.npmjs.org"
REGISTRY_VARIABLE = "npm_config_registry"  # npm's own name for a mirror
# What DVC's page asks for, BSD-3-Clause all of them, and the SHA-256 of npm's tarball.
PACKAGES = {
    "vega@5.20.2": "d77deab01d6104b1239228720721f93003e60797d2faced7ffdd759fa70f989d",
    "vega-lite@5.2.0": "f64ca4745f043447ac86b67dc9e9592ec2b85ac8b8dafc35faf970f142463e4b",
    "vega-embed@6.18.2": "93aeee312e92077b0252ef026c0fe0ec8fa430c19825aeada6cd3a6804e68e1b",
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tools.plots", description=__doc__)
    parser.add_argument("revisions", nargs="*", help="compare these; default: show the workspace")
    revisions = parser.parse_args().revisions
    check_repository()
    run("dvc", "plots", *(["diff", *revisions] if revisions else ["show"]))
    scripts = {package: fetch_script(package) for package in PACKAGES}
    page = inline(PAGE.read_text(encoding="utf-8"), scripts)
    write_bytes(PAGE, page.encode())
    print(PAGE.absolute().as_uri())


def fetch_script(package: str) -> str:
    """Read a package's script from npm's tarball, downloaded unless it is in ``.vega/``.

    Raises
    ------
    StageError
        If the right tarball can't be downloaded.
    """
    name, version = package.split("@")
    file = f"{name}-{version}.tgz"
    registry = os.environ.get(REGISTRY_VARIABLE, REGISTRY).rstrip("/")
    pooch.get_logger().setLevel(logging.WARNING)
    try:
        tarball = pooch.retrieve(f"{registry}/{name}/-/{file}", PACKAGES[package], file, FOLDER)
    except (requests.RequestException, ValueError) as error:  # not a full disk's OSError
        raise StageError(
            f"{file}: not found at {registry} ({' '.join(str(error).split()):.200}); "
            f"{PAGE} is written, but shows its charts only with a network"
        ) from None
    with tarfile.open(tarball) as archive:
        return archive.extractfile(f"package/build/{name}.min.js").read().decode()


def inline(page: str, scripts: dict[str, str]) -> str:
    """Put scripts into a page, in place of the tags that load them from a network.

    Raises
    ------
    StageError
        If the page doesn't load one of them: another version of DVC wants another version of Vega.
    """
    for package, script in scripts.items():
        tag = f'<script src="https://cdn.jsdelivr.net/npm/{package}"></script>'
        if tag not in page:
            raise StageError(f"{PAGE}: doesn't load {package}; see PACKAGES in tools/plots.py")
        page = page.replace(tag, f"<script>{script}</script>")
    return page


if __name__ == "__main__":
    run_stage(main)
