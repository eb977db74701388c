"""Machines that share experiments: clones, a bare repository, its server, and a DVC remote."""

import os
import signal
import socket
import subprocess
import time
from pathlib import Path

from tests.conftest import Clone, copy


class Farm:
    """A bare repository, a remote, a home that has run the pipeline, and clones on machines."""

    def __init__(self, folder: Path, built: Clone) -> None:
        self.folder = folder
        self.bare = folder / "bare.git"
        self.store = folder / "store"
        self.home = copy(built, folder / "home")
        git = self.home.git
        git("init", "--quiet", "--bare", "--initial-branch=main", str(self.bare))
        git("remote", "add", "origin", str(self.bare))
        self.home.dvc("remote", "add", "--default", "storage", str(self.store))
        self.home.commit("a remote")
        self.home.dvc("push", "--quiet")
        git("push", "--quiet", "origin", "main")

    def machine(self, name: str) -> Clone:
        """Make the clone on another machine: without a cache, with settings of its own."""
        clone = Clone(self.folder / name, self.home.environment)
        self.home.git("clone", "--quiet", str(self.bare), str(clone.path))
        return clone

    def shared(self) -> dict[str, str]:
        """Map each experiment on the remote to its commit."""
        listed = self.home.git("ls-remote", "origin", "refs/exps/*").splitlines()
        return {ref.rpartition("/")[2]: commit for commit, ref in map(str.split, listed)}

    def tree(self, name: str, clone: Clone | None = None) -> str:
        """Name the tree of an experiment: on the remote, or as a clone has it."""
        if clone is None:
            self.home.git("fetch", "--quiet", "origin", self.shared()[name])
            return self.home.git("rev-parse", "FETCH_HEAD^{tree}")
        shown = ("--format=%(tree)", f"refs/exps/*/*/{name}")
        return clone.git("for-each-ref", *shown)

    def run_at_home(self, name: str, *changes: str) -> str:
        """Run an experiment at home, in a folder of DVC's; return its tree."""
        options = [f"--set-param={change}" for change in changes]
        self.home.dvc("exp", "run", "--temp", "--name", f"{name}-at-home", *options)
        return self.tree(f"{name}-at-home", self.home)

    def refuse_pushes(self) -> Path:
        """Have the bare repository refuse each push by a hook; return that."""
        hook = self.bare / "hooks/pre-receive"
        hook.parent.mkdir(exist_ok=True)
        hook.write_text("#!/bin/sh\necho no experiments here\nexit 1\n")
        hook.chmod(0o755)
        return hook


class GitServer:
    """Git's own server of a farm's repository, which can be away."""

    def __init__(self, farm: Farm, *, takes_pushes: bool) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.address = f"git://127.0.0.1:{self.port}/{farm.bare.name}"
        self.place = Clone(farm.folder, farm.home.environment)
        self.pushes = ["--enable=receive-pack"] if takes_pushes else []
        self.process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        options = ("--export-all", "--reuseaddr", "--listen=127.0.0.1", f"--port={self.port}")
        folder = f"--base-path={self.place.path}"
        self.process = self.place.start("git", "daemon", folder, *options, *self.pushes)
        while self.place.run("git", "ls-remote", self.address, check=False).returncode:
            time.sleep(0.1)

    def stop(self) -> None:
        if self.process:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.communicate()
            self.process = None


def refusal(done: subprocess.CompletedProcess[str]) -> str:
    """Check that a tool ended with one clear line; return it."""
    assert done.returncode == 1, done.stdout
    assert "Traceback" not in done.stdout
    return done.stdout.splitlines()[-1].removeprefix("error: ")


def left_in_slot(machine: Clone, name: str) -> set[str]:
    """List what the folder holds that a clone keeps for an experiment's name."""
    return {path.name for path in (machine.path / ".dvc/tmp/slots" / name).iterdir()}


def processes_of(clone: Clone) -> list[int]:
    """List the processes at work in the clone: worker, runner and stage."""
    found = []
    for link in Path("/proc").glob("[0-9]*/cwd"):
        try:
            if link.readlink().is_relative_to(clone.path):
                found.append(int(link.parent.name))
        except OSError:
            continue  # another user's, or gone
    return found


def kill(machine: Clone, word: str = "") -> None:
    """Kill a machine's processes whose command holds a word."""
    for process in processes_of(machine):
        if word in Path(f"/proc/{process}/cmdline").read_text():
            os.kill(process, signal.SIGKILL)
