"""What the stages of a commit write: an experiment may change that, and its params, alone."""

import re

import yaml

from stages.common.console import StageError
from tools.common.commands import run

# A lock may say more, but DVC would run the stages of a dvc.yaml that lies in these folders.
RESULT = re.compile(r"(metrics|plots)/.*\.(json|csv|png)")


def check_code(commit: str, base: str) -> None:
    """Refuse a commit that differs from where it started in more than params and results.

    Raises
    ------
    StageError
        If it does: what it brings might be code, or figures that no rebuild makes.
    """
    listed = ("git", "diff", "--relative", "--no-renames", "--name-only", base, commit)
    changed = set(run(*listed).splitlines()) - {"params.yaml", "dvc.lock"}
    results = {path for path in outputs_of(commit) if RESULT.fullmatch(path)} if changed else set()
    if others := changed - results:
        raise StageError(
            f"{commit:.7} changes {', '.join(sorted(others))} since {base:.7}, which no stage "
            "writes; such code isn't run: if you trust it, check it out first"
        )


def outputs_of(commit: str) -> list[str]:
    """List what a commit's stages have written, except those of a network that it doesn't list.

    Raises
    ------
    StageError
        If its params.yaml or its dvc.lock can't be read.
    """
    files = ("params.yaml", "dvc.lock")
    params, lock = (run("git", "show", f"{commit}:./{file}") for file in files)
    try:
        instances = ["", *yaml.safe_load(params)["networks"]]
    except (yaml.YAMLError, KeyError, TypeError) as error:
        raise StageError(f"{commit:.7}: its params.yaml lists no networks ({error!r})") from None
    return [
        path
        for stage, outputs in read_outputs(lock).items()
        if stage.partition("@")[2] in instances
        for path in outputs
    ]


def read_outputs(lock: str) -> dict[str, dict[str, str]]:
    """Read the MD5 of each output, by stage, from the text of a ``dvc.lock``.

    Raises
    ------
    StageError
        If it isn't one.
    """
    try:
        return {
            name: {out["path"]: out.get("md5", "no hash") for out in stage.get("outs", [])}
            for name, stage in yaml.safe_load(lock)["stages"].items()
        }
    except (yaml.YAMLError, KeyError, TypeError, AttributeError) as error:
        raise StageError(f"dvc.lock isn't one of DVC's ({error!r})") from None
