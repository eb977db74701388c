"""Nothing that a user has set, and no core that is missing, changes a byte."""

import json
import os
from pathlib import Path

import pytest

from stages.common.determinism import ONE_THREAD, PINS, derive_seed
from tests.conftest import Clone

STAGES = ("check", "fetch", "split", "train", "evaluate", "predict")

# Beside the pins some of these give other weights, NaN, or a training that hangs.
USERS_SETTINGS = {
    "ATEN_CPU_CAPABILITY": "avx512",
    "MKL_CBWR": "AVX2",
    "MKL_NUM_STRIPES": "1",
    "OMP_DYNAMIC": "true",
    "OMP_MAX_ACTIVE_LEVELS": "0",
    "OMP_THREAD_LIMIT": "1",
    "ONEDNN_MAX_CPU_ISA": "SSE41",
    "OMP_NUM_THREADS": "3",
    "DNNL_MAX_CPU_ISA": "SSE41",
    "MKL_NUM_THREADS": "3",
    "MPLBACKEND": "svg",
}

# Stops where torch would be imported, and tells what torch would see.
TELL_ENVIRONMENT = """
import importlib, json, os, sys

class StopAtTorch:
    def find_spec(self, name, path=None, target=None):
        if name == "torch":
            print(json.dumps(dict(os.environ)), flush=True)
            os._exit(0)

sys.meta_path.insert(0, StopAtTorch())
importlib.import_module(sys.argv[1])
print("null")
"""


@pytest.mark.parametrize("stage", STAGES)
def test_no_stage_imports_torch_before_the_pins_are_set(source: Clone, stage: str) -> None:
    done = source.run("python", "-c", TELL_ENVIRONMENT, f"stages.{stage}", **USERS_SETTINGS)
    seen = json.loads(done.stdout)
    if stage in ("check", "fetch"):
        assert seen is None, "it does without torch"
        return
    ours = PINS | ONE_THREAD
    assert {name for name in USERS_SETTINGS if name in seen} == {"MPLBACKEND", *ours}
    assert {name: seen[name] for name in ours} == ours


def test_neither_settings_of_the_user_nor_a_single_core_change_a_byte(
    clone: Clone, tmp_path: Path
) -> None:
    (tmp_path / "matplotlibrc").write_text("font.size: 20\nsavefig.dpi: 50\nfont.family: serif\n")
    settings = {**USERS_SETTINGS, "MATPLOTLIBRC": str(tmp_path)}
    one_core = ("taskset", "--cpu-list", str(min(os.sched_getaffinity(0))), "python", "-m")
    predictions = clone.read("data/predictions/two_conv.csv")
    clone.run(*one_core, "stages.evaluate", "lenet5", **settings)
    clone.run(*one_core, "stages.predict", "two_conv", **settings)
    assert clone.git("status", "--porcelain") == "", "metrics or plots changed"
    assert clone.read("data/predictions/two_conv.csv") == predictions

    weights = clone.read("models/lenet5/model.safetensors")
    clone.run(*one_core, "stages.train", "lenet5", **settings)
    assert clone.read("models/lenet5/model.safetensors") == weights


@pytest.mark.parametrize("network", ["two_conv", "lenet5"])
def test_no_number_of_workers_changes_the_weights(clone: Clone, network: str) -> None:
    clone.set_params({f"{network}.dropout": 0.1})  # each shard draws
    found = []
    for workers in ("1", "3"):
        clone.run("python", "-m", "stages.train", network, FASHION_MNIST_WORKERS=workers)
        found.append(clone.read(f"models/{network}/model.safetensors"))
    assert found[0] == found[1]


def test_avx512_can_be_left_out(source: Clone) -> None:
    show = "import os, stages; print(os.environ['ONEDNN_MAX_CPU_ISA'])"
    for asked, got in (("AVX2", "AVX2"), ("AVX512_CORE_AMX", "AVX512_CORE"), ("", "AVX512_CORE")):
        done = source.run("python", "-c", show, ONEDNN_MAX_CPU_ISA=asked)
        assert done.stdout == f"{got}\n"


def test_avx512_and_avx2_give_the_same_bits(source: Clone) -> None:
    one, other = (
        source.run("python", "-m", "tools.machine", ONEDNN_MAX_CPU_ISA=isa).stdout
        for isa in ("AVX512_CORE", "AVX2")
    )
    assert json.loads(one).keys() == {"two_conv", "lenet5"}
    assert one == other


def test_where_the_pins_cannot_hold_a_line_says_so(source: Clone) -> None:
    code = (
        "import torch\n"
        "torch.ones(2).sum()\n"  # too early: torch has chosen its code
        "from stages.common.determinism import make_torch_deterministic\n"
        "make_torch_deterministic()"
    )
    done = source.run("python", "-c", code, ATEN_CPU_CAPABILITY="default")
    assert done.stdout.startswith("warning: torch uses its DEFAULT code here, not AVX2's")


def test_each_use_has_a_seed_of_its_own() -> None:
    uses = [(1, "batches", 1), (1, "batches", 2), (1, "dropout", 1), (2, "batches", 1)]
    seeds = {derive_seed(*use) for use in uses}
    assert len(seeds) == len(uses)
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert derive_seed(*uses[0]) in seeds
