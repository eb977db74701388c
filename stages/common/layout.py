"""Where the stages find and leave their files, below the working directory."""

from pathlib import Path

RAW_FOLDER = Path("data/raw")
SPLIT_FOLDER = Path("data/split")
PREDICTIONS_FOLDER = Path("data/predictions")
MODELS_FOLDER = Path("models")
METRICS_FOLDER = Path("metrics")
PLOTS_FOLDER = Path("plots")

TRAIN_SPLIT = SPLIT_FOLDER / "train.safetensors"
VAL_SPLIT = SPLIT_FOLDER / "val.safetensors"
TEST_SPLIT = SPLIT_FOLDER / "test.safetensors"
PIXEL_STATISTICS = SPLIT_FOLDER / "pixel_statistics.json"


def model_file(network: str) -> Path:
    """Name the file of a network's weights."""
    return MODELS_FOLDER / network / "model.safetensors"


def history_file(network: str) -> Path:
    """Name the file of the epochs of a network's training."""
    return MODELS_FOLDER / network / "history.csv"
