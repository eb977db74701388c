"""Check every key and value, the folders of outputs, HEAD: params.yaml -> data/params_checked.txt.

The first stage, as DVC removes a stage's outputs before the stage itself can refuse to run.
"""

from stages.common.console import run_stage
from stages.common.files import write_bytes
from stages.common.head import refuse_lost_head
from stages.common.inputs import Inputs
from stages.common.layout import CHECKED_FILE, refuse_linked_folders


def main() -> None:
    inputs = Inputs("check")
    refuse_linked_folders(inputs.params.networks)
    refuse_lost_head()
    with inputs.writing_last_output():
        write_bytes(CHECKED_FILE, b"every key is known, every value within its bounds\n")


if __name__ == "__main__":
    run_stage(main)
