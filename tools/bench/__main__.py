"""Measure speed and memory, side by side in one run: medians, and ratios to what limits us."""

import argparse

from stages.common.console import run_stage
from stages.common.params import load_params
from tools.bench import accuracy, growth, pipeline, scaling, speed


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tools.bench", description=__doc__)
    parser.add_argument("--repeats", type=int, default=5, help="of each timing (default: 5)")
    parser.add_argument("--picture", action="store_true", help=f"write {speed.PICTURE} too")
    options = parser.parse_args()

    networks = load_params().networks
    speeds, sgemm = speed.measure(networks, options.repeats)
    speed.report(speeds, sgemm)
    if options.picture:
        speed.draw(speed.PICTURE, speeds, sgemm)
        print(f"{speed.PICTURE}: written")
    accuracy.report(speeds)
    scaling.report(scaling.measure(networks))
    pipeline.measure_and_report(networks)
    growth.report(growth.measure(networks))


if __name__ == "__main__":
    run_stage(main)
