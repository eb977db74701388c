"""Rebuild a commit or an experiment from nothing and compare every output with its dvc.lock."""

import argparse
import hashlib
import subprocess
from collections.abc import Sequence
from pathlib import Path

from stages.common.console import StageError, format_table, run_stage
from stages.common.layout import LOCAL_FOLDER_VARIABLE
from tools.common.clones import clone_of
from tools.common.commands import run
from tools.common.outputs import check_code, read_outputs

ABSENT = "absent"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tools.verify", description=__doc__)
    parser.add_argument("target", nargs="*", help="what to rebuild, as in train@lenet5; else all")
    parser.add_argument("--rev", default="HEAD", help="a commit's or an experiment's name")
    arguments = parser.parse_args()

    revision = find_revision(arguments.rev)
    check_code(revision, run("git", "merge-base", "HEAD", revision))
    with clone_of(revision, "verify") as (clone, environment):
        commit = run("git", "-C", str(clone), "rev-parse", "--short", "HEAD")
        expected = read_committed(clone)
        print(f"rebuilding {commit}, what is committed, in {clone}")
        rows, completed = rebuild_and_compare(clone, environment, arguments.target, expected)

    print(format_table(("output", "expected", "got"), rows))
    different = [output for output, wanted, got in rows if wanted != got]
    if different:
        raise StageError(f"{commit} doesn't rebuild to its dvc.lock: {', '.join(different)}")
    if not completed:
        raise StageError(f"{commit}: `dvc repro` failed, see above")
    print(f"all {len(rows)} outputs are those of {commit}'s dvc.lock, to the bit")


def find_revision(name: str) -> str:
    """Return the commit of a revision that git knows, or of an experiment, here or on the remote.

    Raises
    ------
    StageError
        If there is none, or more than one.
    """
    try:
        return run("git", "rev-parse", "--verify", f"{name}^{{commit}}")
    except StageError:
        listed = ("git", "for-each-ref", "--format=%(objectname) %(refname)", "refs/exps/*/*/*")
        found = experiments_named(name, run(*listed)) or find_on_remote(name)
    if len(found) != 1:
        reason = "experiments of several commits have this name" if found else "nothing is named so"
        raise StageError(
            f"{name}: {reason}, here or on origin; give the hash of one that `dvc exp show` lists, "
            "or `git ls-remote origin 'refs/exps/*'`"
        )
    return found.pop()


def find_on_remote(name: str) -> set[str]:
    """Fetch the experiments of a name that origin has, if there is one; return their commits.

    Raises
    ------
    StageError
        If it can't be asked.
    """
    if "origin" not in run("git", "remote").splitlines():
        return set()
    try:
        listed = run("git", "ls-remote", "origin", "refs/exps/*/*/*")
    except StageError as error:
        raise StageError(f"{name}: nothing is named so here, and origin says: {error}") from None
    if found := experiments_named(name, listed):
        run("git", "fetch", "--no-prune", "--quiet", "origin", *found)
    return found


def experiments_named(name: str, listed: str) -> set[str]:
    """Choose commits by a name, or a hash, from lines of a commit and a ref."""
    pairs = map(str.split, listed.splitlines())
    return {commit for commit, ref in pairs if name in (commit, ref.rpartition("/")[2])}


def read_committed(project: Path) -> dict[str, dict[str, str]]:
    """Read the MD5 of each output, by stage, from the lock, and compare the results in git with it.

    Raises
    ------
    StageError
        If there is no lock; if the results in git are not those of the lock, which alone is
        compared with what is rebuilt; or if it names files elsewhere, as outputs are removed before
        they are rebuilt.
    """
    lock = project / "dvc.lock"
    if not lock.exists():
        raise StageError("no dvc.lock is committed; run `dvc repro`, commit it, then verify")
    expected = read_outputs(lock.read_text(encoding="utf-8"))
    wanted = {path: digest for outputs in expected.values() for path, digest in outputs.items()}
    root = project.resolve()
    if outside := [path for path in wanted if not (root / path).resolve().is_relative_to(root)]:
        raise StageError(f"its dvc.lock names files outside of the project: {', '.join(outside)}")
    if others := [path for path in wanted if md5(project / path) not in (wanted[path], ABSENT)]:
        raise StageError(f"what is committed isn't what its dvc.lock says: {', '.join(others)}")
    return expected


def rebuild_and_compare(
    clone: Path,
    environment: dict[str, str],
    targets: Sequence[str],
    expected: dict[str, dict[str, str]],
) -> tuple[list[tuple[str, str, str]], bool]:
    """Rebuild targets, or all; return each output with the MD5s, wanted and got, and success."""
    # No result of the commit, some of which are in git, can be taken for a rebuilt one.
    for output in ["dvc.lock", *(path for outputs in expected.values() for path in outputs)]:
        (clone / output).unlink(missing_ok=True)
    completed = rebuild(clone, environment, targets)
    lock = clone / "dvc.lock"
    rebuilt = read_outputs(lock.read_text(encoding="utf-8")) if lock.exists() else {}
    # dvc.lock keeps stages that are gone, such as those of a network that was taken out.
    listed = run("dvc", "--cd", str(clone), "stage", "list", "--name-only", environment=environment)
    stages = [stage for stage in listed.splitlines() if stage in rebuilt or not targets]
    rows = [
        (output, expected.get(stage, {}).get(output, ABSENT), md5(clone / output))
        for stage in stages
        for output in expected.get(stage, {}) | rebuilt.get(stage, {})
    ]
    return rows, completed


def rebuild(clone: Path, environment: dict[str, str], targets: Sequence[str]) -> bool:
    """Run ``dvc repro``, all of it; tell if it succeeded."""
    if folder := environment.get(LOCAL_FOLDER_VARIABLE):
        folder = str(Path(folder).expanduser().resolve())
        environment = environment | {LOCAL_FOLDER_VARIABLE: folder}
    command = ["dvc", "repro", "--force", "--no-run-cache", *targets]
    return not subprocess.run(command, cwd=clone, env=environment, check=False).returncode


def md5(path: Path) -> str:
    """Compute a file's MD5, which is what DVC keeps; all of our outputs are files."""
    if not path.is_file():
        return ABSENT
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


if __name__ == "__main__":
    run_stage(main)
