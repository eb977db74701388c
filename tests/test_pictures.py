"""make pictures: garments are found in pictures such as people bring; the page tells how many."""

import json
import statistics
from pathlib import Path

import numpy as np
import pytest
import torch

from stages.common.files import write_bytes
from stages.pictures.own_pictures import read_picture
from stages.raw.synthetic import draw_dataset
from tests.conftest import REPOSITORY, Clone
from tools.pictures.__main__ import format_shares
from tools.pictures.kinds import KINDS

HARD = {  # of which the page says that they fail
    "dark on white, held by a hand",
    "grey stripes of two shades",
}


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in HARD])
def test_a_garment_is_found_whole_in_a_picture_of_each_kind(kind: str, tmp_path: Path) -> None:
    images, _ = draw_dataset(3, 10, np.random.default_rng(3))
    shares = []
    for seed, image in enumerate(torch.from_numpy(images)[:, None]):
        found = []
        for drawn in ("light on black, as in the data set", kind):
            write_bytes(tmp_path / "picture", KINDS[drawn].draw(image, seed))
            found.append(read_picture(tmp_path / "picture") > 0)
        alone, seen = found
        shares.append(((alone & seen).sum() / (alone | seen).sum()).item())
    assert statistics.mean(shares) > 0.7, shares


def test_the_shares_of_each_kind_are_written_and_drawn(clone: Clone) -> None:
    said = clone.run("python", "-m", "tools.pictures", "--split", "val", "--images", "1").stdout
    assert said.count("\n") == 2 + 1 + len(KINDS)
    assert clone.git("status", "--porcelain") == "", "val is for choices"
    clone.run("python", "-m", "tools.pictures", "--images", "1")
    measured = json.loads(clone.read("metrics/own_pictures.json"))
    assert list(measured["right"]) == ["itself", *KINDS]
    assert set(measured["right"]["itself"]) == {"two_conv", "lenet5", "refused"}
    assert clone.read("plots/own_pictures.png").startswith(b"\x89PNG")


def test_the_page_holds_the_table_of_what_was_measured() -> None:
    measured = json.loads((REPOSITORY / "metrics/own_pictures.json").read_text())
    assert format_shares(measured) in (REPOSITORY / "docs/own_pictures.md").read_text()
    assert (measured["split"], measured["images"]) == ("test", 300)
