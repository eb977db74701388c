"""Try the whole pipeline for a few epochs on drawn garments, in a clone that is thrown away."""

import argparse
import subprocess

from dvc.utils.serialize import modify_yaml

from stages.common.console import StageError, run_stage
from tools.common.clones import clone_of

EPOCHS = 4


def main() -> None:
    argparse.ArgumentParser(prog="python -m tools.demo", description=__doc__).parse_args()
    with clone_of("HEAD", "demo") as (clone, environment):
        with modify_yaml(clone / "params.yaml") as params:
            params["fetch"]["source"] = "synthetic"
            params["train"]["epochs"] = EPOCHS
        for command in (["dvc", "repro", "--force"], ["dvc", "metrics", "show"]):
            if subprocess.run(command, cwd=clone, env=environment, check=False).returncode:
                raise StageError(f"`{' '.join(command)}` failed, see above")


if __name__ == "__main__":
    run_stage(main)
