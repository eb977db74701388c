"""The PNGs, in one visual language."""

import math
import textwrap
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import matplotlib as mpl
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from PIL import Image

from stages.common.files import replacing
from stages.common.tensors import LabelledImages

# Everywhere the same for a network; told apart by the colour-blind too (Okabe and Ito 2008).
NETWORK_COLOURS = {"two_conv": "#0072b2", "lenet5": "#d55e00"}
OTHER_COLOUR = "#007a5a"  # of a network that has none yet
RIGHT_COLOUR, WRONG_COLOUR = "#222222", "#c1121f"
STYLE = {
    "font.family": "DejaVu Sans",  # comes with matplotlib, so it is the same everywhere
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.3,
    "figure.dpi": 110,
    "text.parse_math": False,  # names are anyone's, and may hold a $
}
SAMPLES_PER_CLASS = 12
PREDICTIONS_GRID = (6, 12)  # rows and columns
TITLED_COLUMNS = 3  # or more
TITLED_WIDTH, TITLED_HEIGHT = 4.2, 2.8  # inches of a picture beside what was seen of it
TITLE_WIDTH = 60  # characters in a line
MOST_TITLED = 300  # takes half a minute
MOST_CLASSES = 50  # that have a row of samples, and cells of full size
FILTER_COLUMNS = 8


def network_colour(name: str) -> str:
    """Return the colour that stands for a network in every picture."""
    return NETWORK_COLOURS.get(name, OTHER_COLOUR)


@contextmanager
def picture(path: Path, width: float, height: float) -> Iterator[Figure]:
    """Yield a figure, in inches; write it as a PNG of the same bytes every time."""
    # Our style alone: a user's matplotlibrc must not change what is hashed.
    style = mpl.rc_context({**mpl.rcParamsDefault, **STYLE, "backend": "agg"})
    with style, warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")  # a box stands for such a letter
        figure = Figure(figsize=(width, height), layout="constrained", facecolor="white")
        yield figure
        with replacing(path) as temporary:
            figure.savefig(temporary, format="png", metadata={"Software": None})


def draw_samples(
    path: Path, dataset: str, class_names: Sequence[str], examples: LabelledImages
) -> None:
    """Draw a row of images of each class, the first ones of the training split."""
    shown = class_names[:MOST_CLASSES]
    with picture(path, 10, 0.9 * len(shown)) as figure:
        grid = figure.subplots(len(shown), SAMPLES_PER_CLASS)
        for label, name in enumerate(shown):
            images = examples.images[examples.labels == label]
            for column, axes in enumerate(grid[label]):
                _clear(axes)
                if column < len(images):
                    _show_image(axes, images[column])
            grid[label, 0].set_ylabel(name, rotation=0, ha="right", va="center")
        figure.suptitle(f"Samples of the training split of {dataset}")


def draw_curves(path: Path, name: str, dataset: str, history: Sequence[dict[str, float]]) -> None:
    """Draw the losses and the accuracies by one view over the epochs, side by side."""
    epochs = [int(row["epoch"]) for row in history]
    lines = {"train": {"linestyle": "--", "alpha": 0.6}, "val": {"marker": "."}}
    with picture(path, 10, 4) as figure:
        for axes, metric in zip(figure.subplots(1, 2), ("loss", "accuracy"), strict=True):
            for split, style in lines.items():
                values = [row[f"{split}_{metric}"] for row in history]
                label = f"{split} {values[-1]:.4f}"
                axes.plot(epochs, values, color=network_colour(name), label=label, **style)
            axes.set(xlabel="epoch", title="cross-entropy loss" if metric == "loss" else metric)
            axes.xaxis.get_major_locator().set_params(integer=True)
            axes.legend(title="after the last epoch", frameon=False)
        figure.suptitle(f"{name} on {dataset}, by one view of each image, without augmentation")


def draw_confusion(
    path: Path, name: str, title: str, class_names: Sequence[str], counts: torch.Tensor
) -> None:
    """Draw counts, int64 [C, C], of test images by true (rows) and predicted class (columns)."""
    shares = counts / counts.sum(dim=1, keepdim=True).clamp(min=1)
    edge = 0.8 * max(10, min(len(class_names), MOST_CLASSES))
    with picture(path, edge + 0.5, edge) as figure:
        axes = figure.subplots()
        shades = LinearSegmentedColormap.from_list(name, ["white", network_colour(name)])
        axes.imshow(shares, cmap=shades, vmin=0, vmax=1)
        axes.grid(visible=False)
        classes = range(len(class_names))
        labels = [f"{class_names[i]}  {shares[i, i]:.1%}" for i in classes]
        axes.set_xticks(classes, class_names, rotation=45, ha="right")
        axes.set_yticks(classes, labels)
        axes.set(xlabel="predicted class", ylabel="true class and recall")
        axes.set_title(title)
        for row, column in counts.nonzero().tolist():
            colour = "white" if shares[row, column] > 0.5 else "black"
            text = str(counts[row, column].item())
            axes.text(column, row, text, ha="center", va="center", color=colour, fontsize=9)


def draw_filters(path: Path, name: str, weights: torch.Tensor) -> None:
    """Draw the filters of a first layer, float32 [M, 1, K, K], each on a scale of its own."""
    rows = math.ceil(len(weights) / FILTER_COLUMNS)
    with picture(path, 8, 0.7 + rows) as figure:
        for index, axes in enumerate(figure.subplots(rows, FILTER_COLUMNS, squeeze=False).flat):
            _clear(axes)
            if index < len(weights):
                values = weights[index, 0]
                limit = values.abs().max().item() or 1.0
                axes.imshow(values, cmap="PuOr", vmin=-limit, vmax=limit)
        figure.suptitle(f"{name}, filters of the first layer: purple above zero, orange below")


def draw_predictions(
    path: Path,
    title: str,
    class_names: Sequence[str],
    examples: LabelledImages,
    predicted: torch.Tensor,
    confidence: torch.Tensor,
) -> None:
    """Draw the first images under their predicted classes; a mistake tells the true one too.

    ``predicted``, int64 [N], are the classes, ``confidence``, float32 [N], their probabilities.
    """
    rows, columns = PREDICTIONS_GRID
    with picture(path, 14, 9) as figure:
        for index, axes in enumerate(figure.subplots(rows, columns).flat):
            _clear(axes)
            if index >= len(examples):
                continue
            _show_image(axes, examples.images[index])
            label, truth = predicted[index], examples.labels[index]
            answer = f"{class_names[label]} {confidence[index]:.0%}"
            if label == truth:
                axes.set_title(answer, fontsize=8, color=RIGHT_COLOUR)
            else:
                answer = f"{answer}\nis {class_names[truth]}"
                axes.set_title(answer, fontsize=8, color=WRONG_COLOUR, fontweight="bold")
        figure.suptitle(title)


def draw_titled(
    path: Path,
    pairs: Sequence[tuple[Image.Image, torch.Tensor]],
    titles: Sequence[tuple[str, str]],
) -> None:
    """Draw pictures beside what was seen of them, under a name, of any length, and an answer each.

    What was seen are images, uint8 [1, 28, 28] each. The sheet is about as wide as it is high.
    """
    columns = max(TITLED_COLUMNS, round(math.sqrt(len(pairs) * TITLED_HEIGHT / TITLED_WIDTH)))
    rows = math.ceil(len(pairs) / columns)
    size = TITLED_WIDTH * columns, TITLED_HEIGHT * rows
    with picture(path, *size) as figure:
        for index, axes in enumerate(figure.subplots(rows, columns, squeeze=False).flat):
            _clear(axes)
            if index < len(pairs):
                _show_pair(axes, *pairs[index])
                name, answer = titles[index]
                lines = [textwrap.fill(text, TITLE_WIDTH) for text in (name, answer)]
                axes.set_title("\n".join(lines), fontsize=8)


def _clear(axes: Axes) -> None:
    """Leave nothing but white."""
    axes.set(xticks=[], yticks=[])
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)


def _show_image(axes: Axes, image: torch.Tensor) -> None:
    """Show an image, uint8 [1, 28, 28], dark on white."""
    axes.imshow(image[0], cmap="gray_r", vmin=0, vmax=255)


def _show_pair(axes: Axes, own: Image.Image, image: torch.Tensor) -> None:
    """Show a picture to the left, and an image, uint8 [1, 28, 28], light on black, to the right."""
    width, height = (edge / max(own.size) for edge in own.size)
    across, down = (1 - width) / 2, (1 - height) / 2
    axes.imshow(np.asarray(own), extent=(across, across + width, down, down + height))
    axes.imshow(image[0], cmap="gray", vmin=0, vmax=255, extent=(1.05, 2.05, 0, 1))
    axes.set(xlim=(0, 2.05), ylim=(0, 1))
