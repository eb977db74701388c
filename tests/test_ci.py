"""What CI does beside `.ci/run`."""

from pathlib import Path

import pytest
import yaml

from tests.conftest import REPOSITORY, Clone

STEPS = yaml.safe_load((REPOSITORY / ".github/workflows/ci.yaml").read_text())["jobs"]["ci"][
    "steps"
]
NO_BASE = "There is no commit "


@pytest.mark.parametrize(
    ("base", "said"),
    [
        pytest.param("0" * 40, NO_BASE, id="the first push of a branch"),
        pytest.param("deadbeef" * 5, NO_BASE, id="a forced push"),
        pytest.param("", NO_BASE, id="started by hand"),
        pytest.param("HEAD~1", "| metrics/lenet5.json | val.loss ", id="a push"),
    ],
)
def test_metrics_are_compared_with_a_base_if_there_is_one(
    clone: Clone, tmp_path: Path, base: str, said: str
) -> None:
    metrics = clone.path / "metrics/lenet5.json"
    metrics.write_text(metrics.read_text().replace('"loss": ', '"loss": 1'))
    clone.commit("other losses")
    (command,) = [step["run"] for step in STEPS if "BASE" in step.get("env", {})]
    command = command.replace(".venv/bin/", "")
    clone.run("bash", "-e", "-c", command, BASE=base, GITHUB_STEP_SUMMARY=str(tmp_path / "summary"))
    assert (tmp_path / "summary").read_text().count(said) == 1
