"""Rebuild the committed HEAD from nothing and compare every output with its dvc.lock."""

import argparse
import hashlib
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import yaml

from stages.common.console import StageError, format_table, run_stage
from stages.fetch import LOCAL_FOLDER_VARIABLE
from tools.commands import clone_environment, run

ABSENT = "absent"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tools.verify", description=__doc__)
    parser.add_argument("target", nargs="*", help="what to rebuild, as in train@lenet5; else all")
    targets = parser.parse_args().target

    with tempfile.TemporaryDirectory(prefix="verify-") as folder:
        clone = Path(folder) / "clone"
        commit = clone_head(clone)
        # dvc.lock keeps stages that are gone, as those of a network that was taken out.
        defined = run("dvc", "--cd", str(clone), "stage", "list", "--name-only").splitlines()
        expected = read_outputs(clone / "dvc.lock")
        print(f"rebuilding {commit}, what is committed, in {clone}")
        # No result of the commit, some of which are in git, can be taken for a rebuilt one.
        for output in ["dvc.lock", *(path for outputs in expected.values() for path in outputs)]:
            (clone / output).unlink(missing_ok=True)
        completed = rebuild(clone, targets)
        rebuilt = read_outputs(clone / "dvc.lock") if (clone / "dvc.lock").exists() else {}
        stages = [stage for stage in defined if stage in rebuilt or not targets]
        rows = [
            (output, expected.get(stage, {}).get(output, ABSENT), md5(clone / output))
            for stage in stages
            for output in expected.get(stage, {}) | rebuilt.get(stage, {})
        ]

    print(format_table(("output", "expected", "got"), rows))
    different = [output for output, wanted, got in rows if wanted != got]
    if different:
        raise StageError(f"{commit} doesn't rebuild to its dvc.lock: {', '.join(different)}")
    if not completed:
        raise StageError(f"{commit}: `dvc repro` failed, see above")
    print(f"all {len(rows)} outputs are those of {commit}'s dvc.lock, to the bit")


def clone_head(target: Path) -> str:
    """Clone the repository around the working directory; return the commit's short name.

    Raises
    ------
    StageError
        If there is no repository, or its HEAD has no dvc.lock.
    """
    root = run("git", "rev-parse", "--show-toplevel")
    run("git", "clone", "--quiet", "--no-hardlinks", root, str(target))
    if not (target / "dvc.lock").exists():
        raise StageError("no dvc.lock is committed; run `dvc repro`, commit it, then verify")
    return run("git", "-C", str(target), "rev-parse", "--short", "HEAD")


def rebuild(clone: Path, targets: Sequence[str]) -> bool:
    """Run ``dvc repro`` with no cache and no settings but the clone's; tell if it succeeded."""
    here = clone.parent
    environment = clone_environment(here) | {
        # Any of these could name a cache that others filled.
        "DVC_GLOBAL_CONFIG_DIR": str(here / "global"),
        "DVC_SYSTEM_CONFIG_DIR": str(here / "system"),
    }
    if folder := environment.get(LOCAL_FOLDER_VARIABLE):
        environment[LOCAL_FOLDER_VARIABLE] = str(Path(folder).resolve())
    command = [sys.executable, "-m", "dvc", "repro", "--force", "--no-run-cache", *targets]
    return not subprocess.run(command, cwd=clone, env=environment, check=False).returncode


def read_outputs(lock: Path) -> dict[str, dict[str, str]]:
    """Read the MD5 of each output, by stage, from a ``dvc.lock``."""
    stages = yaml.safe_load(lock.read_text(encoding="utf-8"))["stages"]
    return {
        name: {out["path"]: out["md5"] for out in stage.get("outs", [])}
        for name, stage in stages.items()
    }


def md5(path: Path) -> str:
    """Compute a file's MD5, which is what DVC keeps; all of our outputs are files."""
    if not path.is_file():
        return ABSENT
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


if __name__ == "__main__":
    run_stage(main)
