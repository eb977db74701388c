"""Write to the DVC remote what does no harm, to fail where `dvc push` would."""

import hashlib
import os
import sys

from dvc.exceptions import DvcException
from dvc.fs import localfs
from dvc.repo import Repo

from stages.common.console import StageError, run_stage


def main() -> None:
    """Write the empty file, under its own hash, whether it is there or not.

    The argument is the folder of the project whose remote it is.

    Raises
    ------
    StageError
        If there is no remote, or none that can be written.
    """
    nothing = hashlib.md5(usedforsecurity=False).hexdigest()
    with Repo(sys.argv[1]) as repo:
        name = repo.config["core"].get("remote")
        try:
            remote = repo.cloud.get_remote_odb(name, "push")
            remote.add(os.devnull, localfs, nothing, check_exists=False)
        except DvcException as error:
            raise StageError(str(error)) from None
        except Exception as error:  # each kind of remote has its own
            reason = f"{type(error).__name__}: {error}"
            raise StageError(f"the DVC remote {name!r} can't be written: {reason}") from None


if __name__ == "__main__":
    run_stage(main)
