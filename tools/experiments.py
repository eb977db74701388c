"""Print `dvc exp show` in columns that fit a terminal: what was changed, and the val metrics."""

import argparse
import contextlib
import csv
import re

from stages.common.console import format_table, run_stage
from tools.common.commands import run
from tools.common.repository import check_repository

# `dvc exp show` heads a metric with its file's path, unless there is only one network's file:
# a sweep is 160 characters wide.
FIXED = ("Experiment", "rev", "typ", "State")
WIDEST = 16  # characters of a value
METRIC = r"(?:metrics/(.*)\.json:)?val\.(.*)"
KEPT = "|".join((*FIXED, METRIC))
OTHER_METRICS = r"((train|test)\.(loss|accuracy)|dataset|views|parameters)$"
DROPPED = rf".*/|{OTHER_METRICS}|params\.yaml|Created|parent|Executor"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tools.experiments", description=__doc__)
    parser.add_argument("--num", default="1", help="how many commits, from HEAD back; default: 1")
    show = ("dvc", "exp", "show", "--csv", "--only-changed", "--keep", KEPT, "--drop", DROPPED)
    hide = ("--hide-workspace", "--hide-queued", "--hide-failed")
    number = parser.parse_args().num
    check_repository()
    rows = csv.DictReader(run(*show, *hide, "--num", number).splitlines())
    # A running one would show the metrics of the commit that it started from.
    print(format_experiments([row for row in rows if row["State"] != "Running"]))


def format_experiments(rows: list[dict[str, str]]) -> str:
    """Lay out each commit and, below it, the experiments that started there, oldest first."""
    columns = [name for name in rows[0] if name not in FIXED]
    sections, names = zip(("by all views", "experiment"), *map(heading, columns), strict=True)
    lines = [names]
    for row in rows:
        cells = [format_cell(name, row[name]) for name in columns]
        if row["typ"] == "baseline":
            lines.append([row["rev"], *cells])
            below_commit = len(lines)
        else:  # DVC lists the newest first
            lines.insert(below_commit, [f"  {row['Experiment']}", *cells])
    return format_table(sections, lines)


def heading(column: str) -> tuple[str, str]:
    """Split a column's name into two lines: `metrics/lenet5.json:val.loss`, `lenet5.dropout`."""
    if metric := re.fullmatch(METRIC, column):
        return metric[1] or "", f"val {metric[2]}"
    section, _, name = column.rpartition(".")
    return section, name


def format_cell(column: str, value: str) -> str:
    if re.fullmatch(METRIC, column):
        with contextlib.suppress(ValueError):  # none, or what a broken commit has in its place
            return f"{float(value):.4f}"
    return shorten(value) or "-"


def shorten(value: str) -> str:
    """Leave the first characters of what is too wide for a column, such as a list of addresses."""
    return value if len(value) <= WIDEST else f"{value[: WIDEST - 3]}..."


if __name__ == "__main__":
    run_stage(main)
