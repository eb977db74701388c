"""Files as they were when they were noted, to tell later whether they still are."""

import os
from collections.abc import Iterator
from pathlib import Path

from stages.common.files import sha256

CODE: dict[str, "Note"] = {}  # by the path of the module


class Note:
    """What a file held, or that it wasn't there.

    Attributes
    ----------
    digest : str or None
        The file's SHA-256; None if it couldn't be read.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._signature = _sign(path)
        self.digest = _digest(path)

    def holds(self) -> bool:
        """Tell whether the file is what it was: not touched, or put back."""
        return _sign(self._path) == self._signature or _digest(self._path) == self.digest


def note_code() -> None:
    """Note the stages' modules; call it before they are imported."""
    CODE.update((os.fspath(path), Note(path)) for path in modules_below(Path("stages")))


def modules_below(folder: Path) -> Iterator[Path]:
    """Yield the modules of a folder of code, without what .dvcignore leaves out."""
    for path in folder.rglob("*.py"):
        if not any(part.startswith(".") for part in path.parts):
            yield path


def _sign(path: Path) -> tuple[int, ...] | None:
    """Return what no change of a file leaves alone; reading a large one takes longer."""
    try:
        found = path.stat()
    except OSError:
        return None
    return (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)


def _digest(path: Path) -> str | None:
    try:
        return sha256(path)
    except OSError:
        return None
