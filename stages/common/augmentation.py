"""Random changes to training images, for a whole batch at once."""

from typing import NamedTuple

import torch
import torch.nn.functional as F  # noqa: N812, the field's name for it


class Changes(NamedTuple):
    """What is to be done to each of N images.

    Attributes
    ----------
    mirrored : bool [N, 1]
        Whether an image is mirrored left to right.
    shifts : uint8 [N, 2]
        The pixels that an image moves up and to the left, from 0 on; the middle is no move.
    """

    mirrored: torch.Tensor
    shifts: torch.Tensor

    def to(self, device: torch.device) -> "Changes":
        """Return them on a device; where they are there already, nothing is copied."""
        return Changes(self.mirrored.to(device), self.shifts.to(device))

    def take(self, index: slice) -> "Changes":
        """Return those of the images at ``index``."""
        return Changes(self.mirrored[index], self.shifts[index])


def draw_changes(count: int, flip: bool, max_shift: int, generator: torch.Generator) -> Changes:
    """Draw for each of ``count`` images if it is mirrored, and how far it moves.

    Parameters
    ----------
    count : int
    flip : bool
        Whether half of the images, drawn anew each time, are mirrored.
    max_shift : int
        Pixels, each way.
    generator : torch.Generator
        Of the CPU, so that every device gets the same draws.
    """
    mirrored = torch.rand(count, 1, generator=generator) < (0.5 if flip else 0.0)
    limit, dtype = 2 * max_shift + 1, torch.uint8
    shifts = torch.randint(limit, (count, 2), generator=generator, dtype=dtype)
    return Changes(mirrored, shifts)


def apply_changes(images: torch.Tensor, changes: Changes, max_shift: int) -> torch.Tensor:
    """Mirror and shift images; what is shifted in is background.

    Parameters
    ----------
    images : uint8 [N, 1, H, W]
    changes : Changes
    max_shift : int
        The one that the changes were drawn with.

    Returns
    -------
    uint8 [N, 1, H, W]
    """
    _, _, height, width = images.shape
    padded = F.pad(images, [max_shift] * 4)
    windows = padded.unfold(2, height, 1).unfold(3, width, 1)  # views: [N, 1, shifts, shifts, H, W]
    pick = torch.arange(len(images), device=images.device)
    rows, columns = changes.shifts.int().unbind(1)  # an index of uint8 would be a mask
    shifted = windows[pick, :, rows, columns]
    return torch.where(changes.mirrored[:, :, None, None], shifted.flip(-1), shifted)
