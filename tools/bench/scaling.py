"""Our training with ever more cores: seconds a step, and the same weights."""

import sys
from collections.abc import Sequence

from stages.common.console import StageError, format_table
from stages.common.params import load_params
from stages.common.workers import WORKERS_SETTING, count_workers
from tools.bench.speed import STEPS
from tools.bench.worker import measure_in_new_process

WORKERS = (1, 2, 4, 8, 16)


def measure(networks: Sequence[str]) -> dict[str, dict[int, float]]:
    """Measure each network's seconds a step by the number of workers, as far as there are cores.

    Raises
    ------
    StageError
        If the weights depend on the number of workers.
    """
    cores = count_workers()
    seconds = {}
    for name in networks:
        print(f"scaling: {name}", file=sys.stderr)
        batch_size = load_params().recipe(name).batch_size
        measured = {
            workers: measure_in_new_process(
                "ours", name, str(STEPS), **{WORKERS_SETTING: str(workers)}
            )
            for workers in WORKERS
            if workers <= cores
        }
        if len({one["weights"] for one in measured.values()}) > 1:
            raise StageError(f"{name}: other weights with another number of workers")
        seconds[name] = {
            workers: batch_size / one["images_per_second"] for workers, one in measured.items()
        }
    return seconds


def report(seconds: dict[str, dict[int, float]]) -> None:
    """Print a table of the steps, and of how many times one worker's speed they are."""
    rows = [
        [f"{name}, workers: {workers}", f"{step * 1000:.1f} ms", f"{by_workers[1] / step:.2f}"]
        for name, by_workers in seconds.items()
        for workers, step in by_workers.items()
    ]
    print("\na step with more workers, the same weights to the bit")
    print(format_table(["", "step", "times the speed"], rows))
