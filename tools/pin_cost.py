"""Measure what the reproducibility pins cost: seconds an epoch with and without them."""

import argparse
import json
import statistics
import subprocess
import sys

from stages.common.console import format_table, run_stage
from stages.common.params import load_params

EPOCH_IMAGES = 54_000  # the training split
SETTINGS = ("without", "with")

# Some steps on synthetic images, timed after as many that warm up: seconds an image, by network.
TIME_STEPS = """
import json, os, sys, time
from stages.common.determinism import PINS, make_torch_deterministic

steps, pins = int(sys.argv[1]), sys.argv[2]
if pins == "without":
    for name in PINS:
        del os.environ[name]

import numpy as np
import torch
from stages.common import synthetic
from stages.common.networks import build_network
from stages.common.params import load_params
from stages.common.tensors import LabelledImages
from stages.common.training import Trainer

params = load_params()
if pins == "with":
    make_torch_deterministic(params.train.threads)
else:
    torch.set_num_threads(params.train.threads)
seconds = {}
for name in params.networks:
    recipe = params.recipe(name)
    count = steps * recipe.batch_size
    images, labels = map(torch.from_numpy, synthetic.draw_dataset(count, np.random.default_rng(1)))
    examples = LabelledImages(images.unsqueeze(1), labels.long())
    trainer = Trainer(build_network(name, recipe), examples, recipe, epochs=2, seed=1)
    trainer.run_epoch(1)
    start = time.perf_counter()
    trainer.run_epoch(2)
    seconds[name] = (time.perf_counter() - start) / count
print(json.dumps(seconds))
"""


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tools.pin_cost", description=__doc__)
    parser.add_argument("--steps", type=int, default=60, help="that are timed (default: 60)")
    parser.add_argument("--repeats", type=int, default=5, help="of each setting (default: 5)")
    options = parser.parse_args()

    networks = load_params().networks
    times = {network: {pins: [] for pins in SETTINGS} for network in networks}
    for _ in range(options.repeats):
        for pins in SETTINGS:  # in turns, so that a busy minute falls on both
            for network, seconds in time_an_image(options.steps, pins).items():
                times[network][pins].append(seconds * EPOCH_IMAGES)

    rows = []
    for network in networks:
        without, pinned = (statistics.median(times[network][pins]) for pins in SETTINGS)
        rows.append(
            (network, f"{without:.1f} s", f"{pinned:.1f} s", f"{pinned / without - 1:+.0%}")
        )
    print(f"an epoch of {EPOCH_IMAGES:,} images, medians of {options.repeats} runs in turns")
    print(format_table(("network", "without pins", "with pins", "cost"), rows))


def time_an_image(steps: int, pins: str) -> dict[str, float]:
    """Measure the seconds that an image takes in training, by network, in a fresh process."""
    command = [sys.executable, "-c", TIME_STEPS, str(steps), pins]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


if __name__ == "__main__":
    run_stage(main)
