"""Check every key and value, and the folders of outputs: params.yaml -> data/params_checked.txt.

The first stage, as DVC removes a stage's outputs before the stage itself can refuse to run.
"""

from stages.common.console import run_stage
from stages.common.files import write_bytes
from stages.common.inputs import Inputs
from stages.common.layout import CHECKED_FILE, refuse_linked_folders


def main() -> None:
    inputs = Inputs("check")
    refuse_linked_folders(inputs.params.networks)
    inputs.refuse_changes()
    write_bytes(CHECKED_FILE, b"every key is known, every value within its bounds\n")


if __name__ == "__main__":
    run_stage(main)
