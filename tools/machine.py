"""Refuse a machine on which the outputs would not be, to the bit, those of other machines."""

import hashlib
import re
from pathlib import Path

from stages.common.console import StageError
from stages.common.determinism import make_torch_deterministic

# Of torch 2.13.0 with our pins; a new version of torch may change it, as it may dvc.lock.
KNOWN_STEP = "d90db02c7d574ef8ba362fe05e875d496469c061deb64da7ee0d120d9e45c99c"


def check_machine() -> None:
    """Compare the processor, torch's version and the bits of a step with those that are promised.

    Raises
    ------
    StageError
        If one of them is another.
    """
    import torch  # here, not above: the pins come first

    processor = torch.cpu.get_capabilities()
    wanted = re.search(r"^torch==(\S+)", Path("requirements.txt").read_text(), re.MULTILINE)[1]
    if processor["architecture"] != "x86_64":
        reason = f"its processor is {processor['architecture']}, not x86_64"
    elif not processor["avx2"]:  # asked first: a step would end in an illegal instruction
        reason = "its processor has no AVX2"
    elif torch.__version__.partition("+")[0] != wanted:
        reason = f"it has torch {torch.__version__}, not {wanted}; install requirements.txt"
    elif hash_of_a_step() != KNOWN_STEP:
        reason = "a step of training has other bits here than everywhere else"
    else:
        return
    raise StageError(f"the results of this machine would not be those of others: {reason}")


def hash_of_a_step() -> str:
    """Hash the weights of a small network after one step of training."""
    import torch
    import torch.nn.functional as F  # noqa: N812, the field's name for it
    from torch import nn

    make_torch_deterministic()
    torch.manual_seed(1)
    layers = nn.Conv2d(1, 8, 5), nn.BatchNorm2d(8), nn.Tanh(), nn.Flatten(), nn.Linear(4608, 10)
    network = nn.Sequential(*layers)
    F.cross_entropy(network(torch.rand(64, 1, 28, 28)), torch.arange(64) % 10).backward()
    stepped = [(weight - 0.1 * weight.grad).detach() for weight in network.parameters()]
    return hashlib.sha256(b"".join(weight.numpy().tobytes() for weight in stepped)).hexdigest()
