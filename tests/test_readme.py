"""What the README and the pages in docs/ say is so."""

import json
import re
import shutil
from pathlib import Path

import pytest
from PIL import Image, ImageDraw

from stages.classifier.image_classifier import build_network
from stages.training.loop import describe_parameters
from stages.training.optimizers import make_optimizers
from tests.conftest import PARAMS, REPOSITORY, Clone, copy
from tests.test_experiments import WIDTH
from tests.test_pipeline import ran

README = "README.md"
ADD_A_NETWORK = "docs/add_a_network.md"
ANOTHER_DATA_SET = "docs/another_data_set.md"
PAGES = {
    str(path.relative_to(REPOSITORY)): path.read_text(encoding="utf-8")
    for path in (
        REPOSITORY / README,
        *sorted((REPOSITORY / "docs").glob("*.md")),
        REPOSITORY / "metrics/SEARCH.md",
    )
}
# As a reader goes from one to the next.
ORDER = [README, *(f"docs/{name}.md" for name in ("experiments", "sharing", "farm"))]
FOLLOWED = [ADD_A_NETWORK, ANOTHER_DATA_SET]  # step by step, by tests of their own
WALKED = [*ORDER, *(page for page in PAGES if page not in (*ORDER, *FOLLOWED))]


@pytest.mark.parametrize("name", ["two_conv", "lenet5"])
def test_the_numbers_are_those_in_metrics(name: str) -> None:
    row = re.search(rf"^\| `{name}` \|(.*)\|$", PAGES[README], re.MULTILINE)
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


@pytest.mark.parametrize("name", ["two_conv", "lenet5"])
def test_muon_trains_as_many_parameters_as_it_says(name: str) -> None:
    network = build_network(name, PARAMS)
    described = describe_parameters(network, make_optimizers(network, PARAMS.recipe(name)))
    _, _, text = " ".join(PAGES[README].split()).partition("Muon (Jordan 2024) trains most of them")
    said = re.search(rf"([\d,]+) of `{name}`", text)[1]
    assert f": Muon moves {said}, " in described


@pytest.mark.parametrize("name", ["two_conv", "lenet5"])
def test_what_it_says_of_confidence_is_so(name: str) -> None:
    measured = json.loads((REPOSITORY / f"metrics/calibration/{name}.json").read_text())
    text = " ".join(PAGES[README].split())
    assert "more than three in ten of such answers on the validation split are wrong" in text
    assert measured["val"]["unsure_wrong"] > 0.3
    error = measured["test"]["calibration_error"]
    assert f"{error} for `{name}`" in text.partition("expected calibration error")[2]


def test_the_walk_through_starts_from_the_numbers_in_metrics() -> None:
    metrics = {
        name: json.loads((REPOSITORY / f"metrics/{name}.json").read_text())
        for name in ("two_conv", "lenet5")
    }
    text = "\n".join(PAGES.values())
    before = re.findall(r"^metrics/(\w+)\.json +(\w+)\.(\w+) +([\d.]+) ", text, re.MULTILINE)
    assert len(before) == 12  # a row a metric of lenet5, in two tables
    for network, split, figure, value in before:
        assert float(value) == metrics[network][split][figure]
    (table,) = re.findall(r"^main +(.*)$", text, re.MULTILINE)
    val = [split["val"][figure] for split in metrics.values() for figure in ("loss", "accuracy")]
    assert [float(cell) for cell in table.split()[:4]] == val


@pytest.mark.parametrize("page", PAGES)
def test_every_file_and_heading_that_it_links_to_exists(page: str) -> None:
    for link in re.findall(r"\]\(([^)]+)\)", PAGES[page]):
        if "://" in link:
            continue
        name, _, anchor = link.partition("#")
        target = (REPOSITORY / page).parent / name if name else REPOSITORY / page
        assert target.exists(), link
        if anchor:
            headings = re.findall(r"^#+ (.*)$", target.read_text(encoding="utf-8"), re.MULTILINE)
            words = [re.sub(r"[^\w -]", "", heading.lower()) for heading in headings]
            assert anchor in [heading.replace(" ", "-") for heading in words], link


def test_every_page_can_be_reached_from_the_readme() -> None:
    for page in PAGES.keys() - {README}:
        assert f"]({page})" in PAGES[README], page


# Made by the pipeline, by its tools or by readers, so not in every clone; and the example's own.
MADE = r"^(data|models|\.venv|\.resume|\.dvc/tmp|\.git)/|[<*]|perceptron"


@pytest.mark.parametrize("page", PAGES)
def test_every_file_of_the_repository_that_it_names_exists(page: str) -> None:
    prose = re.sub(r"^```.*?^```", "", PAGES[page], flags=re.MULTILINE | re.DOTALL)
    for name in re.findall(r"`(\.?[\w-]+(?:[./][^`\s:]+|/))`", prose):
        at_root = re.search(r"\.(md|yaml|toml|lock|txt|in)$", name) and "/" not in name
        if (at_root or re.match(r"\.?[\w-]+/", name)) and not re.search(MADE, name):
            assert (REPOSITORY / name).exists(), name


@pytest.mark.parametrize("page", PAGES)
def test_every_make_target_that_it_names_exists(page: str) -> None:
    makefile = (REPOSITORY / "Makefile").read_text(encoding="utf-8")
    for target in re.findall(r"\bmake ([a-z][a-z-]*)", PAGES[page]):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def test_the_picture_of_the_pipeline_is_what_dvc_draws(source: Clone) -> None:
    assert source.dvc("dag", "--md", "--collapse-foreach-matrix").strip() in PAGES[README]


# Each command in a block, and each in the text that begins with make, dvc, git, pip or python -m,
# is run, except these.
NOT_RUN = {
    "FASHION_MNIST_DIR=~/fashion-mnist make": "needs the data set; test_fetch.py reads a folder",
    "make test": "would run this test",
    "make test-faults": "tests, too",
    "make test-fuzz": "tests, too",
    "make test-readme": "tests, too",
    "make test-cpus": "tests, too; needs qemu-user",
    "make seeds": "`make test-seeds` does, with two seeds",
    "make pictures": "minutes; test_pictures.py runs it on an image",
    "make bench": "a quarter of an hour; test_bench.py runs its parts, except print_stages",
    "python -m tools.bench --picture": "the same",
    "python -m tools.bench.accuracy": "an hour; test_bench.py runs its parts",
    "python -m tools.search": "needs the table, a result; test_search.py draws it",
    "make plots": "loads Vega from npm; test_plots.py runs the rest",
    "make lock": "resolves to what the package index has today",
    "dvc cache dir --local /path/on/that/disk": "no such disk; test_check.py does",
    "dvc config --local cache.type symlink": "the same",
    "git sparse-checkout reapply --no-sparse-index": "needs such a clone; test_commands.py does",
    "git branch kept 'HEAD@{N}'": "needs such a commit; test_commands.py makes one",
    "dvc config --local core.hardlink_lock true": "for a file system without locks",
    "pip install dvc-s3": "S3 needs a server",
    "FASHION_MNIST_WORKERS=1 dvc queue start --jobs 2": "of an empty queue's two workers, the first"
    " to end may take the other's word to end away, which then waits for ever",
    "dvc queue kill NAME": "needs a task that nobody works on; test_queue.py leaves one",
    "dvc queue remove NAME": "the same",
    "dvc exp remove NAME": "needs a name on both sides",
    "git clone --depth": "is the cause; test_queue.py makes such a clone",
    "git fetch --no-prune --unshallow": "needs such a clone; test_queue.py runs it",
    "git fetch --no-prune --refetch --no-filter": "the same",
    "dvc remote modify storage endpointurl http://host:port": "S3 needs a server",
    **dict.fromkeys(
        (
            "parallel --jobs 2 python -m tools.run_experiment seed-{} -S train.seed={} ::: 4 5",
            "ssh HOST 'cd fashion-mnist && .venv/bin/python -m tools.run_experiment seed-6"
            " -S train.seed=6'",
            "sbatch --array=7-9 --wrap 'N=$SLURM_ARRAY_TASK_ID;"
            " python -m tools.run_experiment s$N -S train.seed=$N'",
            "sbatch --array=1-50 --wrap '.venv/bin/dask worker tcp://10.0.0.1:8786 --nthreads 1'",
        ),
        "needs other machines or programs",
    ),
    **dict.fromkeys(
        (
            "pip install -r requirements-farm.txt",
            "dask scheduler --host 10.0.0.1",
            "dask worker tcp://10.0.0.1:8786 --nthreads 1",
            "dvc exp run --queue --name rates -S 'lenet5.muon.learning_rate=0.06,0.05,0.04'",
            "make farm SCHEDULER=tcp://10.0.0.1:8786",
            "make farm",
            "make seeds SCHEDULER=tcp://10.0.0.1:8786",
            "make test-farm",
        ),
        "needs the optional packages; test_farm.py does",
    ),
}

# Blocks with one of these are left to `make test-readme`: they install or train for minutes.
SLOW = (
    r"^make( demo| verify)?$|^pip install|^dvc (exp run|queue)|\bsweep-1\b|python -m stages\.train"
    r"|tools\.run_experiment|lower-rate|rate-15|REV=|^git switch -$"
)

# What commands change in a clean clone, as the pages say; all others leave it clean.
CHANGES = {
    r"dvc exp (run (?!--queue|--temp)|apply)": ("params.yaml", "dvc.lock", "metrics/", "plots/"),
    r"--save seen.png": ("seen.png",),
    r"dvc remote add": (".dvc/config",),
}


def read_blocks(text: str) -> list[str]:
    """List the blocks of commands, and the commands in the text, without those of NOT_RUN."""
    blocks, seen = [], set()
    for commands, in_text in find_commands(text):
        if not in_text or commands[0] not in seen:
            blocks.append("\n".join(command for command in commands if command not in NOT_RUN))
        seen.update(commands)
    return [block for block in blocks if block]


def find_commands(text: str) -> list[tuple[list[str], bool]]:
    """List the commands of each block, and each in the text, with whether it is in the text."""
    found = re.findall(
        r"^```sh\n(.*?)^```|`((?:make|dvc|git|pip|python -m) [^`]+|\w+=\S+ make)`",
        text,
        re.MULTILINE | re.DOTALL,
    )
    listed = []
    for block, in_text in found:
        lines = block.splitlines() or [" ".join(in_text.split())]
        listed.append(([line.partition(" #")[0].strip() for line in lines], not block))
    return listed


def commands_of(text: str) -> list[str]:
    return [command for commands, _ in find_commands(text) for command in commands]


def test_every_exception_is_in_a_page() -> None:
    assert set(NOT_RUN) <= {command for text in PAGES.values() for command in commands_of(text)}


def is_slow(block: str) -> bool:
    return re.search(SLOW, block, re.MULTILINE) is not None


def read_along(clone: Clone, blocks: list[str], path: str) -> None:
    """Run blocks one after the other, as a reader with two pictures at hand would."""
    for name in ("photo.jpg", "shoe.png"):
        draw_garment(clone.path / name)
    (clone.path / ".git/info").mkdir(exist_ok=True)
    (clone.path / ".git/info/exclude").write_text("photo.jpg\nshoe.png\n")
    assert clone.git("status", "--porcelain") == ""
    said = ()
    for number, block in enumerate(blocks):
        print(f"$ {block}")
        done = clone.run("bash", "-e", "-c", block, PATH=path)
        print(done.stdout)
        if "dvc queue start" in block and any(
            "--name sweep" in one for one in blocks[: number + 1]
        ):
            check_the_sweep(clone)
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


def check_the_sweep(clone: Clone) -> None:
    # In case the worker ended early.
    clone.run("python", "-c", "from tools.common.queue import finish_queue; finish_queue(5)")
    for name in ("sweep-3", "sweep-4"):
        assert "Running stage 'train@" not in clone.dvc("queue", "logs", name)
    shown = clone.run("python", "-m", "tools.experiments").stdout
    assert all(f"sweep-{number} " in shown for number in (1, 2, 3, 4))


def draw_garment(path: Path) -> None:
    image = Image.new("RGB", (120, 160), "white")
    ImageDraw.Draw(image).rectangle((30, 20, 90, 140), fill="navy")
    image.save(path)


def mark_as_set_up(clone: Clone) -> None:
    (clone.path / ".venv").mkdir()
    (clone.path / ".venv/.ready").touch()  # for make: this interpreter has what it needs


@pytest.mark.parametrize("page", WALKED)
def test_its_quick_commands_run_one_after_the_other(page: str, clone: Clone) -> None:
    mark_as_set_up(clone)
    clone.git("remote", "add", "origin", "..")  # as a reader's clone has one
    blocks = [block for block in read_blocks(PAGES[page]) if not is_slow(block)]
    read_along(clone, blocks, clone.environment["PATH"])


@pytest.mark.slow
def test_all_commands_run_one_page_after_the_other_in_one_clone(
    fresh: Clone, tmp_path: Path
) -> None:
    fresh.set_params({"lenet5.batch_size": 128})  # the recipe's: two of the sweep train nothing
    fresh.dvc("repro")
    fresh.commit("dvc repro")
    fresh.run("git", "clone", "--quiet", str(fresh.path), str(tmp_path / "reader"))
    clone = Clone(tmp_path / "reader", fresh.environment)
    try:
        for page in WALKED:
            path = f"{clone.path}/.venv/bin:{clone.environment['PATH']}"
            read_along(clone, read_blocks(PAGES[page]), path)
            (clone.path / "seen.png").unlink(missing_ok=True)
    finally:
        clone.run("dvc", "queue", "stop", "--kill", check=False)
        shutil.rmtree(clone.path / ".venv", ignore_errors=True)  # a gigabyte that pytest would keep


@pytest.fixture
def shared(source: Clone, tmp_path: Path) -> Clone:
    """A clone on a branch of its own name that has made a repository as docs/farm.md says."""
    clone = copy(source, tmp_path / "clone")
    clone.git("branch", "--move", "trunk")
    clone.git("config", "fetch.prune", "true")
    blocks = [commands for commands, _ in find_commands(PAGES["docs/farm.md"])]
    (block,) = (block for block in blocks if " --bare " in block[0])
    commands = [command for command in block if command != "dvc push"]
    default = {"GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": "init.defaultBranch"}
    clone.run("bash", "-e", "-c", "\n".join(commands), **default, GIT_CONFIG_VALUE_0="master")
    return clone


def test_the_repository_of_a_farm_gives_clones_the_branch_that_was_pushed(shared: Clone) -> None:
    shared.git("clone", "--quiet", "../shared.git", "../elsewhere")
    elsewhere = Clone(shared.path.parent / "elsewhere", shared.environment)
    assert elsewhere.git("branch", "--show-current").strip() == "trunk"
    assert elsewhere.git("rev-parse", "HEAD") == shared.git("rev-parse", "HEAD")


def test_fetching_experiments_takes_none_away_and_names_what_is_on_both_sides(
    shared: Clone,
) -> None:
    listed = [command for text in PAGES.values() for command in commands_of(text)]
    fetches = [command for command in listed if command.startswith("git fetch")]
    assert all("--no-prune" in command for command in fetches)
    (fetch,) = (command for command in fetches if "refs/exps" in command)
    head = shared.git("rev-parse", "HEAD").strip()
    mine = shared.git("commit-tree", "HEAD^{tree}", "-p", "HEAD", "-m", "mine").strip()
    of_head = f"refs/exps/{head[:2]}/{head[2:]}"
    for ref in (f"{of_head}/theirs", f"{of_head}/both"):
        shared.git("push", "--quiet", "origin", f"HEAD:{ref}")
    for ref in (f"{of_head}/mine", f"{of_head}/both", "refs/exps/celery/stash"):
        shared.git("update-ref", ref, mine)
    done = shared.run("bash", "-c", fetch, check=False)
    assert done.returncode == 1
    assert f"[rejected]        {of_head}/both" in " ".join(done.stdout.splitlines())
    names = ("--format=%(refname:lstrip=-1)", "refs/exps")
    found = shared.git("for-each-ref", *names).split()
    assert sorted(found) == ["both", "mine", "stash", "theirs"]


def test_the_tools_fetch_without_pruning() -> None:
    for tool in (REPOSITORY / "tools").rglob("*.py"):
        for call in re.findall(r'git fetch [^`]*|"git", "fetch"[^)]*', tool.read_text()):
            assert "--no-prune" in call, tool


def read_steps(text: str) -> list[tuple[str, str, str]]:
    """List the blocks of code: the file that its heading names last, language, content."""
    steps = []
    for section in re.split(r"^#+ ", text, flags=re.MULTILINE)[1:]:
        heading, _, body = section.partition("\n")
        file = (re.findall(r"`([^`]+)`", heading) or [""])[-1]
        for language, content in re.findall(
            r"^```(\w+)\n(.*?)^```", body, re.MULTILINE | re.DOTALL
        ):
            steps.append((file, language, content))
    return steps


def apply_diff(path: Path, diff: str) -> None:
    """Make the change of a block that has lines of context, but no line numbers."""
    lines = diff.splitlines(keepends=True)
    before = "".join(line[1:] for line in lines if line[0] in " -")
    after = "".join(line[1:] for line in lines if line[0] in " +")
    content = path.read_text(encoding="utf-8")
    assert content.count(before) == 1, f"{path.name} should have this once:\n{before}"
    path.write_text(content.replace(before, after), encoding="utf-8")


def test_a_network_is_added_and_taken_out_as_the_page_says(clone: Clone) -> None:
    adding, removing = PAGES[ADD_A_NETWORK].split("\n## Take a network out\n")
    before = clone.git("rev-parse", "HEAD").strip()
    *edits, train, keep = read_steps(adding)
    for file, language, content in edits:
        if language == "python":
            (clone.path / file).write_text(content, encoding="utf-8")
        else:
            assert language == "diff"
            apply_diff(clone.path / file, content)
    files = list(dict.fromkeys(file for file, _, _ in edits))
    clone.git("add", "--intent-to-add", "--all")
    added, removed, changed = zip(
        *(line.split("\t") for line in clone.git("diff", "--numstat").splitlines()), strict=True
    )
    assert sorted(changed) == sorted(files)
    assert set(removed) == {"0"}
    assert f" in {sum(map(int, added))} lines" in " ".join(adding.split())
    assert f" in {sum(map(int, added))} lines" in " ".join(PAGES[README].split())
    clone.run("ruff", "check", *files[:2])
    clone.run("ruff", "format", "--check", *files[:2])

    log = run_block(clone, train)
    assert ran(log) == [
        *("check", "fetch", "split"),  # their code has changed, as Params belongs to all
        *(f"{stage}@perceptron" for stage in ("train", "evaluate", "predict")),
    ]
    metrics = json.loads(clone.read("metrics/perceptron.json"))
    assert metrics["test"]["accuracy"] > 0.2
    for name in ("curves", "confusion", "filters", "predictions", "mistakes"):
        assert (clone.path / f"plots/perceptron/{name}.png").stat().st_size > 0
    assert "metrics/perceptron.json" in log.splitlines()[-1], "by dvc metrics show"
    clone.dvc("plots", "show")
    assert b"perceptron/curves.csv" in clone.read("dvc_plots/index.html")
    run_block(clone, keep)
    assert clone.git("status", "--porcelain") == ""
    assert "up to date" in clone.dvc("status")

    (_, language, name), delete, write_lock = read_steps(f"# \n{removing}")
    assert language == "diff"
    apply_diff(clone.path / "params.yaml", name)
    assert ran(clone.dvc("repro")) == ["check"]
    assert "metrics/perceptron.json" not in clone.dvc("metrics", "show")
    clone.git("checkout", "--quiet", before, "--", *files[1:])  # undoes steps 2 to 4
    run_block(clone, delete)
    run_block(clone, write_lock)
    assert clone.git("diff", before) == ""
    assert "up to date" in clone.dvc("repro")


def run_block(clone: Clone, step: tuple[str, str, str]) -> str:
    _, language, content = step
    assert language == "sh"
    return clone.run("bash", "-e", "-c", content).stdout


@pytest.mark.parametrize("page", FOLLOWED)
def test_the_commands_in_the_text_of_a_page_that_is_followed_are_run_for_another(page: str) -> None:
    found = find_commands(PAGES[page])
    in_text = {command for (command, *_), is_text in found if is_text}
    in_blocks = {command for commands, is_text in found if not is_text for command in commands}
    elsewhere = {command for page in WALKED for command in commands_of(PAGES[page])}
    assert in_text <= in_blocks | elsewhere | NOT_RUN.keys()
