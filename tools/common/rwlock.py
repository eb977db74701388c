"""Remove DVC's rwlock where a dvc that was ended in its first second has left it empty.

Every further dvc would fail. As long as one runs here, nothing is removed. The tools call it, and
`make` runs it before `dvc repro`.
"""

from pathlib import Path

import psutil

from stages.common.console import StageError, run_stage

FILES = (Path(".dvc/tmp/rwlock"), Path(".dvc/tmp/exps/rwlock"))


def mend_rwlock() -> None:
    """Remove what is empty.

    Raises
    ------
    StageError
        If a dvc runs here, which may be about to write it.
    """
    for file in FILES:
        if not file.is_file() or file.stat().st_size:
            continue
        if running := find_dvc():
            raise StageError(
                f"{file}: empty, but a dvc runs here (PID {running}); end it, or wait for its end, "
                "and run this again"
            )
        file.unlink(missing_ok=True)
        print(f"{file}: was left empty by a dvc that was ended, removed")


def find_dvc() -> int | None:
    """Return the number of a process of DVC that works in this folder or below it."""
    here = Path.cwd()
    for process in psutil.process_iter(["cmdline", "cwd"]):
        command, folder = process.info["cmdline"] or [], process.info["cwd"]
        is_dvc = any(Path(part).name == "dvc" for part in command[:3])  # python -m dvc, too
        if is_dvc and folder and Path(folder).is_relative_to(here):
            return process.pid
    return None


if __name__ == "__main__":
    run_stage(mend_rwlock)
