"""Measure speed and memory, side by side in one run: medians, and ratios to what limits us."""

import argparse

from stages.common.console import run_stage
from stages.common.params import load_params
from tools.bench import tables
from tools.bench.picture import PICTURE, draw_speeds


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tools.bench", description=__doc__)
    parser.add_argument("--repeats", type=int, default=5, help="of each loop (default: 5)")
    parser.add_argument("--picture", action="store_true", help=f"write {PICTURE} too")
    options = parser.parse_args()

    networks = load_params().networks
    speeds = tables.measure_speeds(networks, options.repeats)
    tables.print_speeds(speeds)
    if options.picture:
        draw_speeds(PICTURE, speeds)
        print(f"\n{PICTURE}: written")
    tables.print_time_to_accuracy(speeds)
    tables.print_workers(networks)
    tables.print_stages(networks)
    tables.print_growth(networks)


if __name__ == "__main__":
    run_stage(main)
