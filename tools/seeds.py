"""Train from several seeds, as queued DVC experiments; write the spread of what they reach."""

import argparse
import csv
import json
import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from stages.common.console import StageError, format_table, run_stage
from stages.common.files import write_json
from stages.common.layout import METRICS_FOLDER, ONE_VIEW_FOLDER, PLOTS_FOLDER
from stages.common.params import load_params
from stages.pictures.figures import network_colour, picture
from tools.common.commands import project_environment, run
from tools.common.queue import (
    Task,
    finish_queue,
    queue_status,
    reason_of,
    refuse_unfit_for_queue,
)
from tools.common.repository import committed_head

SEEDS = (1, 2, 3, 4, 5)
SUMMARY = METRICS_FOLDER / "seeds.json"
PICTURE = PLOTS_FOLDER / "seeds.png"
DIGITS = 5
POLL_SECONDS = 20  # asking takes a second of a core


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tools.seeds", description=__doc__)
    parser.add_argument("seeds", nargs="*", type=int, default=SEEDS, help="default: 1 2 3 4 5")
    parser.add_argument("--scheduler", help="Dask's; default: DVC's queue, on this machine")
    arguments = parser.parse_args()
    seeds = arguments.seeds
    if len(set(seeds)) < 2:
        raise StageError("a spread needs two seeds or more")

    networks = load_params().networks
    head = committed_head()
    refuse_unfit_for_queue()
    experiments = {seed: f"seed-{seed}-of-{head}" for seed in seeds}
    commits = run_experiments(head, experiments, arguments.scheduler)
    summary = summarise(networks, experiments, commits)
    write_json(SUMMARY, summary)
    draw_seeds(PICTURE, summary)
    print(format_spread(summary))
    if run("git", "rev-parse", "--short", "HEAD") != head:
        print(f"{SUMMARY} and {PICTURE} are of {head}, which isn't HEAD any more")


def run_experiments(
    head: str, experiments: dict[int, str], scheduler: str | None
) -> dict[str, str]:
    """Queue an experiment per seed, if it doesn't exist yet, and run the whole queue to its end.

    All are of the commit that was HEAD at first, whatever is committed while they run.

    Raises
    ------
    StageError
        If one of them isn't there then. Which, and why, is printed.
    """
    stored = stored_experiments(head)
    before, _ = queue_status()
    queued = [task.name for task in before if task.status in ("Queued", "Running")]
    missing = {seed: name for seed, name in experiments.items() if name not in stored}
    for seed, name in missing.items():
        if name not in queued:
            change = f"train.seed={seed}"
            run("dvc", "exp", "run", "--queue", "--name", name, "--set-param", change)
            check_queued(head, name)
    if missing:
        if scheduler:
            farm = (sys.executable, "-m", "tools.farm", scheduler)
            subprocess.run(farm, env=project_environment(), check=False)  # tells what failed
        else:
            print(f"running {', '.join(missing.values())}; `dvc queue logs NAME` tells how far")
            finish_queue(POLL_SECONDS)
        stored = stored_experiments(head)
        lost = set(missing.values()) - set(stored)
        if lost and scheduler:
            raise StageError(f"no {SUMMARY}: {len(lost)} experiments didn't arrive, see above")
        report_lost(lost, before)
    return stored


def check_queued(head: str, name: str) -> None:
    """Take an experiment out of the queue if it isn't of the commit that it is named after.

    Raises
    ------
    StageError
        If it isn't: DVC queues what is in the working tree.
    """
    try:
        changed = committed_head() != head
    except StageError:
        changed = True
    if changed:
        run("dvc", "queue", "remove", name)
        raise StageError(
            f"the project was changed while {name} was queued; it was taken out again: "
            "commit what you changed, then run `make seeds` again"
        )


def stored_experiments(head: str) -> dict[str, str]:
    """Map the name of each experiment of a commit to its own commit."""
    head = run("git", "rev-parse", head)
    names = ("--format=%(refname:lstrip=4) %(objectname)", f"refs/exps/{head[:2]}/{head[2:]}")
    return dict(line.split() for line in run("git", "for-each-ref", *names).splitlines())


def report_lost(names: set[str], before: list[Task]) -> None:
    """Print why each of these has failed or was not stored, and raise an error if there are any."""
    tasks = {task.name: task for task in queue_status()[0] if task not in before}
    for name in sorted(names):
        print(
            f"{name}: {reason_of(tasks[name]) if name in tasks else 'was taken out of the queue'}"
        )
    if names:
        raise StageError(f"no {SUMMARY}: {len(names)} experiments failed or weren't stored")


def summarise(
    networks: Sequence[str], experiments: dict[int, str], commits: dict[str, str]
) -> dict[str, dict]:
    """Compute the mean and the sample standard deviation of each figure over the seeds.

    The figures are accuracies, with all views and with one, and how far the validation loss, of one
    view, ends above its lowest.

    Raises
    ------
    StageError
        If an experiment has no metrics.
    """
    summary = {}
    for network in networks:
        figures = [read_figures(network, name, commits[name]) for name in experiments.values()]
        summary[network] = {
            "seeds": list(experiments),
            **{name: spread([of_seed[name] for of_seed in figures]) for name in figures[0]},
        }
    return summary


def spread(values: list[float]) -> dict:
    """Compute the mean and the sample standard deviation."""
    mean, deviation = statistics.mean(values), statistics.stdev(values)
    return {"mean": round(mean, DIGITS), "std": round(deviation, DIGITS), "values": values}


def read_figures(network: str, experiment: str, commit: str) -> dict[str, float]:
    """Read what one experiment reached.

    Git does it, as DVC doesn't find the files where the project is a folder of a larger repository.
    """

    def read(file: Path) -> str:
        return run("git", "show", f"{commit}:./{file}")

    try:
        metrics = json.loads(read(METRICS_FOLDER / f"{network}.json"))
        one_view = json.loads(read(ONE_VIEW_FOLDER / f"{network}.json"))
        curves = csv.DictReader(read(PLOTS_FOLDER / network / "curves.csv").splitlines())
        val_loss = [float(row["val_loss"]) for row in curves]
        return {
            "val": metrics["val"]["accuracy"],
            "test": metrics["test"]["accuracy"],
            "val_one_view": one_view["val"]["accuracy"],
            "test_one_view": one_view["test"]["accuracy"],
            "val_loss_rise": round(val_loss[-1] - min(val_loss), DIGITS),
        }
    except (StageError, ValueError) as error:
        raise StageError(
            f"{experiment}: no results of {network} ({error}); "
            f"`dvc exp remove {experiment}` lets `make seeds` run it again"
        ) from None


def draw_seeds(path: Path, summary: dict[str, dict]) -> None:
    """Draw the accuracy of each seed, with the mean and one standard deviation around it."""
    styles = {"val": ("white", -0.15), "test": (None, 0.15)}  # hollow and filled
    with picture(path, 8, 1.5 + len(summary)) as figure:
        axes = figure.subplots()
        for row, (network, figures) in enumerate(summary.items()):
            colour = network_colour(network)
            for split, (fill, offset) in styles.items():
                mean, deviation, values = (figures[split][key] for key in ("mean", "std", "values"))
                height = row + offset
                axes.errorbar(mean, height, xerr=deviation, color=colour, capsize=5)
                axes.plot(values, [height] * len(values), "o", color=colour, markerfacecolor=fill)
                label = f"{split} {mean:.4f} ± {deviation:.4f}"
                beside = axes.get_yaxis_transform()  # x as a share of the width
                axes.text(1.02, height, label, color=colour, va="center", transform=beside)
        axes.set_yticks(range(len(summary)), summary)
        axes.set_ylim(len(summary) - 0.5, -0.5)
        axes.set(
            xlabel="accuracy", title="Each seed by all views, the mean and one standard deviation"
        )


def format_spread(summary: dict[str, dict]) -> str:
    """Lay the means and deviations out as a table."""
    rows = [
        [network, name, f"{figure['mean']:.4f}", f"{figure['std']:.4f}"]
        for network, figures in summary.items()
        for name, figure in figures.items()
        if name != "seeds"
    ]
    return format_table(["network", "", "mean", "deviation"], rows)


if __name__ == "__main__":
    run_stage(main)
