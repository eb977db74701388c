"""What the README says is so."""

import json
import re
import shutil
from pathlib import Path

import pytest
from PIL import Image, ImageDraw

from tests.conftest import REPOSITORY, Clone
from tests.test_experiments import WIDTH

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


def test_the_walk_through_starts_from_the_numbers_in_metrics() -> None:
    metrics = {
        name: json.loads((REPOSITORY / f"metrics/{name}.json").read_text())
        for name in ("two_conv", "lenet5")
    }
    before = re.findall(r"^metrics/(\w+)\.json +(\w+)\.(\w+) +([\d.]+) ", README, re.MULTILINE)
    assert len(before) == 12  # a row a metric of lenet5, in two tables
    for network, split, figure, value in before:
        assert float(value) == metrics[network][split][figure]
    table = re.search(r"^main +(.*)$", README, re.MULTILINE)
    val = [of["val"][figure] for of in metrics.values() for figure in ("loss", "accuracy")]
    assert [float(cell) for cell in table[1].split()[:4]] == val


def test_every_file_and_heading_that_it_links_to_exists() -> None:
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


# Each command in a block, and each in the text that begins with make, dvc, git, pip or python -m,
# is run, but for these.
NOT_RUN = {
    "FASHION_MNIST_DIR=~/fashion-mnist make": "needs the data set; test_fetch.py reads a folder",
    "make test": "would run this test",
    "make test-faults": "tests, too",
    "make test-fuzz": "tests, too",
    "make test-readme": "tests, too",
    "make test-cpus": "tests, too; needs qemu-user",
    "make seeds": "`make test-seeds` does, with two seeds",
    "make bench": "a quarter of an hour; test_bench.py runs its parts",
    "python -m tools.bench --picture": "the same",
    "make plots": "loads Vega from npm; test_plots.py runs the rest",
    "make lock": "resolves to what the package index has today",
    "pip install dvc-s3": "S3 needs a server",
    "dvc remote modify storage endpointurl http://host:port": "S3 needs a server",
}

# Blocks with one of these are left to `make test-readme`: they install or train for minutes.
SLOW = r"^make( demo| verify)?$|^pip install|^dvc (exp run|queue)|\bsweep-1\b"

# What commands change in a clean clone, as the README says; all others leave it clean.
CHANGES = {
    r"dvc exp (run (?!--queue|--temp)|apply)": ("params.yaml", "dvc.lock", "metrics/", "plots/"),
    r"--save seen.png": ("seen.png",),
    r"dvc remote add": (".dvc/config",),
}


def read_blocks() -> list[str]:
    """List the blocks of commands, and the commands in the text, without those of NOT_RUN."""
    found = re.findall(
        r"^```sh\n(.*?)^```|`((?:make|dvc|git|pip|python -m) [^`]+|\w+=\S+ make)`",
        README,
        re.MULTILINE | re.DOTALL,
    )
    blocks, seen = [], set()
    for block, in_text in found:
        lines = block.splitlines() or [" ".join(in_text.split())]
        commands = [line.partition(" #")[0].strip() for line in lines]
        if block or commands[0] not in seen:
            blocks.append("\n".join(command for command in commands if command not in NOT_RUN))
        seen.update(commands)
    assert set(NOT_RUN) <= seen, "an exception that the README has no more"
    return [block for block in blocks if block]


def is_slow(block: str) -> bool:
    return re.search(SLOW, block, re.MULTILINE) is not None


def read_along(clone: Clone, blocks: list[str], path: str) -> None:
    """Run blocks one after the other, as a reader with two pictures at hand would."""
    for name in ("photo.jpg", "shoe.png"):
        draw_garment(clone.path / name)
    (clone.path / ".git/info/exclude").write_text("photo.jpg\nshoe.png\n")
    assert clone.git("status", "--porcelain") == ""
    said = ()
    for block in blocks:
        print(f"$ {block}")
        done = clone.run("bash", "-e", "-c", block, PATH=path)
        print(done.stdout)
        if "dvc queue start" in block:
            # In case the worker ended early.
            clone.run("python", "-c", "from tools.commands import finish_queue; finish_queue(5)")
            for name in ("sweep-3", "sweep-4"):
                assert "Running stage 'train@" not in clone.dvc("queue", "logs", name)
            shown = clone.run("python", "-m", "tools.experiments").stdout
            assert all(f"sweep-{number} " in shown for number in (1, 2, 3, 4))
        if block.startswith("make experiments"):
            assert max(map(len, done.stdout.splitlines())) <= WIDTH
        for pattern, paths in CHANGES.items():
            if re.search(pattern, block):
                said += paths
        if re.search(r"git (restore|commit)", block):
            said = ()
        changed = [line[3:] for line in clone.git("status", "--porcelain").splitlines()]
        assert all(name.startswith(said) for name in changed), (block, changed)
        assert all(any(name.startswith(path) for name in changed) for path in said), (block, said)


def draw_garment(path: Path) -> None:
    image = Image.new("RGB", (120, 160), "white")
    ImageDraw.Draw(image).rectangle((30, 20, 90, 140), fill="navy")
    image.save(path)


def test_its_quick_commands_run_one_after_the_other(clone: Clone) -> None:
    (clone.path / ".venv").mkdir()
    (clone.path / ".venv/.ready").touch()  # for make: this interpreter has what it needs
    blocks = [block for block in read_blocks() if not is_slow(block)]
    read_along(clone, blocks, clone.environment["PATH"])


@pytest.mark.slow
def test_all_its_commands_run_one_after_the_other(fresh: Clone, tmp_path: Path) -> None:
    fresh.set_params({"lenet5.batch_size": 128})  # the README's: two of its sweep train nothing
    fresh.dvc("repro")
    fresh.commit("dvc repro")
    fresh.run("git", "clone", "--quiet", str(fresh.path), str(tmp_path / "reader"))
    clone = Clone(tmp_path / "reader", fresh.environment)
    try:
        read_along(clone, read_blocks(), f"{clone.path}/.venv/bin:{clone.environment['PATH']}")
    finally:
        clone.run("dvc", "queue", "stop", "--kill", check=False)
        shutil.rmtree(clone.path / ".venv", ignore_errors=True)  # a gigabyte that pytest would keep
