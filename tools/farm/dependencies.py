"""Print, as JSON, the names of the params that each network's training follows from.

The argument is the folder of the project whose dvc.yaml says so. What a stage follows from, the
stages before it name as well.
"""

import contextlib
import json
import sys

from dvc.exceptions import DvcException
from dvc.repo import Repo

from stages.common.console import StageError, run_stage


def main() -> None:
    names = {}
    try:
        with contextlib.chdir(sys.argv[1]), Repo() as repo:  # DVC's names of stages are relative
            for stage in repo.index.stages:
                if stage.addressing.startswith("train@"):
                    chain = repo.stage.collect(stage.addressing, with_deps=True)
                    network = stage.addressing.removeprefix("train@")
                    named = {name for one in chain for dep in one.params for name in dep.params}
                    names[network] = sorted(named)
    except DvcException as error:
        raise StageError(" ".join(str(error).split())) from None
    print(json.dumps(names))


if __name__ == "__main__":
    run_stage(main)
