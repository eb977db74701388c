"""Networks on disk: their weights and buffers, checked when they are read."""

from pathlib import Path

import torch

from stages.classifier.image_classifier import ImageClassifier, build_network
from stages.common.console import file_error
from stages.common.params import RecipeParams
from stages.common.tensors import read_tensors, write_tensors


def write_network(path: Path, name: str, network: ImageClassifier) -> None:
    """Write the weights and buffers of a network."""
    write_tensors(path, network.state_dict(), {"network": name})


def read_network(path: Path, name: str, recipe: RecipeParams) -> ImageClassifier:
    """Read a trained network, in evaluation mode.

    Raises
    ------
    StageError
        If the file is missing, damaged, not finite, or of another network.
    """
    rebuild = f"train@{name}"
    tensors, content = read_tensors(path, rebuild)
    if content.get("network") != name:
        found = content.get("network", "no network")
        raise file_error(path, f"expected the weights of {name}, found {found}", rebuild)
    network = build_network(name, recipe)
    expected = network.state_dict()
    for key in sorted(expected.keys() | tensors.keys()):
        wanted, found = _type_of(expected.get(key)), _type_of(tensors.get(key))
        if wanted != found:
            reason = f"expected {key} to be {wanted} by params.yaml, found {found}"
            raise file_error(path, reason, rebuild)
        if not tensors[key].isfinite().all():
            raise file_error(path, f"expected numbers in {key}, found NaN or infinity", rebuild)
    network.load_state_dict(tensors)
    return network.eval()


def _type_of(tensor: torch.Tensor | None) -> str:
    return "absent" if tensor is None else f"{tensor.dtype} {list(tensor.shape)}"
