"""Refuse a machine whose results would not be those of others; hash a step of each recipe.

``python -m tools.machine`` prints, for each file of params that it is given, a line of JSON: for
each network the hash of a training step, and whether its bits are promised.
"""

import argparse
import json
import os
from pathlib import Path

from stages.common.console import StageError, run_stage
from stages.common.determinism import AVX2, ISA, make_torch_deterministic
from stages.common.params import PARAMS_FILE, Params, load_params


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tools.machine", description=__doc__)
    parser.add_argument("params", nargs="*", type=Path, default=[PARAMS_FILE])
    files = parser.parse_args().params
    make_torch_deterministic()
    refuse_other_machines()
    for file in files:
        try:
            params = load_params(file)
        except StageError:
            print("{}")  # what is wrong there, `check` tells
            continue
        print(json.dumps({name: step_of(name, params) for name in params.networks}))


def step_of(name: str, params: Params) -> dict:
    """Hash a step of a network's recipe, and tell whether its bits are promised."""
    from stages.classifier.convolution import is_promised
    from stages.classifier.image_classifier import build_network
    from stages.classifier.known_bits import use_everyones_bits

    use_everyones_bits(name, params, training=True)  # may start this process again
    promised = params.train.device == "cpu" and is_promised(build_network(name, params))
    return {"step": hash_step(name, params), "promised": promised}


def hash_step(name: str, params: Params) -> str:
    """Hash all that a training step of a network's recipe leaves behind."""
    import torch

    from stages.classifier.image_classifier import build_network
    from stages.common.mnist_format import IMAGE_SIZE
    from stages.common.tensors import LabelledImages, hash_tensors
    from stages.training.trainer import Trainer

    recipe = params.recipe(name)
    torch.manual_seed(1)
    shape = (recipe.batch_size, 1, IMAGE_SIZE, IMAGE_SIZE)
    images = torch.randint(256, shape, dtype=torch.uint8)
    labels = torch.randint(len(params.dataset.class_names), (recipe.batch_size,))
    network = build_network(name, params)
    trainer = Trainer(network, LabelledImages(images, labels), recipe, epochs=1, seed=1)
    trainer.run_epoch(1)
    return hash_tensors(list(trainer.state().values()))


def refuse_other_machines() -> None:
    """Compare the processor, torch's version and the bits of a step with those that are promised.

    Raises
    ------
    StageError
        If one of them is another.
    """
    import torch  # here, not above: the pins come first

    from stages.classifier.known_bits import has_known_bits, other_torch, restart_with_avx2

    processor = torch.cpu.get_capabilities()
    if processor["architecture"] != "x86_64":
        reason = f"its processor is {processor['architecture']}, not x86_64"
    elif not processor["avx2"]:  # asked first: a step would end in an illegal instruction
        reason = "its processor has no AVX2"
    elif not (reason := other_torch()) and not has_known_bits(training=True):
        if os.environ[ISA] != AVX2:
            restart_with_avx2("AVX-512 has other bits here than elsewhere")
        reason = "a known computation has other bits here than everywhere else"
    if reason:
        raise StageError(f"the results of this machine would not be those of others: {reason}")


if __name__ == "__main__":
    run_stage(main)
