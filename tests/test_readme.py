"""What the README says is so."""

import json
import re

import pytest

from tests.conftest import REPOSITORY, Clone

README = (REPOSITORY / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", ["two_conv", "lenet5"])
def test_the_numbers_are_those_in_metrics(name: str) -> None:
    row = re.search(rf"^\| `{name}` \|(.*)\|$", README, re.MULTILINE)
    metrics = json.loads((REPOSITORY / f"metrics/{name}.json").read_text())
    seeds = json.loads((REPOSITORY / "metrics/seeds.json").read_text())[name]
    assert metrics["dataset"] == "fashion-mnist"
    assert [cell.strip() for cell in row[1].split("|")] == [
        f"{metrics['parameters']:,}",
        *(
            f"{seeds[split]['mean']:.4f} ± {seeds[split]['std']:.4f}"
            for split in ("val", "test", "test_one_view")
        ),
        f"{metrics['test']['accuracy']:.4f}",
    ]


def test_every_file_that_it_links_to_exists() -> None:
    links = [link for link in re.findall(r"\]\(([^)]+)\)", README) if "://" not in link]
    assert links
    headings = re.findall(r"^#+ (.*)$", README, re.MULTILINE)
    anchors = ["#" + heading.lower().replace(" ", "-") for heading in headings]
    for link in links:
        assert link in anchors or (REPOSITORY / link).exists(), link


def test_every_make_target_that_it_names_exists() -> None:
    makefile = (REPOSITORY / "Makefile").read_text(encoding="utf-8")
    for target in re.findall(r"\bmake ([a-z][a-z-]*)", README):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def test_the_picture_of_the_pipeline_is_what_dvc_draws(source: Clone) -> None:
    assert source.dvc("dag", "--md", "--collapse-foreach-matrix").strip() in README
