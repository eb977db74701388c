"""A known computation ahead of a stage's own, which tells whether its bits are everyone's."""

import os
import re
import sys
from pathlib import Path

import torch
import torch.nn.functional as F  # noqa: N812, the field's name for it
from torch import nn

from stages.classifier.convolution import fix_convolutions, needs_avx2
from stages.classifier.image_classifier import build_network
from stages.common.determinism import AVX2, ISA
from stages.common.fashion_mnist import IMAGE_SIZE
from stages.common.params import RecipeParams
from stages.common.tensors import hash_tensors

REQUIREMENTS = Path("requirements.txt")
# SHA-256 of what `compute_answers` and `compute_step` return with the torch of requirements.txt.
ANSWERS = "ca971cd56d9807a477b9dcd09bdfee9123d9b95d9485217efda7a0aaa05ac7b3"
STEP = "5cbd8a06a054d3a126105bb0883637a949a6a60b9f615bf2be354866ab95198a"


def use_everyones_bits(name: str, recipe: RecipeParams, training: bool) -> None:
    """Make sure that a network's bits are those of all machines, or say that they are others.

    Where they need it, the process starts again without AVX-512.

    Parameters
    ----------
    name : str
        The network's.
    recipe : RecipeParams
        Its section of ``params.yaml``.
    training : bool
        Whether gradients count as well, or the network's answers alone.
    """
    if torch.backends.cpu.get_cpu_capability() != "AVX2":
        return  # which has been said already
    image = torch.zeros(1, 1, IMAGE_SIZE, IMAGE_SIZE, dtype=torch.uint8)
    if os.environ[ISA] != AVX2 and needs_avx2(build_network(name, recipe), image):
        restart_with_avx2(f"{name}: a layer of it has the same bits everywhere with AVX2's code")
    if not has_known_bits(training):
        if os.environ[ISA] != AVX2:
            restart_with_avx2("AVX-512 has other bits here than elsewhere: AVX2's code goes on")
        print(f"warning: {say_other_bits()}", file=sys.stderr)
    elif reason := other_torch():
        print(f"warning: {reason}, or outputs may differ from dvc.lock", file=sys.stderr)


def restart_with_avx2(reason: str) -> None:
    """Start this process again, as oneDNN can't change its code once it has computed."""
    print(reason, flush=True)
    os.environ[ISA] = AVX2
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])  # noqa: S606, the same command


def has_known_bits(training: bool) -> bool:
    """Compare the known computation with what it gives everywhere."""
    compute, known = (compute_step, STEP) if training else (compute_answers, ANSWERS)
    return hash_tensors(compute()) == known


def say_other_bits() -> str:
    """Say that this machine's bits are others, and why."""
    return (
        "a known computation has other bits on this machine than everywhere else, so the outputs "
        f"will differ from those in dvc.lock. The likeliest cause: {likeliest_cause()}"
    )


def likeliest_cause() -> str:
    """Say what makes this machine's bits others."""
    return other_torch() or (
        "a core has less than 256 KB of L2 cache, or a virtual machine that hides hyper-threads "
        "says so"
    )


def other_torch() -> str | None:
    """Say which torch is installed, if it isn't that of requirements.txt."""
    pinned = REQUIREMENTS.read_text(encoding="utf-8") if REQUIREMENTS.exists() else ""
    wanted = re.search(r"^torch==(\S+)", pinned, re.MULTILINE)
    if wanted is None or torch.__version__.partition("+")[0] == wanted[1]:
        return None
    return f"it has torch {torch.__version__}, not {wanted[1]}; install requirements.txt"


def compute_answers() -> list[torch.Tensor]:
    """Compute what the networks say of known images, without training."""
    with torch.inference_mode():
        return [network(images) for network, images in known_networks()]


def compute_step() -> list[torch.Tensor]:
    """Compute the gradients of a known step, and products of them as Muon makes them."""
    computed = []
    for network, images in known_networks():
        loss = F.cross_entropy(network(images), torch.arange(len(images)) % 10)
        gradients = torch.autograd.grad(loss, [*network.parameters()])
        matrices = [gradient.flatten(1) for gradient in gradients if gradient.ndim > 1]
        computed += [*gradients, *(matrix @ matrix.T @ matrix for matrix in matrices)]
    return computed


def known_networks() -> list[tuple[nn.Module, torch.Tensor]]:
    """Build networks of the committed recipes' shapes, each with a shard of images.

    Written out here, as a change of a network's own file is no other CPU.
    """
    torch.manual_seed(1)
    two_conv = nn.Sequential(
        *(nn.Conv2d(1, 32, 5, padding=2), nn.MaxPool2d(2), nn.BatchNorm2d(32), nn.ReLU()),
        *(nn.Conv2d(32, 128, 5, stride=2, padding=2), nn.BatchNorm2d(128), nn.ReLU()),
        *(nn.Flatten(), nn.Linear(6272, 10)),
    )
    lenet5 = nn.Sequential(
        *(nn.Conv2d(1, 6, 5, padding=2), nn.MaxPool2d(2), nn.BatchNorm2d(6), nn.ReLU()),
        *(nn.Conv2d(6, 16, 5), nn.MaxPool2d(2), nn.BatchNorm2d(16), nn.ReLU()),
        *(nn.Conv2d(16, 120, 5), nn.Flatten(), nn.BatchNorm1d(120), nn.ReLU()),
        *(nn.Linear(120, 84), nn.BatchNorm1d(84), nn.ReLU(), nn.Linear(84, 10)),
    )
    networks = []
    for network, shard in ((two_conv, 32), (lenet5, 64)):
        fix_convolutions(network.to(memory_format=torch.channels_last))
        images = torch.rand(shard, 1, 28, 28)
        networks.append((network, images.contiguous(memory_format=torch.channels_last)))
    return networks
