"""The typed model of ``params.yaml``: every key, its type and its bounds."""

import difflib
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    HttpUrl,
    Strict,
    StringConstraints,
    ValidationError,
    model_validator,
)

from stages.common.console import StageError
from stages.common.fashion_mnist import RAW_FILES

PARAMS_FILE = Path("params.yaml")


def _number_from_text(value: Any) -> Any:
    """Turn ``1e-3`` into a number: YAML 1.1, which PyYAML and ``-S`` speak, takes it for text."""
    try:
        return float(value) if isinstance(value, str) else value
    except ValueError:
        return value


Real = Annotated[float, BeforeValidator(_number_from_text), Field(allow_inf_nan=False)]
Fraction = Annotated[Real, Field(ge=0, lt=1)]
Maps = Annotated[int, Field(ge=1, le=1024)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]
Mirror = Annotated[HttpUrl, Strict(False)]  # strict mode would want an object, YAML has text


class Section(BaseModel):
    """A section of ``params.yaml``: no unknown keys, no silent conversions."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class SyntheticParams(Section):
    """The size of the synthetic data set and the seed it is drawn from."""

    seed: Seed
    train_images: Annotated[int, Field(ge=100, le=600_000)]
    test_images: Annotated[int, Field(ge=10, le=100_000)]


class FileParams(Section):
    """A raw file and what it must be."""

    name: str
    sha256: Annotated[str, StringConstraints(pattern="^[0-9a-f]{64}$")]


class FetchParams(Section):
    """Where the raw files come from and what they must be."""

    dataset: Literal["fashion-mnist", "synthetic"]
    mirrors: Annotated[list[Mirror], Field(min_length=1)]
    files: list[FileParams]
    synthetic: SyntheticParams

    @model_validator(mode="after")
    def _are_the_raw_files(self) -> "FetchParams":
        if sorted(file.name for file in self.files) != sorted(RAW_FILES):
            raise ValueError(f"files: should be these, each once: {', '.join(RAW_FILES)}")
        return self


class SplitParams(Section):
    """How the official training set is divided."""

    seed: Seed
    val_fraction: Annotated[Real, Field(gt=0, le=0.5)]


class TrainParams(Section):
    """What both networks share in training."""

    seed: Seed
    epochs: Annotated[int, Field(ge=1, le=1000)]
    threads: Annotated[int, Field(ge=1, le=256)]


class RecipeParams(Section):
    """How one network is trained; the networks add what is theirs."""

    batch_size: Annotated[int, Field(ge=2, le=10_000)]
    learning_rate: Annotated[Real, Field(gt=0, le=10)]
    warmup: Fraction
    momentum: Fraction
    weight_decay: Annotated[Real, Field(ge=0, le=1)]
    label_smoothing: Fraction
    ema_decay: Fraction
    flip: bool
    max_shift: Annotated[int, Field(ge=0, le=8)]
    dropout: Fraction


class TwoConvParams(RecipeParams):
    """The recipe of ``two_conv`` and the shape of its two convolutions."""

    channels: Annotated[list[Maps], Field(min_length=2, max_length=2)]
    kernel_size: Literal[3, 5, 7]


class LeNet5Params(RecipeParams):
    """The recipe of ``lenet5``, whose shape is the paper's."""


class Params(Section):
    """The whole of ``params.yaml``. A network is a section whose model is a ``RecipeParams``."""

    networks: Annotated[list[str], Field(min_length=1)]
    fetch: FetchParams
    split: SplitParams
    train: TrainParams
    two_conv: TwoConvParams
    lenet5: LeNet5Params

    @model_validator(mode="after")
    def _networks_have_sections(self) -> "Params":
        known = [name for name in type(self).model_fields if self._is_network(name)]
        for name in self.networks:
            if name not in known:
                raise ValueError(f"networks: {name!r} is none of {', '.join(known)}")
        if len(set(self.networks)) < len(self.networks):
            raise ValueError("networks: a name stands there twice")
        return self

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

    def _is_network(self, name: str) -> bool:
        return isinstance(getattr(self, name), RecipeParams)


def load_params(path: Path = PARAMS_FILE) -> Params:
    """Read and check ``params.yaml``.

    Raises
    ------
    StageError
        If the file can't be read or anything in it is wrong: all mistakes in one line.
    """
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise StageError(f"{path}: can't be read as YAML ({reason})") from None
    try:
        return Params.model_validate(tree)
    except ValidationError as error:
        raise StageError(f"{path}: {'; '.join(_describe(error))}") from None


def _describe(error: ValidationError) -> Iterator[str]:
    for problem in error.errors():
        key = ".".join(map(str, problem["loc"]))
        if problem["type"] == "extra_forbidden":
            yield f"{key}: unknown key{_suggest(problem['loc'])}"
        elif problem["type"] == "missing":
            yield f"{key}: missing"
        elif problem["type"] == "value_error":
            yield f"{key + ': ' if key else ''}{problem['ctx']['error']}"
        else:
            message = problem["msg"].replace("Input should", "should").replace("Value error, ", "")
            yield f"{key or 'the whole file'}: {message}, not {problem['input']!r:.80}"


def _suggest(location: tuple[int | str, ...]) -> str:
    """Name the nearest key of the section that an unknown key stands in."""
    section: Any = Params
    for part in location[:-1]:
        if isinstance(part, int):  # an item of a list
            (section,) = section.__args__
        else:
            section = section.model_fields[part].annotation
    near = difflib.get_close_matches(str(location[-1]), section.model_fields, n=1)
    return f", did you mean {near[0]!r}?" if near else ""
