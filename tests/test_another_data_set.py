"""Another data set, as its page says: pictures of seven letters in the place of clothing."""

import csv
import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from dvc.utils.hydra import apply_overrides
from PIL import Image, ImageDraw, ImageFont

from stages.common.params import load_params
from stages.common.tensors import LabelledImages, read_split
from stages.pictures.figures import draw_confusion, draw_predictions, draw_samples
from stages.raw.idx import read_images, read_labels
from tests.conftest import Clone, copy
from tests.test_pipeline import ran
from tests.test_readme import (
    ANOTHER_DATA_SET,
    PAGES,
    mark_as_set_up,
    read_steps,
    run_block,
)
from tests.test_structure import changed_stages

LETTERS = [*"abcdefg"]
NO_FLIPS = {"two_conv.flip": False, "lenet5.flip": False, "evaluate.flip": False}
SECTION = re.compile(r"^dataset:\n(?:[ -].*\n)+", re.MULTILINE)


def draw_letters(folder: Path) -> None:
    """Draw each letter 30 times to train on and 10 times to test, each time elsewhere."""
    rng = np.random.default_rng(1)
    font = ImageFont.load_default(20)
    for split, count in (("train", 30), ("test", 10)):
        for name in LETTERS:
            (folder / split / name).mkdir(parents=True)
            for number in range(count):
                image = Image.new("L", (28, 28))
                place = rng.integers(2, 12), rng.integers(-2, 6)
                ImageDraw.Draw(image).text(place, name, fill=int(rng.integers(128, 256)), font=font)
                image.save(folder / split / name / f"{number}.png")


@pytest.fixture(scope="module")
def followed(tmp_path_factory: pytest.TempPathFactory, source: Clone) -> Clone:
    """A clone after all steps of the page but the last one."""
    clone = copy(source, tmp_path_factory.mktemp("another") / "clone")
    clone.set_params({"fetch.source": "mirrors", "networks": ["lenet5"]})
    clone.commit("Fashion-MNIST, with tiny params, one network")
    letters = clone.path / "../letters"
    draw_letters(letters)
    for folder in ("train", "train/a"):  # as macOS leaves in a folder
        (letters / folder / ".DS_Store").write_bytes(b"")
    (_, _, script), to_idx, _mnist, rebuild, _verify = read_steps(PAGES[ANOTHER_DATA_SET])
    (letters / "to_idx.py").write_text(script, encoding="utf-8")
    put_section(clone, run_block(clone, to_idx))
    clone.set_params(NO_FLIPS)
    file, language, commands = rebuild
    clone.log = run_block(clone, (file, language, commands.replace("two_conv", "lenet5")))
    return clone


def put_section(clone: Clone, section: str) -> None:
    path = clone.path / "params.yaml"
    path.write_text(SECTION.sub(section.rstrip() + "\n", path.read_text()))


def test_the_lines_that_change_are_as_many_as_the_page_says(followed: Clone) -> None:
    changed = followed.git("diff", "--numstat", "HEAD~1", "--", "*.yaml", "*.py", "*.md")
    ((added, removed, file),) = (line.split("\t") for line in changed.splitlines())
    assert file == "params.yaml"
    assert int(added) + int(removed) <= 40
    text = " ".join(PAGES[ANOTHER_DATA_SET].split())
    assert f": {added} lines of `params.yaml` take the place of {removed}, " in text


def test_the_script_is_as_the_project_s_own_code_and_its_files_hold_the_pictures(
    followed: Clone,
) -> None:
    letters = followed.path / "../letters"
    for check in (["check"], ["format", "--check"]):
        followed.run("ruff", *check, "--config", "pyproject.toml", str(letters / "to_idx.py"))
    images = read_images(letters / "t10k-images-idx3-ubyte.gz")
    labels = read_labels(letters / "t10k-labels-idx1-ubyte.gz", len(LETTERS))
    drawn = {
        (LETTERS.index(path.parent.name), np.asarray(Image.open(path)).tobytes())
        for path in letters.glob("test/*/*.png")
    }
    assert {(label, image.tobytes()) for label, image in zip(labels, images, strict=True)} == drawn
    assert len(set(labels[:20])) > 3, "in random order"


def test_every_stage_takes_the_seven_classes(followed: Clone) -> None:
    assert set(ran(followed.log)) > {"fetch", "split", "train@lenet5", "predict@lenet5"}
    val, dataset = read_split(followed.path / "data/split/val.safetensors", len(LETTERS))
    assert (dataset, val.labels.bincount().tolist()) == ("letters", [3] * 7)
    metrics = json.loads(followed.read("metrics/lenet5.json"))
    assert (metrics["dataset"], metrics["views"]) == ("letters", 5)
    confusion = followed.read("plots/lenet5/confusion.csv").decode().splitlines()
    assert {row["actual"] for row in csv.DictReader(confusion)} == set(LETTERS)
    predictions = followed.read("data/predictions/lenet5.csv").decode().splitlines()
    for row in csv.DictReader(predictions):
        assert row["class_name"] == LETTERS[int(row["class_id"])]
    for picture in ("curves", "confusion", "filters", "predictions", "mistakes"):
        assert (followed.path / f"plots/lenet5/{picture}.png").stat().st_size > 0
    (answer,) = re.findall(r"letters/test/a/1\.png: (.*)", followed.log)
    assert len(re.findall(r"\b[a-g] [\d.]+%", answer)) == 3


def test_the_section_of_mnist_that_the_page_shows_is_taken(source: Clone, tmp_path: Path) -> None:
    clone = copy(source, tmp_path / "clone")
    (section,) = (text for _, kind, text in read_steps(PAGES[ANOTHER_DATA_SET]) if kind == "yaml")
    put_section(clone, section)
    clone.set_params(NO_FLIPS)
    dataset = load_params(clone.path / "params.yaml").dataset
    assert dataset.class_names == [*"0123456789"]
    before = clone.read("params.yaml")
    apply_overrides(clone.path / "params.yaml", ["dataset.name=mnist"])
    assert clone.read("params.yaml") == before, "laid out as DVC writes it"


def test_another_mirror_triggers_no_training(clone: Clone) -> None:
    clone.set_params({"dataset.mirrors": []})
    assert changed_stages(clone) == {"check", "fetch"}


def test_any_class_names_are_drawn_as_they_are(tmp_path: Path, recwarn) -> None:
    names = ["$x^$", "a $5 bill", "\u3042", "W" * 40]  # the third is in no font here
    labels = torch.arange(24) % 4
    examples = LabelledImages(torch.zeros(24, 1, 28, 28, dtype=torch.uint8), labels)
    draw_samples(tmp_path / "samples.png", "mine", names, examples)
    draw_confusion(tmp_path / "confusion.png", "lenet5", "mine", names, torch.eye(4).long())
    draw_predictions(
        tmp_path / "predictions.png", "mine", names, examples, labels.flip(0), torch.ones(24)
    )
    assert not [one for one in recwarn if one.category is UserWarning]


@pytest.mark.slow
def test_another_clone_rebuilds_it_to_the_byte(followed: Clone, tmp_path: Path) -> None:
    followed.git("clone", "--quiet", str(followed.path), str(tmp_path / "other"))
    other = Clone(
        tmp_path / "other",
        followed.environment | {"FASHION_MNIST_DIR": str(followed.path.parent / "letters")},
    )
    mark_as_set_up(other)
    *_, verify = read_steps(PAGES[ANOTHER_DATA_SET])
    assert re.search(r"^all 2\d outputs are those of", run_block(other, verify), re.MULTILINE)
