"""The outputs are the same, to the bit, on CPUs that nobody here has; libtorch is told of them."""

import json
import shutil
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from tests import fake_cpu
from tests.conftest import REPOSITORY, Clone, copy
from tests.fake_cpu import CPUS, HIDDEN_HYPERTHREAD, SMALL_CACHE, Cpu
from tests.test_other_cpus import CORES, PIPELINE, RUN_STAGES, hash_outputs

pytestmark = pytest.mark.slow

HAS_AVX512 = "avx512vl" in Path("/proc/cpuinfo").read_text()
ALL_CPUS = CPUS | {"Haswell, hidden hyper-thread": HIDDEN_HYPERTHREAD, "small cache": SMALL_CACHE}
OTHER_BITS = "warning: a known computation has other bits on this machine than everywhere else"

# Beside the committed ones, what `params.yaml` offers and other classes of CPUs compute otherwise.
RECIPES = [
    ("two_conv", {}),
    ("two_conv", {"kernel_size": 3, "dropout": 0.2}),
    ("two_conv", {"kernel_size": 3, "channels": [32, 512], "batch_size": 64}),
    ("two_conv", {"kernel_size": 7}),
    ("two_conv", {"kernel_size": 7, "channels": [16, 64], "batch_size": 100, "shards": 3}),
    ("two_conv", {"kernel_size": 7, "channels": [8, 256], "batch_size": 64}),
    ("two_conv", {"channels": [32, 256], "batch_size": 64, "shards": 8}),
    ("two_conv", {"channels": [28, 128], "batch_size": 100, "shards": 1}),
    ("two_conv", {"channels": [256, 32], "batch_size": 64}),
    ("lenet5", {}),
    ("lenet5", {"batch_size": 100, "shards": 3, "dropout": 0.2}),
    ("lenet5", {"batch_size": 100, "shards": 1, "muon": {"learning_rate": 0.0}}),
    ("lenet5", {"variant": "classic", "shards": 8}),
]

# Two steps and an answer of each recipe; a class for each hash would hide where they differ.
TRAIN_RECIPES = """
import hashlib, json, sys
from pathlib import Path
from stages.common.determinism import make_torch_deterministic

import torch
from stages.classifier.inference import compute_logits
from stages.classifier.image_classifier import build_network
from stages.common.params import load_params
from stages.common.tensors import read_split
from stages.training.trainer import Trainer

params = load_params()
make_torch_deterministic()
train, _ = read_split(Path(sys.argv[1]))
for name, changes in json.loads(sys.argv[2]):
    recipe = params.recipe(name)
    if "muon" in changes:
        changes["muon"] = recipe.muon.model_copy(update=changes["muon"])
    recipe = recipe.model_copy(update=changes)
    torch.manual_seed(1)
    examples = train.take(slice(2 * recipe.batch_size))
    trainer = Trainer(build_network(name, recipe), examples, recipe, epochs=1, seed=1)
    trainer.run_epoch(1)
    answers = compute_logits(trainer.average, train.images[:130])
    tensors = [*trainer.state().values(), answers]
    state = b"".join(tensor.contiguous().numpy().tobytes() for tensor in tensors)
    print("hash", hashlib.sha256(state).hexdigest())
"""

# As it was before: a network's convolutions just as torch has them.
AS_TORCH_HAS_IT = """
import stages.classifier.image_classifier as network
network.fix_convolutions = lambda network: None
"""


@pytest.fixture(scope="module")
def faker(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("fake_cpu")
    fake_cpu.build(folder)
    return folder


@pytest.fixture(scope="module")
def native(tmp_path_factory: pytest.TempPathFactory, source: Clone) -> Clone:
    """The committed recipes through all stages on this machine's own CPU, on very few images."""
    clone = copy(source, tmp_path_factory.mktemp("native") / "clone")
    (clone.path / "params.yaml").write_bytes((REPOSITORY / "params.yaml").read_bytes())
    few = {"train_images": 300, "test_images": 100}
    clone.set_params({f"fetch.synthetic.{key}": value for key, value in few.items()})
    clone.set_params({"fetch.dataset": "synthetic", "train.epochs": 1})
    clone.run(sys.executable, "-c", RUN_STAGES, *PIPELINE)
    return clone


@pytest.fixture(scope="module")
def runs(
    tmp_path_factory: pytest.TempPathFactory, faker: Path, native: Clone
) -> Iterator[dict[str, dict[str, Future]]]:
    """What each CPU gives, as many at once as there are cores."""
    folder = tmp_path_factory.mktemp("faked")
    with ThreadPoolExecutor(len(CORES)) as pool:
        yield {
            name: {
                "pipeline": pool.submit(run_pipeline, copy(native, folder / name), cpu, faker),
                "recipes": pool.submit(train_recipes, native, cpu, faker),
            }
            for name, cpu in ALL_CPUS.items()
            if HAS_AVX512 or cpu.level == fake_cpu.AVX2
        }
        pool.shutdown(cancel_futures=True)


def result(runs: dict[str, dict[str, Future]], cpu: str, kind: str) -> object:
    if cpu not in runs:
        pytest.skip("this machine has no AVX-512 to show its code with")
    return runs[cpu][kind].result()


@pytest.mark.parametrize("cpu", CPUS)
def test_every_stage_gives_the_same_outputs_on_another_cpu(
    cpu: str, native: Clone, runs: dict[str, dict[str, Future]]
) -> None:
    log, outputs = result(runs, cpu, "pipeline")
    assert outputs == hash_outputs(native)
    assert "warning" not in log
    assert "AVX" not in log, "no stage needs to start again"


@pytest.mark.parametrize("cpu", CPUS)
def test_every_recipe_takes_the_same_steps_on_another_cpu(
    cpu: str, expected: list[str], runs: dict[str, dict[str, Future]]
) -> None:
    assert result(runs, cpu, "recipes") == expected


@pytest.fixture(scope="module")
def expected(native: Clone) -> list[str]:
    """The hash of each recipe here, the same with AVX2's code."""
    hashes = train_recipes(native)
    assert len(hashes) == len(RECIPES)
    return hashes


def test_where_avx512_has_other_bits_a_stage_goes_on_with_avx2(
    native: Clone, runs: dict[str, dict[str, Future]]
) -> None:
    log, outputs = result(runs, "small cache", "pipeline")
    assert "AVX-512 has other bits here than elsewhere: AVX2's code goes on\n" in log
    assert outputs == hash_outputs(native)
    assert OTHER_BITS not in log


def test_a_hidden_hyperthread_is_noticed(native: Clone, runs: dict[str, dict[str, Future]]) -> None:
    log, outputs = result(runs, "Haswell, hidden hyper-thread", "pipeline")
    assert f"{OTHER_BITS}, so the outputs will differ from those in dvc.lock. The" in log
    assert "less than 256 KB of L2 cache" in log
    assert outputs != hash_outputs(native)


def test_torchs_own_convolutions_differ_with_avx512(faker: Path, native: Clone) -> None:
    if not HAS_AVX512:
        pytest.skip("this machine has no AVX-512 to show its code with")
    haswell, skylake = (
        train_recipes(native, CPUS[cpu], faker, AS_TORCH_HAS_IT)[0]
        for cpu in ("Haswell", "Skylake-SP")
    )
    assert haswell != skylake


def run_pipeline(clone: Clone, cpu: Cpu, faker: Path) -> tuple[str, dict[str, str]]:
    """Run all stages anew on a CPU; return what they print, and a hash of each output."""
    for folder in ("models", "metrics", "plots", "data"):
        shutil.rmtree(clone.path / folder)
    command = (sys.executable, "-c", RUN_STAGES, *PIPELINE)
    log = clone.run(*command, **fake_cpu.settings(cpu, faker)).stdout
    return log, hash_outputs(clone)


def train_recipes(
    native: Clone, cpu: Cpu | None = None, faker: Path | None = None, before: str = ""
) -> list[str]:
    """Take steps of each recipe, on a CPU or on this machine's own; return a hash for each."""
    images = str(native.path / "data/split/train.safetensors")
    command = (sys.executable, "-c", before + TRAIN_RECIPES, images, json.dumps(RECIPES))
    settings = fake_cpu.settings(cpu, faker) if cpu else {}
    printed = Clone(REPOSITORY, native.environment).run(*command, **settings).stdout
    return [line.split()[1] for line in printed.splitlines() if line.startswith("hash ")]
