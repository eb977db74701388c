"""A stage ends with the dvc that runs it, whatever the shell that dvc starts it by."""

import shutil
import socket
import subprocess
from pathlib import Path

import pytest

from tests.conftest import Clone

SHELLS = ("bash", "dash", "fish", "ksh", "sh", "tcsh", "zsh")


@pytest.fixture
def silent(fresh: Clone) -> socket.socket:
    """Listen where `fetch`, in a clone, waits for an answer that never comes."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(30)
        mirror = f"http://127.0.0.1:{server.getsockname()[1]}/"
        fresh.set_params(
            {"fetch.source": "mirrors", "dataset.mirrors": [mirror], "fetch.timeout": 600}
        )
        (fresh.path / "data").mkdir()
        (fresh.path / "data/params_checked.txt").touch()
        yield server


def start_fetch(clone: Clone, **environment: str) -> subprocess.Popen[str]:
    settings = [f"{name}={value}" for name, value in environment.items()]
    dvc = ("dvc", "repro", "--single-item", "fetch")
    return clone.start("--unset=SHELL", *settings, *dvc)  # start's own command is env


@pytest.mark.parametrize("shell", ["", *SHELLS])
def test_a_stage_is_gone_once_its_dvc_is_killed(
    shell: str, fresh: Clone, silent: socket.socket
) -> None:
    path = shutil.which(shell) if shell else None
    if shell and path is None:
        pytest.skip(f"there is no {shell} here")
    dvc = start_fetch(fresh, **({"SHELL": path} if path else {}))
    with silent.accept()[0]:  # fetch is at work
        dvc.kill()  # dvc alone, not its group
        dvc.communicate(timeout=30)  # returns when the stage, which shares the pipe, is gone too


@pytest.mark.usefixtures("silent")
def test_a_stage_whose_dvc_is_gone_before_it_starts_does_no_work(
    fresh: Clone, tmp_path: Path
) -> None:
    slow_shell = tmp_path / "slow_shell"
    slow_shell.write_text('#!/bin/sh\nkill -9 $PPID\nsleep 0.1\nexec /bin/sh "$@"\n')
    slow_shell.chmod(0o755)
    dvc = start_fetch(fresh, SHELL=str(slow_shell))
    log = dvc.communicate(timeout=30)[0]
    assert log.splitlines()[-1] == "error: the dvc that started this stage has ended"
