"""Where the stages find and leave their files, below the working directory."""

from pathlib import Path

CHECKED_FILE = Path("data/params_checked.txt")
RAW_FOLDER = Path("data/raw")
SPLIT_FOLDER = Path("data/split")
PREDICTIONS_FOLDER = Path("data/predictions")
MODELS_FOLDER = Path("models")
METRICS_FOLDER = Path("metrics")
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
