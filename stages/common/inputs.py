"""What a stage depends on, bound to what it read.

DVC asks for it only once the stage has ended, and would bind the result to what lies there then
(treeverse/dvc#11058).
"""

import hashlib
import json
from collections.abc import Iterator
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
        # Modules were noted before they were imported, all others are still to be read.
        self._files = {path: Note(Path(path)) for path in deps if not Path(path).is_dir()} | {
            path: note for path, note in CODE.items() if any(_lies_below(path, dep) for dep in deps)
        }
        self.refuse_changes()

    def fingerprint(self) -> bytes:
        """Compute a SHA-256 of all that was read."""
        files = {path: note.digest for path, note in self._files.items()}
        text = json.dumps({"params": self._values, "files": files}, sort_keys=True)
        return hashlib.sha256(text.encode()).digest()

    def refuse_changes(self) -> None:
        """Compare what was read with what lies there now; call it before the last output.

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
                yield f"{key} in {PARAMS_FILE} ({before} -> {now})"

    def _changed_files(self) -> Iterator[str]:
        folders = [Path(dep) for dep in self._deps if Path(dep).is_dir()]
        found = {str(path) for folder in folders for path in modules_below(folder)}
        for path in sorted(self._files.keys() | found):
            if path not in self._files:
                yield f"{path} (new)"
            elif not self._files[path].holds():
                yield path if Path(path).exists() else f"{path} (gone)"


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
