"""Whatever stands in params.yaml arrives as what it means or is refused, before any work."""

import contextlib
import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from dvc.utils.hydra import apply_overrides
from dvc.utils.serialize import dump_yaml
from hypothesis import given
from hypothesis import strategies as st

from stages.common.console import StageError
from stages.common.params import Params, load_params
from tests.conftest import REPOSITORY

TEXT = (REPOSITORY / "params.yaml").read_text()
TREE = load_params(REPOSITORY / "params.yaml").model_dump(mode="json")

SEED = ([0, 2**32 - 1], [-1, 2**32, 0.5, "1", True])
FRACTION = ([0, 0.999], [-0.001, 1, "0.5", None])
RECIPE = {
    "batch_size": ([8, 10_000], [1, 10_001, 64.0]),
    "shards": ([1, 64], [0, 257, 2.0]),
    "muon.learning_rate": ([0, 1], [-0.001, 1.001, True]),
    "muon.momentum": FRACTION,
    "muon.max_rows": ([0, 1024], [-1, 1025, 64.0]),
    "sgd.learning_rate": ([1e-6, 10], [0, 10.001, True]),
    "sgd.momentum": FRACTION,
    "warmup": FRACTION,
    "weight_decay": ([0, 1], [-0.001, 1.001]),
    "label_smoothing": FRACTION,
    "ema_decay": FRACTION,
    "flip": ([True, False], [0, 1, "yes"]),
    "max_shift": ([0, 8], [-1, 9]),
    "dropout": FRACTION,
}
BOUNDS = {  # of every key: values that are taken, and values that are not
    "networks": ([["lenet5"], ["lenet5", "two_conv"]], [[], ["lenet5"] * 2, ["fetch"], "lenet5"]),
    "fetch.dataset": (["fashion-mnist", "synthetic"], ["mnist", None]),
    "fetch.mirrors": ([["http://x/"], ["https://x/y"]], [[], ["ftp://x/"], ["file:///x"], ["x"]]),
    "fetch.timeout": ([0.1, 600], [0, 601, "10"]),
    "fetch.retries": ([0, 10], [-1, 11, 1.5]),
    "fetch.files": ([TREE["fetch"]["files"][::-1]], [[], TREE["fetch"]["files"][:3]]),
    "fetch.files.0.name": ([], ["../../etc/passwd", "train-labels-idx1-ubyte.gz"]),
    "fetch.files.0.sha256": (["0" * 64], ["0" * 63, "A" * 64, 0]),
    "fetch.synthetic.seed": SEED,
    "fetch.synthetic.train_images": ([100, 600_000], [99, 600_001]),
    "fetch.synthetic.test_images": ([10, 100_000], [9, 100_001]),
    "split.seed": SEED,
    "split.val_fraction": ([0.001, 0.5], [0, 0.501]),
    "train.seed": SEED,
    "train.epochs": ([1, 1000], [0, 1001, 2.0]),
    "train.device": (["cpu", "cuda", "mps"], ["gpu", "cuda:0", None]),
    "evaluate.flip": ([True, False], [0, 1, "yes"]),
    "evaluate.shift": ([0, 8], [-1, 9, True]),
    "two_conv.channels": ([[1, 1024]], [[8], [8, 8, 8], [0, 8], [8, 1025], ["a", "b"], 8]),
    "two_conv.kernel_size": ([3, 5, 7], [1, 4, 9]),
    "lenet5.variant": (["modern", "classic"], ["paper", None]),
    **{f"two_conv.{key}": values for key, values in RECIPE.items()},
    **{f"lenet5.{key}": values for key, values in RECIPE.items()},
}


def load(tmp_path: Path, changes: dict[str, Any]) -> Params:
    """Load the project's params with some keys, named with dots, changed."""
    tree = copy.deepcopy(TREE)
    for name, value in changes.items():
        *sections, last = (int(part) if part.isdigit() else part for part in name.split("."))
        section = tree
        for part in sections:
            section = section[part]
        section[last] = value
    dump_yaml(tmp_path / "params.yaml", tree)
    return load_params(tmp_path / "params.yaml")


def refusal(tmp_path: Path, changes: dict[str, Any]) -> str:
    with pytest.raises(StageError) as error:
        load(tmp_path, changes)
    message = str(error.value)
    assert "\n" not in message
    return message.removeprefix(f"{tmp_path}/params.yaml: ")


@pytest.mark.parametrize("key", BOUNDS)
def test_each_key_has_its_bounds(key: str, tmp_path: Path) -> None:
    taken, refused = BOUNDS[key]
    for value in taken:
        load(tmp_path, {key: value})
    for value in refused:
        # a file's name is judged with the list that it stands in
        assert refusal(tmp_path, {key: value}).startswith(key.removesuffix(".0.name"))


def test_the_bounds_above_are_those_of_every_key() -> None:
    def keys(tree: dict[str, Any], prefix: str = "") -> Iterator[str]:
        for key, value in tree.items():
            if isinstance(value, dict):
                yield from keys(value, f"{prefix}{key}.")
            else:
                yield prefix + key

    assert set(keys(TREE)) == {key for key in BOUNDS if ".0." not in key}


@pytest.mark.parametrize("key", [key for key, (taken, _) in BOUNDS.items() if 0.999 in taken])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), "nan", "inf", ".nan"])
def test_what_is_not_a_finite_number_is_refused(key: str, value: Any, tmp_path: Path) -> None:
    assert refusal(tmp_path, {key: value}).startswith(f"{key}: should be ")


def test_all_mistakes_are_reported_together_with_suggestions(tmp_path: Path) -> None:
    mistakes = {
        "networks": ["lenet"],
        "trian": 1,
        "fetch.files.0.sha265": "0",
        "train.epochs": 0,
        "train.epoch": 3,
        "two_conv.wholly_unknown": 1,
        "lenet5.muon.learning_rate": "fast",
    }
    assert refusal(tmp_path, mistakes).split("; ") == [
        "networks: 'lenet' is none of two_conv, lenet5, did you mean 'lenet5'?",
        "fetch.files.0.sha265: unknown key, did you mean 'sha256'?",
        "train.epochs: should be greater than or equal to 1, not 0",
        "train.epoch: unknown key, did you mean 'epochs'?",
        "two_conv.wholly_unknown: unknown key",
        "lenet5.muon.learning_rate: should be a valid number, not 'fast'",
        "trian: unknown key, did you mean 'train'?",
    ]


def test_a_shard_has_two_images_or_more(tmp_path: Path) -> None:
    assert refusal(tmp_path, {"lenet5.shards": 8, "lenet5.batch_size": 15}) == (
        "lenet5: shards: 8 cut a batch of 15 into parts of fewer than 2 images; "
        "choose fewer shards or a larger batch"
    )
    load(tmp_path, {"lenet5.shards": 8, "lenet5.batch_size": 16})
    load(tmp_path, {"lenet5.shards": 1, "lenet5.batch_size": 2})


@pytest.mark.parametrize(
    ("override", "value"),
    [
        ("lenet5.muon.learning_rate=1e-3", 0.001),
        ("lenet5.muon.learning_rate=1e-5", 1e-5),
        ("lenet5.muon.learning_rate=1E0", 1.0),
        ("lenet5.muon.learning_rate=1", 1.0),
        ("lenet5.flip=true", True),
        ("lenet5.flip=False", False),
        ("two_conv.channels=[8, 16]", [8, 16]),
        ("networks=[lenet5]", ["lenet5"]),
        ("networks=[]", None),
        ("networks=", None),
        ("networks=lenet5", None),
        ("train.seed=0", 0),
        ("lenet5.muon.learning_rate='1e-3'", None),  # quoted: text
        ("lenet5.muon.learning_rate=fast", None),
        ("lenet5.muon.learning_rate=null", None),
        ("lenet5.muon.learning_rate=", None),
        ("lenet5.muon.learning_rate=nan", None),
        ("lenet5.muon.learning_rate=-inf", None),
        ("lenet5.flip=yes", None),
        ("lenet5.flip=1", None),
        ("two_conv.channels=[a, b]", None),
        ("two_conv.channels=8", None),
        ("train.epochs=1e1", None),
        ("train.epochs=true", None),
        ("train.seed=1:30", None),  # 90 in YAML 1.1
        ("train.seed=0x10", None),
        ("fetch.dataset=no", None),  # False in YAML 1.1
    ],
)
def test_what_dvc_writes_for_an_override_arrives_as_meant_or_is_refused(
    override: str, value: Any, tmp_path: Path
) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(TEXT)
    apply_overrides(path, [override])
    key, _, _ = override.partition("=")
    if value is None:
        with pytest.raises(StageError, match=key):
            load_params(path)
    else:
        found: Any = load_params(path)
        for part in key.split("."):
            found = getattr(found, part)
        assert found == value
        assert type(found) is type(value)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (f"{TEXT}\nlenet5: {{}}\n", 'found duplicate key "lenet5"'),
        (TEXT.replace("  seed: 1\n  epochs", "  seed: 1\n  seed: 2\n  epochs"), 'key "seed"'),
        ("", "the whole file: should be a section of keys, not None"),
        ("networks: [", "line 1: "),
        ("[" * 2000, "can't be read as YAML"),
        ("networks: !!python/object/apply:os.system [id]", "could not determine a constructor"),
        ("networks: !!bool maybe", "can't be read as YAML"),
        (f"networks: {'9' * 5000}", "can't be read as YAML"),
        ("\0", "can't be read as YAML"),
    ],
)
def test_what_is_not_one_clear_yaml_mapping_is_refused(
    text: str, reason: str, tmp_path: Path
) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(text)
    with pytest.raises(StageError) as error:
        load_params(path)
    assert reason in str(error.value)
    assert "\n" not in str(error.value)


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=8) | st.integers(), inner, max_size=3)
    ),
    max_leaves=5,
)
PLACES = [
    *BOUNDS,
    "networks.0",
    "fetch",
    "fetch.files.0",
    "fetch.mirrors.0",
    "train",
    "new",
    "fetch.x",
]


@given(changes=st.dictionaries(st.sampled_from(PLACES), ANYTHING, min_size=1, max_size=3))
def test_no_value_anywhere_raises_anything_but_our_error(
    changes: dict[str, Any], tmp_path_factory
) -> None:
    # the inner ones first, while the sections that they stand in are still there
    inner_first = dict(sorted(changes.items(), key=lambda change: -change[0].count(".")))
    message = ""
    try:
        load(tmp_path_factory.getbasetemp(), inner_first)
    except StageError as error:
        message = str(error)
    assert "\n" not in message


@given(text=st.text(max_size=200) | st.text("{}[]:,&*!|>-?#'\"\n %@`a1.", max_size=60))
def test_no_text_raises_anything_but_our_error(text: str, tmp_path_factory) -> None:
    path = tmp_path_factory.getbasetemp() / "text.yaml"
    path.write_text(text, encoding="utf-8", errors="surrogatepass")
    with contextlib.suppress(StageError):
        load_params(path)
