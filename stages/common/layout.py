"""Where the stages find and leave their files, below the working directory."""

from collections.abc import Iterable
from pathlib import Path

from stages.common.console import StageError

LOCAL_FOLDER_VARIABLE = "FASHION_MNIST_DIR"  # names a folder that holds the raw files

CHECKED_FILE = Path("data/params_checked.txt")
RAW_FOLDER = Path("data/raw")
SPLIT_FOLDER = Path("data/split")
PREDICTIONS_FOLDER = Path("data/predictions")
MODELS_FOLDER = Path("models")
METRICS_FOLDER = Path("metrics")
ONE_VIEW_FOLDER = METRICS_FOLDER / "one_view"
CALIBRATION_FOLDER = METRICS_FOLDER / "calibration"
PLOTS_FOLDER = Path("plots")

PIXEL_STATISTICS = SPLIT_FOLDER / "pixel_statistics.json"


def split_file(split: str) -> Path:
    """Return the path of a split: train, val or test."""
    return SPLIT_FOLDER / f"{split}.safetensors"


def model_file(network: str) -> Path:
    """Return the path of a network's weights."""
    return MODELS_FOLDER / network / "model.safetensors"


def history_file(network: str) -> Path:
    """Return the path of the history of a network's training."""
    return MODELS_FOLDER / network / "history.csv"


def refuse_linked_folders(networks: Iterable[str]) -> None:
    """Check that no output folder is a link, as DVC and Git keep nothing that lies behind one.

    Raises
    ------
    StageError
        If one is. DVC itself would say so once the outputs are made.
    """
    kept_by_dvc = {CHECKED_FILE.parent, RAW_FOLDER, SPLIT_FOLDER, PREDICTIONS_FOLDER, MODELS_FOLDER}
    kept_by_git = {METRICS_FOLDER, ONE_VIEW_FOLDER, CALIBRATION_FOLDER, PLOTS_FOLDER}
    of_networks = {top / name for top in (MODELS_FOLDER, PLOTS_FOLDER) for name in networks}
    for folder in sorted(kept_by_dvc | kept_by_git | of_networks):
        if folder.is_symlink():
            raise StageError(
                f"{folder}: is a link, and DVC keeps no outputs behind one; put a folder there. "
                "To have the files on another disk, run `dvc cache dir --local /path/on/that/disk` "
                "and `dvc config --local cache.type symlink`"
            )
