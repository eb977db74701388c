"""The views of an image that an answer is the mean of, and images moved, as training does too."""

from collections.abc import Iterator

import torch
import torch.nn.functional as F  # noqa: N812, the field's name for it

from stages.common.params import EvaluateParams

UNMOVED = (0, 0)


def views_of(images: torch.Tensor, params: EvaluateParams) -> Iterator[torch.Tensor]:
    """Yield each view of images, uint8 [N, 1, H, W], that an answer is the mean of.

    The images as they are come first.
    """
    far = params.shift
    each_way = ((far, 0), (-far, 0), (0, far), (0, -far)) if far else ()  # down, right
    for down, right in (UNMOVED, *each_way):
        places = torch.tensor([[far - down, far - right]]).expand(len(images), 2)
        moved = move(images, places, far)
        yield moved
        if params.flip:
            yield moved.flip(-1)


def move(images: torch.Tensor, places: torch.Tensor, max_shift: int) -> torch.Tensor:
    """Move images, each its own way.

    Parameters
    ----------
    images : uint8 [N, 1, H, W]
        What is moved out of them is lost; what comes in is background.
    places : integers [N, 2]
        Row and column at which its window begins in the image padded by ``max_shift``: there,
        nothing moves.
    max_shift : int
        The most that an image moves, in pixels, each way.
    """
    _, _, height, width = images.shape
    padded = F.pad(images, [max_shift] * 4)
    windows = padded.unfold(2, height, 1).unfold(3, width, 1)  # a view: [N, 1, places, H, W]
    each = torch.arange(len(images), device=images.device)
    rows, columns = places.int().unbind(1)  # an index of uint8 would be a mask
    return windows[each, :, rows, columns]
