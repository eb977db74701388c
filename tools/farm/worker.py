"""What a worker of the farm does. It travels as text: a worker may have another Python.

A worker couldn't import this module anyway: it is started in the clone, but has another path.
"""

import contextlib
import re
import subprocess
import sys

from distributed import get_worker

ERROR = r"(error|ERROR|[\w.]+(Error|Exception)): "  # a stage's, DVC's, Python's
STATUS = r"failed to run: .*, exited with (\d+)$"  # DVC's words; of a kill, a negative number


def work(topic: str, arguments: list[str], params: str) -> None:
    """Run the tool of the clone that the worker was started in; send each epoch's line home.

    Raises
    ------
    ChildProcessError
        If a stage failed by itself, as it would again.
    RuntimeError
        If anything else ended the tool.
    """
    command = (sys.executable, "-m", "tools.run_experiment", *arguments)
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    errors, last, by_itself = [], "", False
    with subprocess.Popen(command, text=True, **pipes) as process:
        with contextlib.suppress(BrokenPipeError):  # it may have ended; its last line tells why
            process.stdin.write(params)
            process.stdin.close()
        for line in process.stdout:
            print(line, end="", flush=True)  # the whole of it into the worker's own log
            last = line.strip() or last
            if " epoch " in line:
                get_worker().log_event(topic, [arguments[0], last])
            if re.match(ERROR, line):
                errors.append(last)
            if status := re.search(STATUS, last):
                by_itself = int(status[1]) < 128  # above it, a signal has ended it
    if process.returncode:
        reason = "; ".join(errors) or f"ended with {process.returncode} after: {last}"
        kind = ChildProcessError if by_itself else RuntimeError
        raise kind(f"{get_worker().address}: {reason}")
