"""The rooms of the house hold what they say, and dvc.yaml names what the code needs."""

import ast
import re
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest
import yaml

from tests.conftest import REPOSITORY, Clone

STAGES = ("check", "fetch", "split", "train", "evaluate", "predict")
NETWORKS = ("two_conv", "lenet5")
PACKAGES = sorted(path.parent.name for path in REPOSITORY.glob("stages/*/__init__.py"))
WIRING = yaml.safe_load((REPOSITORY / "dvc.yaml").read_text())["stages"]


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("stage", STAGES)
def test_every_module_that_a_stage_imports_lies_below_one_of_its_deps(
    stage: str, network: str
) -> None:
    # exec, or the shell would stay between dvc and the stage, which would not end with dvc
    assert WIRING[stage]["cmd"].split()[:4] == ["exec", "python", "-m", f"stages.{stage}"]
    deps = [dep.replace("${item.net}", network) for dep in WIRING[stage]["deps"]]
    code = [dep for dep in deps if dep.startswith("stages/")]
    imported = set(files_of_stage(stage, network))
    for file in imported:
        assert any(lies_below(file, dep) for dep in code), f"{stage} imports {file}"
    for dep in code:
        assert any(lies_below(file, dep) for file in imported), f"{stage} imports nothing of {dep}"


def lies_below(file: str, dep: str) -> bool:
    return file == dep or file.startswith(f"{dep}/")


def test_the_stages_and_nothing_else_stand_in_the_stages_folder() -> None:
    modules = {path.stem for path in REPOSITORY.glob("stages/*.py")} - {"__init__"}
    assert modules == set(STAGES) == set(WIRING)


def test_whoever_opens_the_tools_folder_sees_programs_that_the_makefile_or_a_page_runs() -> None:
    scripts = {path.stem for path in REPOSITORY.glob("tools/*.py")} - {"__init__"}
    folders = {path.parent.name for path in REPOSITORY.glob("tools/*/__init__.py")} - {"common"}
    pages = ("Makefile", "docs/*.md", "metrics/*.md")
    text = "".join(path.read_text() for page in pages for path in REPOSITORY.glob(page))
    for program in scripts | folders:
        assert f"python -m tools.{program}" in text


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_is_imported_by_the_stages_that_its_first_line_names(package: str) -> None:
    first_line = (REPOSITORY / f"stages/{package}/__init__.py").read_text().splitlines()[0]
    named = re.search(r"Used by ([\w, ]+)\.", first_line)[1].split(", ")
    folder = f"stages/{package}/"
    users = [
        stage
        for stage in STAGES
        if any(file.startswith(folder) for file in files_of_stage(stage, "two_conv"))
    ]
    assert named == users


def test_no_import_runs_upwards_or_in_a_circle() -> None:
    graph = {
        path.relative_to(REPOSITORY).as_posix(): set(imports(path, "two_conv"))
        for folder in ("stages", "tools")
        for path in sorted((REPOSITORY / folder).rglob("*.py"))
    }
    rooms: dict[str, set[str]] = {}
    for file, imported in graph.items():
        floor = height(file)
        assert all(height(below) <= floor for below in imported), file
        others = {room(below) for below in imported} - {room(file)}
        programs = {other for other in others if other.startswith("tools/")} - {"tools/common"}
        assert not programs, f"{file} imports another program"
        rooms.setdefault(room(file), set()).update(others)
    for nodes in (graph, rooms):
        TopologicalSorter(nodes).prepare()  # raises CycleError


def room(file: str) -> str:
    """Name the folder of a module; one that stands in none is a room of its own."""
    return str(Path(file).parent) if file.count("/") > 1 else file


def height(file: str) -> int:
    """Tell the floor of a module: stages' packages, their scripts, what tools share, programs."""
    if file.startswith("tools/"):
        return 2 if file.startswith("tools/common/") else 3
    return 1 if Path(file).parent.name == "stages" else 0


def files_of_stage(stage: str, network: str) -> Iterator[str]:
    """Yield a stage's script and all files of the project that it imports, directly or not."""
    todo, seen = [f"stages/{stage}.py"], set()
    while todo:
        file = todo.pop()
        if file not in seen:
            seen.add(file)
            yield file
            packages = [f"{folder}/__init__.py" for folder in Path(file).parents]
            todo += [package for package in packages if (REPOSITORY / package).is_file()]
            todo += imports(REPOSITORY / file, network)


def imports(path: Path, network: str) -> Iterator[str]:
    """Yield the files of the project that a module names in its imports."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports would be missed here"
            modules = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module"):
            (argument,) = map(ast.unparse, node.args)
            assert argument == "f'stages.networks.{name}'", "another one would be missed here"
            modules = [f"stages.networks.{network}"]
        else:
            continue
        for module in modules:
            file = f"{module.replace('.', '/')}.py"
            if (REPOSITORY / file).is_file():
                yield file


TRAININGS = {f"train@{network}" for network in NETWORKS}
LENET5 = {f"{stage}@lenet5" for stage in ("train", "evaluate", "predict")}


def test_a_change_of_code_reaches_the_stages_that_use_it_and_no_other_network(
    clone: Clone,
) -> None:
    change(clone, "stages/networks/lenet5.py", "nn.ReLU()", "nn.ReLU(inplace=False)")
    assert changed_stages(clone) == LENET5

    change(clone, "stages/pictures/figures.py", '"font.size": 10', '"font.size": 11')
    change(clone, "stages/raw/idx.py", "MAX_BYTES = 1 << 30", "MAX_BYTES = 1 << 29")
    change(clone, "README.md", "#", "##")
    (clone.path / "docs").mkdir(exist_ok=True)
    (clone.path / "docs/new.md").touch()
    reached = changed_stages(clone)
    assert {"fetch", "split", "evaluate@two_conv", "predict@two_conv"} < reached
    assert reached & TRAININGS == {"train@lenet5"}

    change(clone, "stages/training/trainer.py", "(1 + done)", "(2 + done)")
    assert changed_stages(clone) - reached == {"train@two_conv"}


def test_what_editors_and_notebooks_leave_in_the_code_changes_no_stage(clone: Clone) -> None:
    for leftover in (
        *(".ipynb_checkpoints/idx-checkpoint.py", "__pycache__/idx.cpython-311.pyc"),
        *("Untitled.ipynb", "idx.py~", ".idx.py.swp", "#idx.py#", "._idx.py", "idx.py.orig"),
        *(".DS_Store", "4913", ".idea/raw.xml", "notes.txt"),
    ):
        path = clone.path / "stages/raw" / leftover
        path.parent.mkdir(exist_ok=True)
        path.write_text("left over")
    (clone.path / "stages/raw/.#idx.py").symlink_to("someone@somewhere")  # Emacs locks a file so
    assert changed_stages(clone) == set()

    (clone.path / "stages/raw/new.py").touch()
    assert changed_stages(clone) == {"fetch", "split"}


def change(clone: Clone, file: str, old: str, new: str) -> None:
    text = clone.read(file).decode()
    assert old in text
    (clone.path / file).write_text(text.replace(old, new, 1))


def changed_stages(clone: Clone) -> set[str]:
    """List the stages that ``dvc status`` names."""
    return {
        line.rstrip(":") for line in clone.dvc("status").splitlines() if re.match(r"\S+:$", line)
    }


def test_the_table_of_what_to_change_names_the_stages_that_run_again() -> None:
    readme = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    table = readme.partition("| what | edit | runs again |\n")[2].partition("\n\n")[0]
    rows = [row.strip("| ").split(" | ") for row in table.splitlines()[1:]]
    assert len(rows) > 5
    for what, edit, again in rows:
        files = re.findall(r"`(\S+)`", edit)
        assert all((REPOSITORY / file).is_file() for file in files), what
        reached = {
            stage
            for stage in STAGES
            for dep in WIRING[stage]["deps"]
            if any(lies_below(file, dep.replace("${item.net}", "lenet5")) for file in files)
        }
        if "train" in reached:  # other weights
            reached |= {"evaluate", "predict"}
        named = {name.partition("@")[0] for name in re.findall(r"`(\S+)`", again)}
        assert reached == (set(STAGES) if again == "all" else named), what
