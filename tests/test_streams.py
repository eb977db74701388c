"""Standard streams, Python's variables and those of libraries may be anything."""

import os

import pytest

from tests.conftest import Clone

PRINTING = "from stages.common.console import run_stage; run_stage(lambda: print('x\\n' * 10**6))"
LEAKING = """
import os, sys
import stages
file = open(sys.argv[1], "w")
os.write(1, b"printed by C code")
"""
NAMING = r"from stages.common.console import run_stage; run_stage(lambda: print('\xe9 \udcff'))"


def bash(clone: Clone, line: str, *arguments: str, **environment: str) -> tuple[int, str]:
    """Run a line of bash; return the exit status of its first command and what was printed."""
    script = f"{line}; exit ${{PIPESTATUS[0]}}"
    done = clone.run("bash", "-c", script, "bash", *arguments, check=False, **environment)
    return done.returncode, done.stdout


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_what_cannot_be_printed_ends_a_stage_quietly_or_in_a_line(
    unbuffered: str, source: Clone
) -> None:
    environment = {"PYTHONUNBUFFERED": unbuffered}
    for redirection, status, printed in (
        ("| true", 141, ""),
        ("| head -1", 141, "x\n"),
        ("2>&1 | true", 141, ""),
        (">/dev/full", 1, "error: No space left on device\n"),
        (">&-", 0, ""),
        ("<&- >&- 2>&-", 0, ""),
    ):
        command = f'python -c "$1" {redirection}'
        assert bash(source, command, PRINTING, **environment) == (status, printed), redirection


def test_help_may_be_cut_off(source: Clone) -> None:
    done = source.run("bash", "-c", "make help | true; python -m tools.experiments --help | true")
    assert done.stdout == ""


def test_what_is_printed_to_a_closed_stream_lands_in_no_file(source: Clone) -> None:
    file = source.path / ".git/not_printed_to"
    bash(source, 'python -c "$1" "$2" >&-', LEAKING, str(file))
    assert file.read_bytes() == b""


@pytest.mark.parametrize("encoding", ["ascii", "utf-8:strict", "ascii:strict"])
def test_any_text_can_be_printed(encoding: str, source: Clone) -> None:
    status, printed = bash(source, 'python -c "$1"', NAMING, PYTHONIOENCODING=encoding)
    assert status == 0
    assert printed in ("\xe9 \\udcff\n", "\\xe9 \\udcff\n")


def test_settings_for_other_programs_neither_stop_a_stage_nor_change_a_byte(clone: Clone) -> None:
    (clone.path / ".git/matplotlibrc").write_bytes(b"axes.facecolor: red\n\xff")
    done = clone.stage(
        "evaluate",
        "lenet5",
        COLUMNS="wide",
        HOME="/proc/nobody",
        LC_ALL="C",
        MATPLOTLIBRC=str(clone.path / ".git/matplotlibrc"),
        MPLBACKEND="nonsense",
        MPLCONFIGDIR=os.devnull,
        NO_COLOR="1",
        PYTHONOPTIMIZE="2",
        PYTHONUTF8="0",
        PYTHONWARNINGS="error",
        TERM="dumb",
        TORCH_LOGS="nonsense",
        TQDM_NCOLS="wide",
    )
    assert done.returncode == 0, done.stdout
    assert clone.git("status", "--porcelain") == "", "the same metrics and pictures"
