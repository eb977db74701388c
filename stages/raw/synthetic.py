"""A stand-in for the data set that needs no network: garment silhouettes, drawn from a seed.

Everything here is integers and operations that IEEE 754 rounds correctly (no sine, no logarithm),
so that every CPU draws the same bytes.
"""

from collections.abc import Sequence

import numpy as np

from stages.common.mnist_format import IMAGE_SIZE

Polygon = Sequence[tuple[float, float]]  # convex; x to the right, y down, both from -1 to 1

TORSO = [(-0.42, -0.7), (0.42, -0.7), (0.42, 0.8), (-0.42, 0.8)]
SHORT_SLEEVES = [
    [(-0.3, -0.7), (-0.3, -0.25), (-0.75, -0.05), (-0.9, -0.4)],
    [(0.3, -0.7), (0.9, -0.4), (0.75, -0.05), (0.3, -0.25)],
]
LONG_SLEEVES = [
    [(-0.3, -0.7), (-0.3, -0.35), (-0.68, 0.75), (-0.92, 0.7), (-0.6, -0.6)],
    [(0.3, -0.7), (0.6, -0.6), (0.92, 0.7), (0.68, 0.75), (0.3, -0.35)],
]
COLLAR = [(-0.2, -0.9), (0.2, -0.9), (0.26, -0.66), (-0.26, -0.66)]
SOLE = [(-0.9, 0.38), (0.9, 0.38), (0.9, 0.55), (-0.9, 0.55)]

SILHOUETTES: dict[str, Sequence[Polygon]] = {  # in the order of Fashion-MNIST's classes
    "T-shirt/top": [TORSO, *SHORT_SLEEVES],
    "Trouser": [
        [(-0.4, -0.9), (0.4, -0.9), (0.42, -0.6), (-0.42, -0.6)],
        [(-0.42, -0.7), (0.02, -0.7), (-0.12, 0.9), (-0.45, 0.9)],
        [(-0.02, -0.7), (0.42, -0.7), (0.45, 0.9), (0.12, 0.9)],
    ],
    "Pullover": [TORSO, *LONG_SLEEVES],
    "Dress": [
        [(-0.3, -0.9), (0.3, -0.9), (0.22, -0.2), (-0.22, -0.2)],
        [(-0.22, -0.25), (0.22, -0.25), (0.52, 0.9), (-0.52, 0.9)],
    ],
    "Coat": [
        [(-0.42, -0.7), (-0.05, -0.7), (-0.05, 0.95), (-0.5, 0.95)],
        [(0.05, -0.7), (0.42, -0.7), (0.5, 0.95), (0.05, 0.95)],
        *LONG_SLEEVES,
        COLLAR,
    ],
    "Sandal": [
        SOLE,
        [(-0.85, 0.4), (-0.62, -0.1), (-0.5, -0.1), (-0.7, 0.4)],
        [(0.2, 0.4), (0.35, 0.0), (0.5, 0.0), (0.62, 0.4)],
    ],
    "Shirt": [TORSO, *SHORT_SLEEVES, COLLAR],
    "Sneaker": [
        SOLE,
        [(-0.85, -0.1), (-0.35, -0.15), (0.3, 0.12), (0.85, 0.2), (0.9, 0.4), (-0.88, 0.4)],
    ],
    "Bag": [
        [(-0.8, -0.1), (0.8, -0.1), (0.85, 0.75), (-0.85, 0.75)],
        [(-0.45, -0.6), (-0.33, -0.6), (-0.33, -0.05), (-0.45, -0.05)],
        [(0.33, -0.6), (0.45, -0.6), (0.45, -0.05), (0.33, -0.05)],
        [(-0.45, -0.7), (0.45, -0.7), (0.45, -0.58), (-0.45, -0.58)],
    ],
    "Ankle boot": [
        SOLE,
        [(-0.85, -0.85), (-0.15, -0.85), (-0.1, 0.2), (-0.85, 0.4)],
        [(-0.85, 0.0), (-0.1, 0.0), (0.85, 0.2), (0.9, 0.4), (-0.88, 0.4)],
    ],
}


def draw_dataset(
    count: int, classes: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Draw ``count`` images, the classes as even as can be and in random order.

    Returns
    -------
    images : uint8 [count, 28, 28]
        0 is background.
    labels : uint8 [count]
        The class of each image.
    """
    labels = rng.permutation(np.arange(count) % classes).astype(np.uint8)
    images = np.empty((count, IMAGE_SIZE, IMAGE_SIZE), np.uint8)
    for label in range(classes):
        chosen = labels == label
        images[chosen] = draw_garments(silhouette(label), int(chosen.sum()), rng)
    return images, labels


def silhouette(label: int) -> list[Polygon]:
    """Return what a class shows: the garments of its number's digits, side by side."""
    garments = list(SILHOUETTES.values())
    digits = [int(digit) for digit in str(label)]
    middles = [2 * place + 1 - len(digits) for place in range(len(digits))]
    return [
        [((x + middle) / len(digits), y) for x, y in polygon]
        for middle, digit in zip(middles, digits, strict=True)
        for polygon in garments[digit]
    ]


def draw_garments(polygons: Sequence[Polygon], count: int, rng: np.random.Generator) -> np.ndarray:
    """Draw a garment, uint8 [count, 28, 28], each time with its own stance, cloth and noise."""
    axis = (np.arange(IMAGE_SIZE) + 0.5) / (IMAGE_SIZE / 2) - 1
    x, y = _move(axis[None, None, :], axis[None, :, None], count, rng)
    outline = np.zeros((count, IMAGE_SIZE, IMAGE_SIZE))
    for polygon in polygons:
        outline = np.maximum(outline, _coverage(polygon, x, y, count, rng))
    brightness = _uniform(rng, count, 0.25, 1.0)
    stripes = np.floor(y * _uniform(rng, count, 1, 6)) % 2 * _uniform(rng, count, 0, 0.5)
    noise = rng.random(outline.shape) * 0.5 + 0.5
    return (outline * brightness * (1 - stripes) * noise * 255).astype(np.uint8)


def _move(
    x: np.ndarray, y: np.ndarray, count: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Shift, stretch and shear the plane, each image its own way."""
    x = (x - _uniform(rng, count, -0.15, 0.15)) * _uniform(rng, count, 0.95, 1.6)
    y = (y - _uniform(rng, count, -0.15, 0.15)) * _uniform(rng, count, 0.95, 1.6)
    return x + y * _uniform(rng, count, -0.25, 0.25), y + x * _uniform(rng, count, -0.25, 0.25)


def _coverage(
    polygon: Polygon, x: np.ndarray, y: np.ndarray, count: int, rng: np.random.Generator
) -> np.ndarray:
    """Tell how much of each pixel a convex polygon covers, its corners shaken a little: 0 to 1."""
    corners = [
        (cx + _uniform(rng, count, -0.08, 0.08), cy + _uniform(rng, count, -0.08, 0.08))
        for cx, cy in polygon
    ]
    inside = np.full(np.broadcast_shapes(x.shape, y.shape), np.inf)
    for (x0, y0), (x1, y1) in zip(corners, corners[1:] + corners[:1], strict=True):
        length = np.sqrt((x1 - x0) * (x1 - x0) + (y1 - y0) * (y1 - y0))
        distance = ((x1 - x0) * (y - y0) - (y1 - y0) * (x - x0)) / length
        inside = np.minimum(inside, distance)
    return np.clip(0.5 + inside * (IMAGE_SIZE / 2), 0, 1)


def _uniform(rng: np.random.Generator, count: int, low: float, high: float) -> np.ndarray:
    """Draw one number an image, shaped to be broadcast over its pixels."""
    return low + (high - low) * rng.random((count, 1, 1))
