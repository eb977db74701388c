"""Random changes to training images, for a whole batch at once."""

import torch
import torch.nn.functional as F  # noqa: N812, the field's name for it


def flip_and_shift(
    images: torch.Tensor, flip: bool, max_shift: int, generator: torch.Generator
) -> torch.Tensor:
    """Mirror each image or not, and shift it by up to ``max_shift`` pixels each way.

    Parameters
    ----------
    images : uint8 [N, 1, H, W]
    flip : bool
        Whether half of the images, drawn anew each time, are mirrored left to right.
    max_shift : int
        Pixels; what is shifted in is background.
    generator : torch.Generator

    Returns
    -------
    uint8 [N, 1, H, W]
    """
    count, _, height, width = images.shape
    columns = torch.arange(width).expand(count, width)
    if flip:
        mirrored = torch.rand(count, 1, generator=generator) < 0.5
        columns = torch.where(mirrored, columns.flip(1), columns)
    shifts = torch.randint(2 * max_shift + 1, (2, count, 1), generator=generator)
    rows = torch.arange(height) + shifts[0]
    columns = columns + shifts[1]
    padded = F.pad(images, [max_shift] * 4)
    pick = torch.arange(count)[:, None, None]
    return padded[pick, 0, rows[:, :, None], columns[:, None, :]].unsqueeze(1)
