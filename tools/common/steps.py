"""What a training step of each network hashes to, asked of the code in a project's folder."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from stages.common.console import StageError
from stages.common.params import PARAMS_FILE
from tools.common.commands import run


def ask_for_steps(
    files: Sequence[Path] = (PARAMS_FILE,), project: Path = Path()
) -> list[dict[str, dict]]:
    """Have a project's own ``tools.machine`` hash a step of each network, for files of params.

    Returns
    -------
    list of dict
        For each file, by the name of the network: ``step``, a hash, and ``promised``.

    Raises
    ------
    StageError
        If this machine is refused.
    """
    command = (sys.executable, "-m", "tools.machine", *map(str, files))
    try:
        printed = run(*command, folder=project)
    except StageError as error:
        raise StageError(str(error).removeprefix("error: ")) from None
    return [json.loads(line) for line in printed.splitlines() if line.startswith("{")]
