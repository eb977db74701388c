"""How a stage speaks to its user: errors in one line, small tables."""

import ctypes
import os
import signal
import sys
from collections.abc import Callable, Sequence
from types import FrameType
from typing import NoReturn

# What ends a process: kill, or the end of the dvc that runs it; Ctrl-C; a terminal that is closed.
ENDINGS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class StageError(Exception):
    """A problem that the user can solve. Its text says what is wrong, where, and what to do."""


def run_stage(main: Callable[[], None]) -> NoReturn:
    """Run a stage's ``main`` and exit: 0 when it returns, else non-zero after one clear line.

    A signal to end is turned into an exit, so that the stage removes its temporary files on its
    way out. Once it ends, further ones change nothing.
    """
    for number in ENDINGS:
        if signal.getsignal(number) != signal.SIG_IGN:  # as nohup has it
            signal.signal(number, _exit_on_signal)
    sys.stdout.reconfigure(line_buffering=True)  # into a log file, too
    try:
        main()
    except StageError as error:
        sys.exit(f"error: {error}")
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        sys.exit(f"error: {place}{error.strerror or error}; nothing was left half-written")
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(128 + signal.SIGINT)
    finally:
        _ignore_endings()
    sys.exit(0)


def end_with_dvc() -> None:
    """Let Linux stop a stage that DVC runs when DVC is killed.

    It would go on otherwise, and write its outs beside, or after, those of the next ``dvc repro``.
    """
    pr_set_pdeathsig = 1  # from linux/prctl.h
    if sys.platform == "linux" and "DVC_STAGE" in os.environ:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)  # even if dvc was started to ignore it
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGTERM)
        if os.getpgid(os.getppid()) != os.getpgrp():  # killed before that: init is the parent now
            sys.exit("error: the dvc that started this stage has ended")


def end_quietly_while_importing() -> None:
    """Let Ctrl-C end a stage without a traceback in the seconds before ``run_stage`` takes over."""
    started_by_python_m = sys.argv[:1] == ["-m"]  # what stands there while packages are imported
    if started_by_python_m and signal.getsignal(signal.SIGINT) == signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)


def _exit_on_signal(number: int, _frame: FrameType | None) -> NoReturn:
    _ignore_endings()  # first of all: a second one would break the exit that this one starts
    if number == signal.SIGINT:
        raise KeyboardInterrupt
    sys.exit(128 + number)


def _ignore_endings() -> None:
    for number in ENDINGS:
        # Not SIG_IGN: Python shows a traceback for one that has come, but not yet to its handler.
        signal.signal(number, lambda *_: None)


def format_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Align cells in columns: the first to the left, the others to the right."""
    lines = [header, *rows]
    first_width, *widths = (max(map(len, column)) for column in zip(*lines, strict=True))
    return "\n".join(
        "  ".join([first.ljust(first_width), *map(str.rjust, others, widths)])
        for first, *others in lines
    )
