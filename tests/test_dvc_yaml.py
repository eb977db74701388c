"""The wiring in dvc.yaml is what the code needs."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.conftest import REPOSITORY

STAGES = ("fetch", "split", "train", "evaluate", "predict")


@pytest.mark.parametrize("stage", ["check", *STAGES])
def test_deps_name_every_module_that_the_stage_imports(stage: str) -> None:
    wiring = yaml.safe_load((REPOSITORY / "dvc.yaml").read_text())["stages"][stage]
    named = {dep for dep in wiring["deps"] if dep.endswith(".py")}
    module = wiring["cmd"].split()[2]
    assert named == set(imported_files(f"{module.replace('.', '/')}.py"))


def test_only_stages_stand_in_the_stages_folder() -> None:
    modules = {path.stem for path in (REPOSITORY / "stages").glob("*.py")} - {"__init__"}
    assert modules == set(STAGES)


def imported_files(start: str) -> Iterator[str]:
    """Yield a module's file and those of all modules of the project that it imports."""
    todo, seen = [start], set()
    while todo:
        name = todo.pop()
        if name in seen or not (REPOSITORY / name).is_file():
            continue
        seen.add(name)
        yield name
        todo += [f"{package}/__init__.py" for package in Path(name).parents]  # imported on the way
        for node in ast.walk(ast.parse((REPOSITORY / name).read_text())):
            if isinstance(node, ast.Import):
                modules = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{name}: relative imports would be missed here"
                modules = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
            else:
                continue
            for module in modules:
                path = module.replace(".", "/")
                todo += [f"{path}.py", f"{path}/__init__.py"]
