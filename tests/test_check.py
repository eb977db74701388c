"""What `check` refuses besides wrong params."""

import os
import re
from pathlib import Path

import pytest

from stages.common.console import StageError
from stages.common.layout import refuse_linked_folders
from tests.conftest import Clone
from tests.test_pipeline import ran

OUTPUT_FOLDERS = (
    *("data", "data/raw", "data/split", "data/predictions", "models", "models/lenet5"),
    *("metrics", "metrics/one_view", "metrics/calibration", "plots", "plots/lenet5"),
)


@pytest.mark.parametrize("folder", OUTPUT_FOLDERS)
@pytest.mark.parametrize("target", ["elsewhere", "clone/within", "nowhere"])
def test_a_link_in_the_place_of_an_output_folder_is_refused(
    folder: str, target: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "clone/within").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "clone")
    Path(folder).parent.mkdir(exist_ok=True)
    Path(folder).symlink_to(tmp_path / target)
    with pytest.raises(StageError, match=f"^{folder}: is a link"):
        refuse_linked_folders(["two_conv", "lenet5"])


def test_the_folders_above_are_all_that_hold_outputs(built: Clone) -> None:
    listed = built.git("ls-files", "metrics", "plots").splitlines()
    found = {str(Path(path).parent) for path in listed}
    for top in ("data", "models"):
        found |= {os.path.relpath(folder, built.path) for folder, *_ in os.walk(built.path / top)}
    assert found == {*OUTPUT_FOLDERS, "models/two_conv", "plots/two_conv"}


def test_models_that_link_to_a_larger_disk_are_refused_and_the_way_that_is_named_works(
    fresh: Clone, tmp_path: Path
) -> None:
    (tmp_path / "disk").mkdir()
    (fresh.path / "models").symlink_to(tmp_path / "disk")
    done = fresh.run("dvc", "repro", check=False)
    assert ran(done.stdout) == ["check"]
    (error,) = [line for line in done.stdout.splitlines() if line.startswith("error: ")]
    assert error.startswith("error: models: is a link")
    assert not (fresh.path / "data/params_checked.txt").exists()
    # One that is made once `check` has passed: before it trains.
    done = fresh.stage("train", "lenet5", DVC_STAGE="train@lenet5")
    assert done.stdout == f"{error}\n"

    (fresh.path / "models").unlink()
    commands = re.findall("`(.*?)`", error.replace("/path/on/that/disk", f"{tmp_path}/disk"))
    for command in commands:
        fresh.run("bash", "-c", command)
    fresh.dvc("repro", "check")
    out = fresh.path / "data/params_checked.txt"
    assert out.readlink().is_relative_to(tmp_path / "disk")
    assert fresh.stage("check").returncode == 0, "a file may be a link"
