"""The views of an image, over which a network's logits are averaged."""

from collections.abc import Iterator

import torch
import torch.nn.functional as F  # noqa: N812, the field's name for it

UNMOVED = (0, 0)
ONE_PIXEL = ((1, 0), (-1, 0), (0, 1), (0, -1))  # down, right; negative: up, left

# What ``evaluate.views`` may name: where an image is moved to, and whether it is mirrored as well.
VIEWS = {
    "one": ([UNMOVED], False),
    "mirrored": ([UNMOVED], True),
    "shifted": ([UNMOVED, *ONE_PIXEL], True),
}


def views_of(images: torch.Tensor, views: str) -> Iterator[torch.Tensor]:
    """Yield each view of images, uint8 [N, 1, H, W]; the images as they are come first.

    ``views`` is a key of ``VIEWS``; what is shifted in is background.
    """
    shifts, mirror = VIEWS[views]
    for shift in shifts:
        moved = move(images, *shift)
        yield moved
        if mirror:
            yield moved.flip(-1)


def move(images: torch.Tensor, down: int, right: int) -> torch.Tensor:
    """Move images by so many pixels; what leaves them is lost."""
    return F.pad(images, (right, -right, down, -down))
