"""What a stage depends on, bound to what it read.

DVC asks for it only once the stage has ended, and would bind the result to what lies there then
(treeverse/dvc#11058).
"""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from stages.common.console import StageError
from stages.common.noted import CODE, Note, modules_below
from stages.common.params import PARAMS_FILE, check_params, read_yaml

WIRING = Path("dvc.yaml")
ABSENT = "nothing"


class Inputs:
    """The deps and params that ``dvc.yaml`` names for a stage, as they are before it reads them.

    Parameters
    ----------
    stage : str
        The stage's name.
    network : str, optional
        The network, of a stage that has one.

    Attributes
    ----------
    params : Params
        All of ``params.yaml``, for the stage to use.

    Raises
    ------
    StageError
        If ``params.yaml`` is wrong, if ``dvc.yaml`` has no such stage, or if code was changed while
        it was imported.
    """

    def __init__(self, stage: str, network: str = "") -> None:
        self._params_file = Note(PARAMS_FILE)
        tree = read_yaml(PARAMS_FILE)
        self.params = check_params(tree)
        try:
            wiring = read_yaml(WIRING)["stages"][stage]
            deps, keys = (
                [entry.replace("${item.net}", network) for entry in wiring.get(kind, [])]
                for kind in ("deps", "params")
            )
        except (AttributeError, KeyError, TypeError):
            raise StageError(
                f"{WIRING}: doesn't say what {stage} depends on; restore it from git"
            ) from None
        self._deps, self._keys = deps, keys
        self._values = _values_of(tree, keys)
        imported = {path for path in CODE if any(_lies_below(path, dep) for dep in deps)}
        # Modules were noted before they were imported, all others are still to be read.
        self._files = {
            path: CODE.get(path) or Note(Path(path)) for path in imported | self._find_files()
        }
        self.refuse_changes()

    def fingerprint(self) -> str:
        """Compute the SHA-256 of all that was read as 64 hexadecimal digits."""
        files = {path: note.digest for path, note in self._files.items()}
        text = json.dumps({"params": self._values, "files": files}, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    @contextmanager
    def writing_last_output(self) -> Iterator[None]:
        """Compare what was read with what lies there, before and after the block.

        Raises
        ------
        StageError
            As ``refuse_changes``.
        """
        self.refuse_changes()
        yield
        self.refuse_changes()

    def refuse_changes(self) -> None:
        """Compare what was read with what lies there now.

        Raises
        ------
        StageError
            If something was changed, taken away or added, and not put back.
        """
        if changes := [*self._changed_values(), *self._changed_files()]:
            raise StageError(
                f"changed while this stage was at work: {', '.join(changes)}; the result isn't "
                "kept, as DVC would take it for that of what is there now. Put it back and run "
                "again, or run again with what is there now"
            )

    def _changed_values(self) -> Iterator[str]:
        if self._params_file.holds():
            return
        try:
            values = _values_of(read_yaml(PARAMS_FILE), self._keys)
        except StageError as error:
            yield str(error)
            return
        for key in sorted(self._values.keys() | values.keys()):
            before, now = self._values.get(key, ABSENT), values.get(key, ABSENT)
            if before != now:
                yield f"{key} in {PARAMS_FILE} ({before!s:.40} -> {now!s:.40})"

    def _changed_files(self) -> Iterator[str]:
        for path in sorted(self._files.keys() | self._find_files()):
            note = self._files.get(path)
            if not (note and note.holds()):
                what = "" if note else " (new)"
                yield f"{path}{what if Path(path).exists() else ' (gone)'}"

    def _find_files(self) -> set[str]:
        """List the deps that are files, there or not, and the modules of those that are folders."""
        folders = {dep for dep in self._deps if Path(dep).is_dir()}
        modules = {str(path) for folder in folders for path in modules_below(Path(folder))}
        return modules | (set(self._deps) - folders)


def _values_of(tree: Any, keys: list[str]) -> dict[str, Any]:
    """Map the dotted name of each value at or below some keys to it."""
    values = {}
    for key in keys:
        value = tree
        for name in key.split("."):
            value = value.get(name) if isinstance(value, dict) else None
        if isinstance(value, dict):
            values |= _values_of(tree, [f"{key}.{name}" for name in value])
        elif value is not None:
            values[key] = value
    return values


def _lies_below(path: str, dep: str) -> bool:
    return path == dep or path.startswith(f"{dep}/")
