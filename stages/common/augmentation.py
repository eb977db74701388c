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

    def split(self, size: int) -> "list[Changes]":
        """Divide into those of batches of ``size`` images."""
        parts = zip(self.mirrored.split(size), self.shifts.split(size), strict=True)
        return [Changes(*part) for part in parts]


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
    count, _, height, width = images.shape
    columns = torch.arange(width, device=images.device).expand(count, width)
    columns = torch.where(changes.mirrored, columns.flip(1), columns) + changes.shifts[:, 1:]
    rows = torch.arange(height, device=images.device) + changes.shifts[:, :1]
    padded = F.pad(images, [max_shift] * 4)
    pick = torch.arange(count, device=images.device)[:, None, None]
    return padded[pick, 0, rows[:, :, None], columns[:, None, :]].unsqueeze(1)
