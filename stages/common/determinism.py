"""Settings with which torch computes the same bits on every x86-64 CPU, and seeds."""

import hashlib
import os
import sys

# Each library picks its code by what the CPU can do, and other code rounds otherwise.
ISA = "ONEDNN_MAX_CPU_ISA"  # instruction set architecture
AVX2, AVX512 = "AVX2", "AVX512_CORE"
PINS = {
    "ATEN_CPU_CAPABILITY": "avx2",
    ISA: AVX512,  # where the CPU has it: its convolutions have AVX2's bits (convolution.py)
    "MKL_CBWR": "COMPATIBLE",
}
# torch splits sums by the number of its threads: one, so that the bits don't depend on the cores,
# which our own threads share (workers.py).
ONE_THREAD = {"OMP_NUM_THREADS": "1"}
# A user's own settings of these change how sums are split; OMP_DYNAMIC and OMP_THREAD_LIMIT even
# leave parts of a convolution uncomputed, as oneDNN then gets fewer threads than it counts on.
TUNING_PREFIXES = ("ATEN_", "DNNL_", "GOMP_", "MKL_", "OMP_", "ONEDNN_")


def pin_cpu_code_paths() -> None:
    """Hold torch, oneDNN and MKL to code whose bits are everyone's, before torch is imported.

    Of what the user has set, ``ONEDNN_MAX_CPU_ISA=AVX2`` stays: it leaves AVX-512 out.
    """
    kept = {ISA: AVX2} if os.environ.get(ISA) == AVX2 else {}
    for name in [*os.environ]:
        if name.startswith(TUNING_PREFIXES):
            del os.environ[name]
    os.environ.update(PINS | ONE_THREAD | kept)


def make_torch_deterministic() -> None:
    """Fix what else the bits depend on: denormal numbers and the choice of algorithms."""
    import torch  # here, not above: the pins come first

    torch.set_flush_denormal(True)
    # torch.use_deterministic_algorithms(True) would import torch's compiler, which takes seconds.
    torch.set_deterministic_debug_mode("error")
    # Every buffer that we allocate is written before it is read: filling it first costs time.
    torch.utils.deterministic.fill_uninitialized_memory = False
    if (found := torch.backends.cpu.get_cpu_capability()) != "AVX2":
        print(
            f"warning: torch uses its {found} code here, not AVX2's: the outputs will differ "
            "from those in dvc.lock",
            file=sys.stderr,
        )


def derive_seed(seed: int, *purpose: str | int) -> int:
    """Derive a seed of 63 bits for one use, so that changing one use doesn't shift another.

    Parameters
    ----------
    seed : int
        The seed in ``params.yaml``.
    *purpose : str or int
        What it is for, as in ``derive_seed(42, "dropout", epoch)``.
    """
    text = repr((seed, *purpose))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1
