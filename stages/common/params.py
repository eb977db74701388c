"""The typed model of ``params.yaml``: every key, its type and its bounds."""

import difflib
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    HttpUrl,
    Strict,
    StringConstraints,
    ValidationError,
    field_validator,
    model_validator,
)
from ruamel.yaml import YAML, YAMLError
from ruamel.yaml.error import MarkedYAMLError

from stages.common.console import StageError
from stages.common.mnist_format import RAW_FILES

PARAMS_FILE = Path("params.yaml")

FASHION_MNIST = "fashion-mnist"  # a name that stands for these class names and digests alone
FASHION_MNIST_SHA256 = "2e5e3f8891154dc25f3014cb336f2eecd3118b7b85f47f9a58b0dbe932d3847d"
SYNTHETIC = "synthetic"  # the name of images that are drawn

Real = Annotated[float, Field(allow_inf_nan=False)]
Fraction = Annotated[Real, Field(ge=0, lt=1)]
ClassName = Annotated[str, StringConstraints(min_length=1, max_length=40)]
Maps = Annotated[int, Field(ge=1, le=1024)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]
Mirror = Annotated[HttpUrl, Strict(False)]  # strict mode would want an object, YAML has text


class Section(BaseModel):
    """A section of ``params.yaml``: no unknown keys, no silent conversions."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class FileParams(Section):
    """A raw file and what it must be."""

    name: str
    sha256: Annotated[str, StringConstraints(pattern="^[0-9a-f]{64}$")]


class DatasetParams(Section):
    """What is classified."""

    name: Annotated[str, StringConstraints(pattern="^[a-z0-9][a-z0-9_-]*$", max_length=40)]
    class_names: Annotated[list[ClassName], Field(min_length=2, max_length=256)]
    mirrors: list[Mirror]
    files: list[FileParams]
    flipped_alike: bool

    @field_validator("class_names")
    @classmethod
    def _can_be_told_apart(cls, names: list[str]) -> list[str]:
        for name in names:
            if not name.isprintable() or name != name.strip():
                raise ValueError(f"{name!r}: should be printable, without space around it")
        if len(set(names)) < len(names):
            raise ValueError("a name is listed twice")
        return names

    @field_validator("files")
    @classmethod
    def _are_the_raw_files(cls, files: list[FileParams]) -> list[FileParams]:
        if sorted(file.name for file in files) != sorted(RAW_FILES):
            raise ValueError(f"should be these, each once: {', '.join(RAW_FILES)}")
        return files

    @model_validator(mode="after")
    def _bear_their_own_name(self) -> "DatasetParams":
        if self.name == SYNTHETIC:
            raise ValueError(f"name: {SYNTHETIC} stands for images that are drawn; choose another")
        if self.name == FASHION_MNIST and self._sha256() != FASHION_MNIST_SHA256:
            raise ValueError(
                f"name: {FASHION_MNIST} stands for its own class names and files alone, and these "
                "are others; give yours a name of its own"
            )
        return self

    def _sha256(self) -> str:
        digests = {file.name: file.sha256 for file in self.files}
        text = json.dumps([self.class_names, digests], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()


class SyntheticParams(Section):
    """The size of the synthetic data set and the seed it is drawn from."""

    seed: Seed
    train_images: Annotated[int, Field(ge=100, le=600_000)]
    test_images: Annotated[int, Field(ge=10, le=100_000)]


class FetchParams(Section):
    """How the raw files are brought or drawn."""

    source: Literal["mirrors", "synthetic"]
    timeout: Annotated[Real, Field(ge=0.1, le=600)]
    retries: Annotated[int, Field(ge=0, le=10)]
    synthetic: SyntheticParams


class SplitParams(Section):
    """How the official training set is divided."""

    seed: Seed
    val_fraction: Annotated[Real, Field(gt=0, le=0.5)]


class TrainParams(Section):
    """What all networks share in training."""

    seed: Seed
    epochs: Annotated[int, Field(ge=1, le=1000)]
    device: Literal["cpu", "cuda", "mps"]


class EvaluateParams(Section):
    """The views of an image that a network's answer is the mean of."""

    flip: bool
    shift: Annotated[int, Field(ge=0, le=8)]


class MuonParams(Section):
    """How Muon moves matrices of weights, and which."""

    learning_rate: Annotated[Real, Field(ge=0, le=1)]
    momentum: Fraction
    max_rows: Annotated[int, Field(ge=0, le=1024)]


class SGDParams(Section):
    """How SGD moves what Muon doesn't."""

    learning_rate: Annotated[Real, Field(gt=0, le=10)]
    momentum: Fraction


class RecipeParams(Section):
    """How one network is trained; the networks add what is theirs."""

    batch_size: Annotated[int, Field(ge=2, le=10_000)]
    shards: Annotated[int, Field(ge=1, le=256)]
    muon: MuonParams
    sgd: SGDParams
    warmup: Fraction
    weight_decay: Annotated[Real, Field(ge=0, le=1)]
    label_smoothing: Fraction
    ema_decay: Fraction
    flip: bool
    max_shift: Annotated[int, Field(ge=0, le=8)]
    dropout: Fraction

    @model_validator(mode="after")
    def _fill_shards(self) -> "RecipeParams":
        if self.batch_size < 2 * self.shards:  # batch norm needs two images
            raise ValueError(
                f"shards: {self.shards} cut a batch of {self.batch_size} into parts of fewer than "
                "2 images; choose fewer shards or a larger batch"
            )
        return self


class TwoConvParams(RecipeParams):
    """The recipe of ``two_conv`` and the shape of its two convolutions."""

    channels: Annotated[list[Maps], Field(min_length=2, max_length=2)]
    kernel_size: Literal[3, 5, 7]


class LeNet5Params(RecipeParams):
    """The recipe of ``lenet5``, whose maps and units are the paper's."""

    variant: Literal["modern", "classic"]


class Params(Section):
    """The whole of ``params.yaml``. A network is a section whose model is a ``RecipeParams``."""

    networks: Annotated[list[str], Field(min_length=1)]
    dataset: DatasetParams
    fetch: FetchParams
    split: SplitParams
    train: TrainParams
    evaluate: EvaluateParams
    two_conv: TwoConvParams
    lenet5: LeNet5Params

    @field_validator("networks")
    @classmethod
    def _have_sections(cls, networks: list[str]) -> list[str]:
        known = [name for name, field in cls.model_fields.items() if _is_recipe(field.annotation)]
        for name in networks:
            if name not in known:
                raise ValueError(
                    f"{name!r} is none of {', '.join(known)}{_did_you_mean(name, known)}"
                )
        if len(set(networks)) < len(networks):
            raise ValueError("a name is listed twice")
        return networks

    @model_validator(mode="after")
    def _mirror_what_stays_the_same(self) -> "Params":
        flips = [f"{name}.flip" for name in self.networks if self.recipe(name).flip]
        flips += ["evaluate.flip"] if self.evaluate.flip else []
        if flips and not self.dataset.flipped_alike:
            raise ValueError(
                "dataset.flipped_alike: false, as a mirror image shows another thing; "
                f"so set {' and '.join(flips)} to false"
            )
        return self

    def name_of_images(self) -> str:
        """Name the images as metrics and pictures do: the data set, or that they are drawn."""
        return SYNTHETIC if self.fetch.source == SYNTHETIC else self.dataset.name

    def recipe(self, network: str) -> RecipeParams:
        """Return the section of a network.

        Raises
        ------
        StageError
            If ``params.yaml`` doesn't list that network.
        """
        if network not in self.networks:
            raise StageError(
                f"{PARAMS_FILE}: no network {network!r}; networks lists {', '.join(self.networks)}"
            )
        return getattr(self, network)


def _is_recipe(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, RecipeParams)


def load_params(path: Path = PARAMS_FILE) -> Params:
    """Read and check ``params.yaml``.

    Raises
    ------
    StageError
        If the file can't be read or anything in it is wrong: all mistakes in one line.
    """
    return check_params(read_yaml(path), path)


def read_yaml(path: Path) -> Any:
    """Read a YAML file as DVC does.

    Raises
    ------
    StageError
        If it can't be read.
    """
    try:
        # The parser that DVC reads it with: PyYAML would take 1e-3 for text and 1:30 for 90.
        return YAML(typ="safe", pure=True).load(path)
    except MarkedYAMLError as error:
        line = f"line {error.problem_mark.line + 1}: " if error.problem_mark else ""
        raise StageError(f"{path}: {line}{_in_one_line(error.problem)}") from None
    except (OSError, ValueError, KeyError, RecursionError, YAMLError) as error:
        raise StageError(f"{path}: can't be read as YAML ({_in_one_line(error)})") from None


def check_params(tree: Any, path: Path = PARAMS_FILE) -> Params:
    """Check what a ``params.yaml`` holds.

    Raises
    ------
    StageError
        If anything in it is wrong: all mistakes in one line.
    """
    try:
        return Params.model_validate(tree)
    except ValidationError as error:
        mistakes = (_in_one_line(_explain(problem)) for problem in error.errors())
        raise StageError(f"{path}: {'; '.join(mistakes)}") from None


def _explain(problem: dict[str, Any]) -> str:
    key = ".".join(map(str, problem["loc"])) or "the whole file"
    if problem["type"] == "extra_forbidden":
        return f"{key}: unknown key{_suggest(problem['loc'])}"
    if problem["type"] == "missing":
        return f"{key}: missing"
    if problem["type"] == "value_error":
        error = str(problem["ctx"]["error"])
        return f"{key}: {error}" if problem["loc"] else error  # which names keys itself
    if problem["type"] == "model_type":
        return f"{key}: should be a section of keys, not {problem['input']!r:.80}"
    message = problem["msg"].replace("Input should", "should")
    return f"{key}: {message}, not {problem['input']!r:.80}"


def _suggest(location: tuple[int | str, ...]) -> str:
    """Name the nearest key of the section that an unknown key stands in."""
    section: Any = Params
    for part in location[:-1]:
        if isinstance(part, int):  # an item of a list
            (section,) = section.__args__
        else:
            section = section.model_fields[part].annotation
    return _did_you_mean(str(location[-1]), list(section.model_fields))


def _did_you_mean(name: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    return f", did you mean {near[0]!r}?" if near else ""


def _in_one_line(text: object) -> str:
    return " ".join(str(text).split())
