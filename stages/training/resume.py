"""Where an interrupted training goes on: its state after each epoch, outside DVC's outs."""

import fcntl
import hashlib
import json
from pathlib import Path
from typing import BinaryIO

import safetensors.torch
import torch

from stages.common.console import StageError
from stages.common.files import write_bytes

# Below the working directory, so that each of DVC's temporary copies has its own.
RESUME_FOLDER = Path(".resume")


class ResumeState:
    """The latest state of one network's training, which one process at a time holds.

    Parameters
    ----------
    network : str
        The network's name.
    origin : bytes
        Stands for the params, data and code that the result depends on.

    Raises
    ------
    StageError
        If another process holds it.
    """

    def __init__(self, network: str, origin: bytes) -> None:
        self.path = RESUME_FOLDER / f"{network}.state"
        self._lock_file = self.path.with_suffix(".lock")
        self._lock = _hold(self._lock_file)
        self._fingerprint = hashlib.sha256(origin + torch.__version__.encode()).digest()

    def save(self, tensors: dict[str, torch.Tensor], history: list[list[float]]) -> None:
        """Keep the state after ``len(history)`` epochs."""
        tensors = {name: tensor.contiguous() for name, tensor in tensors.items()}
        state = safetensors.torch.save(tensors, {"history": json.dumps(history)})
        body = self._fingerprint + state
        write_bytes(self.path, hashlib.sha256(body).digest() + body)

    def load(self) -> tuple[dict[str, torch.Tensor], list[list[float]]] | None:
        """Return tensors and history; None if there is no state, or, with a line, none of use."""
        try:
            content = self.path.read_bytes()
        except FileNotFoundError:
            return None
        digest, body = content[:32], content[32:]
        if hashlib.sha256(body).digest() != digest:
            damaged = self.path.with_suffix(".damaged")
            self.path.replace(damaged)
            print(f"{self.path} is damaged: set aside as {damaged}, training starts over")
            return None
        # Before the state is parsed: other code may have laid it out otherwise.
        fingerprint, state = body[:32], body[32:]
        if fingerprint != self._fingerprint:
            print(f"{self.path} was made from other params, data or code: training starts over")
            return None
        # safetensors.torch.load drops the metadata.
        header = json.loads(state[8 : 8 + int.from_bytes(state[:8], "little")])
        return safetensors.torch.load(state), json.loads(header["__metadata__"]["history"])

    def remove(self) -> None:
        """Remove the state, what a killed process left half-written, and the folder if empty."""
        folder = self.path.parent
        for path in [self.path, *folder.glob(f".{self.path.name}.*.part"), self._lock_file]:
            path.unlink(missing_ok=True)
        # Not where a user has put a link to another disk.
        if folder.is_dir() and not folder.is_symlink() and not any(folder.iterdir()):
            folder.rmdir()


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
