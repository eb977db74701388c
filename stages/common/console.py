"""How a stage starts, ends and speaks to its user."""

import ctypes
import os
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType
from typing import NoReturn

# What ends a process: kill, or the end of the dvc that runs it; Ctrl-C; a terminal that is closed.
ENDINGS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class StageError(Exception):
    """A problem that the user can solve. Its text says what is wrong, where, and what to do."""


def file_error(path: Path, reason: str, rebuild: str) -> StageError:
    """Make the error that says what is wrong with a file, and which stage writes it anew."""
    return StageError(f"{path}: {reason}; delete it and run `dvc repro {rebuild}`")


def run_stage(main: Callable[[], None]) -> NoReturn:
    """Run a stage's ``main`` and exit: 0 when it returns, else non-zero after one clear line.

    A signal to end is turned into an exit, so that the stage removes its temporary files on its
    way out. Once it ends, further ones change nothing.
    """
    for number in ENDINGS:
        if signal.getsignal(number) != signal.SIG_IGN:  # as nohup has it
            signal.signal(number, _exit_on_signal)
    # Line by line into a log file, too; and whatever the encoding, a name can be printed.
    sys.stdout.reconfigure(line_buffering=True, errors="backslashreplace")
    try:
        main()
    except StageError as error:
        sys.exit(f"error: {error}")
    except BrokenPipeError:  # `... | head -1`: the reader has seen enough
        sys.exit(128 + signal.SIGPIPE)
    except OSError as error:
        # not str(error): with a filename but no errno it is "[Errno None] None: ..."
        reason = error.strerror or " ".join(map(str, error.args)) or type(error).__name__
        if error.filename is None:  # what is printed can't be, as a rule
            sys.exit(f"error: {reason}")
        place = printable(str(error.filename))
        sys.exit(f"error: {place}: {reason}; nothing was left half-written")
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(128 + signal.SIGINT)
    finally:
        _ignore_endings()
        _drop_unprinted()
    sys.exit(0)


def end_with_dvc() -> None:
    """Have Linux stop a stage when the DVC that runs it is killed.

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


def open_closed_streams() -> None:
    """Open standard streams that are closed (`>&-`) as /dev/null.

    The next file to be opened would take their number, and what C code prints.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            stream = Path(os.devnull).open(mode, encoding="utf-8")  # noqa: SIM115, for good
            os.set_inheritable(stream.fileno(), True)  # by what a tool starts
            setattr(sys, name, stream)


def _drop_unprinted() -> None:
    """Drop what can't be printed, or Python would try again at its end, and show a traceback."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            with Path(os.devnull).open("wb") as nowhere:
                os.dup2(nowhere.fileno(), stream.fileno())


def _exit_on_signal(number: int, _frame: FrameType | None) -> NoReturn:
    _ignore_endings()  # first of all: a second one would break the exit that this one starts
    if number == signal.SIGINT:
        raise KeyboardInterrupt
    sys.exit(128 + number)


def _ignore_endings() -> None:
    for number in ENDINGS:
        # Not SIG_IGN: Python shows a traceback for one that has come, but not yet to its handler.
        signal.signal(number, lambda *_: None)


def printable(path: str | Path) -> str:
    """Write a path in one line that can be printed and drawn, with escapes for all that can't."""
    text = os.fsencode(path).decode("utf-8", "backslashreplace")
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def format_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Align cells in columns: the first to the left, the others to the right."""
    lines = [header, *rows]
    first_width, *widths = (max(map(len, column)) for column in zip(*lines, strict=True))
    return "\n".join(
        "  ".join([first.ljust(first_width), *map(str.rjust, others, widths)])
        for first, *others in lines
    )
