"""Whatever stands in params.yaml arrives as what it means or is refused, before any work."""

import contextlib
import copy
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import pytest
import yaml
from dvc.utils.hydra import apply_overrides
from dvc.utils.serialize import dump_yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic.fields import FieldInfo

from stages.common.console import StageError
from stages.common.params import Params, Section, load_params
from tests.conftest import PARAMS, REPOSITORY

TEXT = (REPOSITORY / "params.yaml").read_text()
TREE = PARAMS.model_dump(mode="json")
FASHION_MNIST = TREE["dataset"]
TREE["dataset"] = FASHION_MNIST | {"name": "mine"}  # its classes and files may be any

WRONG = {  # of every key that isn't a number: values that are not taken
    "networks": [[], ["lenet5"] * 2, ["fetch"], "lenet5"],
    "dataset.name": ["", "MNIST", "a b", "$", "../a", "a" * 41, None],
    "dataset.class_names": [
        *([], ["a"], ["a", "a"], ["a", ""], ["a", " b"], ["a", "b\n"], ["a", "\x1b[31m"]),
        *(["a", "b" * 41], [*map(str, range(257))], [0, 1], "ab"),
    ],
    "dataset.flipped_alike": [0, "yes"],
    "dataset.mirrors": [["ftp://x/"], ["file:///x"], ["x"]],
    "dataset.files": [[], TREE["dataset"]["files"][:3]],
    "dataset.files.0.name": ["../../etc/passwd", "train-labels-idx1-ubyte.gz"],
    "dataset.files.0.sha256": ["0" * 63, "A" * 64, 0],
    "fetch.source": ["fashion-mnist", None],
    "train.device": ["gpu", "cuda:0", None],
    "evaluate.flip": [0, 1, "yes"],
    "two_conv.channels": [[8], [8, 8, 8], [0, 8], [8, 10**6], ["a", "b"], 8],
    "two_conv.kernel_size": [1, 4, 9],
    "two_conv.flip": [0, 1, "yes"],
    "lenet5.variant": ["paper", None],
    "lenet5.flip": [0, 1, "yes"],
}


def fields_of(section: type[Section], prefix: str = "") -> Iterator[tuple[str, FieldInfo]]:
    """Yield each key of a section, named with dots, and what is declared for it."""
    for name, field in section.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, Section):
            yield from fields_of(field.annotation, f"{prefix}{name}.")
        else:
            yield prefix + name, field


FIELDS = dict(fields_of(Params))
NUMBERS = [key for key, field in FIELDS.items() if field.annotation in (int, float)]
CHOICES = [key for key, field in FIELDS.items() if get_origin(field.annotation) is Literal]


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


@pytest.mark.parametrize("key", NUMBERS)
def test_a_number_is_taken_up_to_its_bounds_and_nothing_else_is(key: str, tmp_path: Path) -> None:
    kind = FIELDS[key].annotation
    step = 1 if kind is int else 1e-6
    bounds = {
        name: getattr(bound, name)
        for bound in FIELDS[key].metadata
        for name in ("ge", "gt", "le", "lt")
        if hasattr(bound, name)
    }
    lowest = bounds["ge"] if "ge" in bounds else bounds["gt"] + step
    highest = bounds["le"] if "le" in bounds else bounds["lt"] - step
    network = key.partition(".")[0]
    room = {  # for shards of two images or more
        f"{network}.batch_size": {f"{network}.shards": 1},
        f"{network}.shards": {f"{network}.batch_size": 1000},
    }.get(key, {})
    for value in (lowest, highest):
        load(tmp_path, room | {key: value})
    not_numbers = ("1", True, None, [1], *((1.5,) if kind is int else ("nan", math.nan, math.inf)))
    for value in (lowest - step, highest + step, *not_numbers):
        assert refusal(tmp_path, room | {key: value}).startswith(f"{key}: should be ")


@pytest.mark.parametrize("key", CHOICES)
def test_each_choice_is_taken(key: str, tmp_path: Path) -> None:
    for value in get_args(FIELDS[key].annotation):
        load(tmp_path, {key: value})


@pytest.mark.parametrize("key", WRONG)
def test_what_a_key_is_not_is_refused(key: str, tmp_path: Path) -> None:
    for value in WRONG[key]:
        # a file's name is judged with the list that it stands in
        assert refusal(tmp_path, {key: value}).startswith(key.removesuffix(".0.name"))


def test_a_data_set_may_have_any_classes_and_no_mirror(tmp_path: Path) -> None:
    for names in (["0", "1"], ["$x^$", 'of "quotes"', "\u3042", "a, b"], [*map(str, range(256))]):
        changes = {"dataset.name": "my-2nd_set", "dataset.class_names": names}
        params = load(tmp_path, changes | {"dataset.mirrors": []})
        assert params.dataset.class_names == names


def test_every_key_is_a_number_or_above() -> None:
    assert set(FIELDS) == {*NUMBERS, *(key for key in WRONG if ".0." not in key)}


def test_all_mistakes_are_reported_together_with_suggestions(tmp_path: Path) -> None:
    mistakes = {
        "networks": ["lenet"],
        "trian": 1,
        "dataset.files.0.sha265": "0",
        "train.epochs": 0,
        "train.epoch": 3,
        "two_conv.wholly_unknown": 1,
        "lenet5.muon.learning_rate": "fast",
    }
    assert refusal(tmp_path, mistakes).split("; ") == [
        "networks: 'lenet' is none of two_conv, lenet5, did you mean 'lenet5'?",
        "dataset.files.0.sha265: unknown key, did you mean 'sha256'?",
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
    ("changes", "fits"),
    [
        ({}, True),
        ({"files": FASHION_MNIST["files"][::-1], "mirrors": []}, True),
        ({"files": [file | {"sha256": "0" * 64} for file in FASHION_MNIST["files"]]}, False),
        ({"class_names": FASHION_MNIST["class_names"][::-1]}, False),
        ({"name": "synthetic"}, False),
    ],
)
def test_a_known_name_stands_for_its_own_images_alone(
    changes: dict[str, Any], fits: bool, tmp_path: Path
) -> None:
    changed = {"dataset": FASHION_MNIST | changes}
    if fits:
        params = load(tmp_path, changed)
        drawn = load(tmp_path, changed | {"fetch.source": "synthetic"})
        assert (params.name_of_images(), drawn.name_of_images()) == ("fashion-mnist", "synthetic")
    else:
        assert re.match("dataset: name: .* stands for .*(give|choose)", refusal(tmp_path, changed))


def test_what_a_mirror_image_would_change_is_not_mirrored(tmp_path: Path) -> None:
    unlike = {"dataset.flipped_alike": False}
    refused = "dataset.flipped_alike: false, as a mirror image shows another thing; so set "
    assert refusal(tmp_path, unlike) == (
        f"{refused}two_conv.flip and lenet5.flip and evaluate.flip to false"
    )
    unlike |= {"networks": ["lenet5"], "evaluate.flip": False}
    assert refusal(tmp_path, unlike) == f"{refused}lenet5.flip to false"
    load(tmp_path, unlike | {"lenet5.flip": False})


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
        ("fetch.source=no", None),  # False in YAML 1.1
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
    ("key", "value"),
    [
        ("train.epochs", 3),
        ("lenet5.muon.learning_rate", 0.015),
        ("evaluate.flip", False),
        ("lenet5.variant", "classic"),
        ("fetch.synthetic.seed", 3),
        ("two_conv.channels", [8, 16]),
        ("networks", ["lenet5"]),
        ("networks", []),
        ("dataset.class_names", []),
        ("dataset.mirrors", []),
        ("dataset.files", []),
        ("two_conv.channels", []),
    ],
    ids=str,
)
def test_what_dvc_writes_for_an_override_changes_the_lines_of_its_key_alone(
    key: str, value: Any, tmp_path: Path
) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(TEXT)
    apply_overrides(path, [f"{key}={value}"])
    found, others = take_out(key, path.read_text())
    assert found == value
    before, others_before = take_out(key, TEXT)
    assert before != value
    assert others == others_before
    assert re.findall("#.*", path.read_text()) == re.findall("#.*", TEXT)


def take_out(key: str, text: str) -> tuple[Any, list[str]]:
    """Return a key's value, and the lines of the text without those of the key."""
    node, value = yaml.compose(text), yaml.safe_load(text)
    for part in key.split("."):
        name, node = next(pair for pair in node.value if pair[0].value == part)
        value = value[part]
    lines, first = text.splitlines(), name.start_mark.line
    count = len(yaml.safe_dump({name.value: value}).splitlines())  # laid out as they are
    return value, lines[:first] + lines[first + count :]


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
    *FIELDS,
    "networks.0",
    "fetch",
    "dataset",
    "dataset.files.0",
    "dataset.mirrors.0",
    "dataset.class_names.0",
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
