"""Where an interrupted training goes on: its state after each epoch, outside DVC's outs."""

import fcntl
import hashlib
import json
from pathlib import Path
from typing import BinaryIO

import torch

from stages.common.console import StageError
from stages.common.tensors import hash_tensors, read_tensors, write_tensors

# Below the working directory, so that each of DVC's temporary copies has its own.
RESUME_FOLDER = Path(".resume")


class ResumeState:
    """The latest state of one network's training, which one process at a time holds.

    Parameters
    ----------
    network : str
        The network's name.
    fingerprint : str
        Stands for the params, data and code that the result depends on.

    Raises
    ------
    StageError
        If another process holds it.
    """

    def __init__(self, network: str, fingerprint: str) -> None:
        self.path = RESUME_FOLDER / f"{network}.state"
        self._network = network
        self._lock_file = self.path.with_suffix(".lock")
        self._lock = _hold(self._lock_file)
        self._origin = f"{fingerprint} {torch.__version__}"

    def save(self, tensors: dict[str, torch.Tensor], history: list[list[float]]) -> None:
        """Keep the state after ``len(history)`` epochs."""
        content = {"origin": self._origin, "history": history}
        digest = _digest(tensors, content)
        write_tensors(self.path, tensors, content | {"digest": digest})

    def load(self) -> tuple[dict[str, torch.Tensor], list[list[float]]] | None:
        """Return tensors and history; None if there is no state, or, with a line, none of use."""
        if not self.path.exists():
            return None
        try:
            tensors, content = read_tensors(self.path, f"train@{self._network}")
            whole = content.pop("digest", None) == _digest(tensors, content)
        except StageError:
            whole = False
        if not whole:
            damaged = self.path.with_suffix(".damaged")
            self.path.replace(damaged)
            print(
                f"{self.path} is damaged, or of another version: set aside as {damaged}, "
                "training starts over"
            )
            return None
        if content["origin"] != self._origin:
            print(f"{self.path} was made from other params, data or code: training starts over")
            return None
        return tensors, content["history"]

    def remove(self) -> None:
        """Remove the state, what a killed process left half-written, and the folder if empty."""
        folder = self.path.parent
        for path in [self.path, *folder.glob(f".{self.path.name}.*.part"), self._lock_file]:
            path.unlink(missing_ok=True)
        # Not where a user has put a link to another disk.
        if folder.is_dir() and not folder.is_symlink() and not any(folder.iterdir()):
            folder.rmdir()


def _digest(tensors: dict[str, torch.Tensor], content: dict) -> str:
    """Hash all of a state, as safetensors doesn't notice a flipped bit."""
    names = sorted(tensors)
    described = [[name, str(tensors[name].dtype), *tensors[name].shape] for name in names]
    held = [content, described, hash_tensors([tensors[name] for name in names])]
    return hashlib.sha256(json.dumps(held, sort_keys=True).encode()).hexdigest()


def _hold(path: Path) -> BinaryIO:
    """Lock a file until this process ends, however it does: the kernel lets go of it then."""
    path.parent.mkdir(exist_ok=True)
    file = path.open("wb")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise StageError(
            f"{path}: another process trains {path.stem} in this folder; wait for it, or end it"
        ) from None
    except OSError:
        pass  # a file system without locks
    return file
