"""Another CPU for libtorch, at native speed: ``fake_cpu.c`` answers the library's ``cpuid``."""

import mmap
import re
import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

import pytest
import torch

LIBRARY = "libtorch_cpu.so"  # holds oneDNN, MKL and ATen, which ask the CPU what it is
CPUID, TRAP = b"\x0f\xa2", b"\xcc\x90"  # int3; nop
AVX2, SKYLAKE, ALL = range(3)  # the AVX-512 of Skylake's servers; all that this machine has


class Cpu(NamedTuple):
    """What a CPU says of itself; caches in KiB, that of a core."""

    maker: str
    signature: str
    l1: int
    l2: int
    l3: int
    level: int
    threads: int = 2  # of a core; 1 where a virtual machine hides the other


CPUS = {
    "Haswell": Cpu("GenuineIntel", "0x306C3", 32, 256, 8192, AVX2),
    "Comet Lake": Cpu("GenuineIntel", "0xA0655", 32, 256, 20480, AVX2),
    "Alder Lake": Cpu("GenuineIntel", "0x90672", 48, 1280, 30720, AVX2),
    "Raptor Lake": Cpu("GenuineIntel", "0xB0671", 48, 2048, 36864, AVX2),
    "Zen 2": Cpu("AuthenticAMD", "0x830F10", 32, 512, 16384, AVX2),
    "Zen 3": Cpu("AuthenticAMD", "0xA00F11", 32, 512, 32768, AVX2),
    "no word of caches": Cpu("GenuineIntel", "0x306C3", 0, 0, 0, AVX2),
    "Skylake-SP": Cpu("GenuineIntel", "0x50654", 32, 1024, 25344, SKYLAKE),
    "Ice Lake": Cpu("GenuineIntel", "0x606A6", 48, 1280, 49152, ALL),
    "Rocket Lake": Cpu("GenuineIntel", "0xA0671", 48, 512, 16384, ALL),
    "Sapphire Rapids": Cpu("GenuineIntel", "0x806F8", 48, 2048, 107520, ALL),
    "Zen 4": Cpu("AuthenticAMD", "0xA10F11", 32, 1024, 32768, ALL),
    "Zen 5": Cpu("AuthenticAMD", "0xB00F21", 48, 1024, 32768, ALL),
}
HIDDEN_HYPERTHREAD = CPUS["Haswell"]._replace(threads=1)  # looks as if it had half of its cache
SMALL_CACHE = CPUS["Skylake-SP"]._replace(l2=256)  # no CPU with AVX-512 has so little


def settings(cpu: Cpu, folder: Path) -> dict[str, str]:
    """Return the environment of a process that takes its CPU for another one.

    Torch is loaded before Python runs, so that the one thread that stages set comes too late.
    """
    preloaded = f"{folder / LIBRARY} {folder / 'fake_cpu.so'}"
    described = f"{' '.join(map(str, cpu[:5]))} {cpu.threads} {cpu.level}"
    return {"LD_PRELOAD": preloaded, "FAKE_CPU": described, "OMP_NUM_THREADS": "1"}


def build(folder: Path) -> None:
    """Make what ``settings`` preloads; skip the tests where a compiler is missing."""
    if not all(map(shutil.which, ("cc", "objdump", "readelf"))):
        pytest.skip("cc or objdump is missing: apt-get install gcc")
    source = Path(__file__).with_name("fake_cpu.c")
    command = ["cc", "-O1", "-shared", "-fPIC", str(source), "-o", str(folder / "fake_cpu.so")]
    subprocess.run(command, check=True)
    libraries = Path(torch.__file__).parent / "lib"
    for library in libraries.glob("*.so*"):
        if library.name != LIBRARY:
            (folder / library.name).symlink_to(library)
    shutil.copy(libraries / LIBRARY, folder)
    places = find_cpuids(libraries / LIBRARY)
    with (folder / LIBRARY).open("r+b") as file, mmap.mmap(file.fileno(), 0) as code:
        for place in places:
            assert code[place : place + 2] == CPUID
            code[place : place + 2] = TRAP


def find_cpuids(library: Path) -> list[int]:
    """Return where in a library's file its cpuid instructions stand; takes most of a minute."""
    sections = subprocess.check_output(["readelf", "-S", "-W", library], text=True)  # noqa: S607
    address, offset = re.search(r" \.text +PROGBITS +(\w+) (\w+)", sections).groups()
    listing = f"objdump -d --no-show-raw-insn '{library}' | grep -P '\\tcpuid'"
    found = subprocess.check_output(listing, shell=True, text=True)  # noqa: S602
    return [
        int(line.partition(":")[0], 16) - int(address, 16) + int(offset, 16)
        for line in found.splitlines()
    ]
