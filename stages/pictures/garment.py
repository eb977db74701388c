"""The garment in a picture: where it is, and how the data set would have shown it."""

from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812, the field's name for it
from PIL import Image

from stages.common.mnist_format import IMAGE_SIZE

# Lengths are in pixels of a picture that is made so small, which averages its noise, too.
LONGEST_EDGE = 160
SMALL = 100  # a picture that came as small as this has no pixel too many: none is smoothed away
RING = 0.03  # of the longest edge: so wide is the ring along the edges that is taken for ground
STRIPES = 2  # along an edge: so many are a pattern
HAIR = 3  # to both sides of its middle: what is no wider is no part of a garment
GAP = 0.025  # of the longest edge: what is nearer to each other is one thing
FRAME = 0.2  # of an edge: no frame is wider
SMALL_GARMENT = 0.45  # of the longest edge: one that is smaller is looked at closer
MARGIN = 0.4  # of the garment's edge: so much is kept around it then
LOOKS = 3

# Of 255; a difference between colours is the root mean square of those of red, green and blue.
FAINTEST = 5  # what differs less is ground
SHARE = 0.06  # of the garment's difference; what differs less is ground
PATTERN = 0.25  # of the garment's; what differs less at the edges is a pattern of the ground
LIGHTEST = 240  # what the lightest parts of a garment become
CUT_OUT = (80, 240)  # what the darkest and the lightest parts of a cut-out become
GREY = (0.299, 0.587, 0.114)  # of red, green and blue (ITU-R BT.601)

SEVERAL = "several things: the largest was taken"
NOT_PLAIN = "no plain ground around it"


class Found(NamedTuple):
    """A light garment on a background of 0, uint8 [1, 28, 28], and what is doubtful about it."""

    image: torch.Tensor
    notes: list[str]


class Thing(NamedTuple):
    """What stands out: its pixels, bool [H, W], and the brightness to show, float32 [H, W]."""

    mask: torch.Tensor
    brightness: torch.Tensor
    notes: list[str]


def find_garment(picture: Image.Image, looks: int = LOOKS) -> Found | None:
    """Find the garment in a picture, RGB or RGBA, and show it as the data set would.

    A garment is what differs from the ground, in brightness or colour, by more than the ground does
    from itself; of a cut-out, it is what isn't transparent. The more it differs, the lighter it is
    shown. A frame is left away, and what is small is looked at again, closer.

    Returns
    -------
    Found or None
        None if nothing stands out.
    """
    scale = max(1.0, max(picture.size) / LONGEST_EDGE)
    size = [max(1, round(edge / scale)) for edge in picture.size]
    pixels = picture if scale == 1 else picture.resize(size, Image.Resampling.BOX)
    values = torch.from_numpy(np.array(pixels, np.float32)).movedim(2, 0)
    thing = separate_cut_out(values) if picture.mode == "RGBA" else separate(values)
    if thing is None:
        return None
    if looks > 1 and (part := part_to_look_at(thing.mask, scale)):
        left, top, right, bottom = (round(edge * scale) for edge in part)
        part = max(0, left), max(0, top), min(picture.width, right), min(picture.height, bottom)
        if found := find_garment(picture.crop(part), looks - 1):
            return Found(found.image, list(dict.fromkeys(thing.notes + found.notes)))
    left, top, right, bottom = box_of(thing.mask)
    shown = thing.brightness.clamp(0, 255)[top:bottom, left:right]
    return Found(resize_and_centre(shown), thing.notes)


def separate(colours: torch.Tensor) -> Thing | None:
    """Separate what stands out from the ground, of colours, float32 [3, H, W]."""
    difference, ring = subtract_ground(colours)
    difference = subtract_stripes(difference)
    small = max(ring.shape) < SMALL
    sharp = root_mean_square(difference)
    smooth = sharp if small else root_mean_square(blur(difference))
    level = ground_level(smooth[ring])
    mask = smooth > level
    if not mask.any():
        return None
    peak = smooth[mask].quantile(0.97).item()
    level = max(level, SHARE * peak)
    if not small and (pattern := smooth[ring].quantile(0.97).item()) < PATTERN * peak:
        level = max(level, 1.1 * pattern)
    mask = smooth > level
    if not small:
        mask = without_hairs(mask)
    if not mask.any():
        return None
    mask, several = largest_thing(mask, smooth)
    notes = [SEVERAL] if several else []
    if smooth[ring].quantile(0.9) > smooth[mask].quantile(0.9) / 3:
        notes.append(NOT_PLAIN)

    # Smoothing has widened it; its outline is where it is sharp.
    outline = dilate(mask, 1) & (sharp > max(level, ground_level(sharp[ring])))
    mask = outline if outline.any() else mask
    lightest = sharp[mask].quantile(0.98)
    return Thing(mask, sharp * dilate(mask, 1) * (LIGHTEST / lightest), notes)


def subtract_ground(colours: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Subtract the ground from colours, float32 [3, H, W].

    The ground is a polynomial in x and y, of the fourth degree in the end, fitted to the ring along
    the edges, then to all pixels; each time without those that are far from the one before.

    Returns
    -------
    tuple of Tensor
        The differences, float32 [3, H, W], and the ring, bool [H, W].
    """
    _, height, width = colours.shape
    y, x = torch.meshgrid(
        torch.linspace(-1, 1, height), torch.linspace(-1, 1, width), indexing="ij"
    )
    terms = [torch.ones_like(x), x, y, x * y, x**2, y**2, x**3, y**3, x**4, y**4]
    terms = torch.stack(terms, dim=-1).flatten(0, 1)
    thickness = max(1, round(RING * max(height, width)))
    ring = torch.ones(height, width, dtype=torch.bool)
    ring[thickness : height - thickness, thickness : width - thickness] = False

    values, on_ring, everywhere = colours.flatten(1).T, ring.flatten(), torch.tensor(True)
    ground = values[on_ring].median(dim=0).values.expand_as(values)
    steps = [(1, on_ring), *[(3, on_ring)] * 2, *[(6, on_ring)] * 2]
    steps += [*[(6, everywhere)] * 2, *[(10, everywhere)] * 2]
    for count, where in steps:
        error = root_mean_square((values - ground).T)
        deviation = 1.4826 * error[on_ring].median().item()  # if errors are normal
        near = where & (error <= 3 * max(1.0, deviation))
        fitted = torch.linalg.lstsq(terms[near, :count], values[near]).solution
        ground = terms[:, :count] @ fitted
    return (values - ground).T.reshape(colours.shape), ring


def subtract_stripes(difference: torch.Tensor) -> torch.Tensor:
    """Subtract stripes that run from one edge to the opposite one, of differences, [3, H, W]."""
    thickness = max(1, round(RING * max(difference.shape)))
    for _ in range(2):  # level, then upright ones
        left = difference[..., :thickness].mean(dim=2)
        right = difference[..., -thickness:].mean(dim=2)
        both = (left + right) / 2
        strong = root_mean_square(both) > FAINTEST
        stripes = (strong & ~strong.roll(1)).sum()
        if stripes >= STRIPES and (left - right).square().mean() < both.square().mean() / 4:
            difference = difference - both[..., None]
        difference = difference.mT
    return difference


def ground_level(ring: torch.Tensor) -> float:
    """Tell how much the ground differs from itself at most, of differences on the ring, [N].

    Five medians are 3.4 standard deviations of a normal noise.
    """
    return max(FAINTEST, min(5 * ring.median().item(), 1.3 * ring.quantile(0.97).item()))


def without_hairs(mask: torch.Tensor) -> torch.Tensor:
    """Take hairs, hangers and dust from a mask; where there is nothing wider, only the finest."""
    for width in (HAIR, 1):
        core = erode(mask, width)
        if core.any():
            break
    return mask & dilate(core, width + 1)


def largest_thing(mask: torch.Tensor, weights: torch.Tensor) -> tuple[torch.Tensor, bool]:
    """Return the pixels of the largest thing in a mask, and whether there are others of its size.

    Its size is the sum of the weights; that of what touches the picture's edge counts a third.
    """
    gap = max(2, round(GAP * max(mask.shape)))
    coarse = label(F.max_pool2d(mask[None].float(), gap, ceil_mode=True)[0] > 0)
    height, width = mask.shape
    fine = coarse.repeat_interleave(gap, dim=0).repeat_interleave(gap, dim=1)
    labels = fine[:height, :width] * mask
    sizes = torch.bincount(labels.flatten(), weights.flatten(), minlength=2)
    edges = torch.cat([labels[0], labels[-1], labels[:, 0], labels[:, -1]])
    sizes[edges.unique()] /= 3
    sizes[0] = 0
    largest = sizes.argmax()
    return labels == largest, bool((sizes > sizes[largest] / 8).sum() > 1)


def label(mask: torch.Tensor) -> torch.Tensor:
    """Give each region of a mask, bool [H, W], a number: int64 [H, W], 0 elsewhere."""
    labels = torch.arange(1.0, mask.numel() + 1).view_as(mask) * mask
    while True:
        grown = labels
        for _ in range(8):  # so often before it is asked whether that is all
            grown = F.max_pool2d(grown[None, None], 3, 1, 1)[0, 0] * mask
        if torch.equal(grown, labels):
            return labels.long()
        labels = grown


def part_to_look_at(mask: torch.Tensor, scale: float) -> list[float] | None:
    """Tell whether a part of the picture should be looked at alone: left, top, right, bottom."""
    height, width = mask.shape
    left, top, right, bottom = box_of(mask)
    if is_frame(mask):
        inset = 2 if max(mask.shape) >= SMALL else 1
        return [left + inset, top + inset, right - inset, bottom - inset]
    edge = max(right - left, bottom - top)
    if scale > 1 and edge < SMALL_GARMENT * max(height, width):
        margin = MARGIN * edge
        return [left - margin, top - margin, right + margin, bottom + margin]
    return None


def is_frame(mask: torch.Tensor) -> bool:
    """Tell whether all but a narrow frame stands out, so that the frame was taken for ground."""
    height, width = mask.shape
    left, top, right, bottom = box_of(mask)
    margins = [left / width, 1 - right / width, top / height, 1 - bottom / height]
    inside = mask[top:bottom, left:right]
    return 0 < max(margins) <= FRAME and min(filled(inside), filled(inside.T)) > 0.97


def filled(mask: torch.Tensor) -> float:
    """Measure the share of a box that lies between the first and the last pixel of each row."""
    before = mask.cummax(dim=1).values
    after = mask.flip(1).cummax(dim=1).values.flip(1)
    return (before & after).float().mean().item()


def separate_cut_out(values: torch.Tensor) -> Thing | None:
    """Take what isn't transparent, of colours and alpha, float32 [4, H, W].

    What it was cut from may have been lighter or darker. Garments of the data set are darker at
    their rim, and lighter parts prevail: the brightness is kept or negated so that both are so.
    """
    mask = values[3] >= 128
    if not mask.any():
        return None
    mask, several = largest_thing(mask, values[3])
    grey = torch.tensordot(torch.tensor(GREY), values[:3], dims=1)
    darkest, lightest = grey[mask].quantile(torch.tensor([0.05, 0.95])).tolist()
    share = ((grey - darkest) / max(1.0, lightest - darkest)).clamp(0, 1)
    core = erode(F.pad(mask, (1, 1, 1, 1)), max(1, round(max(mask.shape) / 60)))[1:-1, 1:-1]
    if core.any():
        middle = share[core].mean()
        if middle - share[mask & ~core].mean() + 0.7 * (middle - 0.5) < 0:
            share = 1 - share
    low, high = CUT_OUT
    return Thing(mask, (low + (high - low) * share) * mask, [SEVERAL] if several else [])


def resize_and_centre(garment: torch.Tensor) -> torch.Tensor:
    """Resize a garment, float32 [H, W], to fill uint8 [1, 28, 28] one way, centred the other."""
    scale = IMAGE_SIZE / max(garment.shape)
    height, width = (max(1, round(edge * scale)) for edge in garment.shape)
    resized = Image.fromarray(garment.numpy()).resize((width, height), Image.Resampling.LANCZOS)
    top, left = (IMAGE_SIZE - height) // 2, (IMAGE_SIZE - width) // 2
    image = np.zeros((1, IMAGE_SIZE, IMAGE_SIZE), np.uint8)
    image[0, top : top + height, left : left + width] = np.asarray(resized).round().clip(0, 255)
    return torch.from_numpy(image)


def box_of(mask: torch.Tensor) -> tuple[int, int, int, int]:
    """Return the left, top, right and bottom of a mask, the latter two behind its last pixels."""
    rows, columns = (mask.any(dim=dim).nonzero().flatten().tolist() for dim in (1, 0))
    return columns[0], rows[0], columns[-1] + 1, rows[-1] + 1


def root_mean_square(values: torch.Tensor) -> torch.Tensor:
    return values.square().mean(dim=0).sqrt()


def blur(values: torch.Tensor) -> torch.Tensor:
    for _ in range(2):
        values = F.avg_pool2d(values, 3, 1, 1, count_include_pad=False)
    return values


def dilate(mask: torch.Tensor, radius: int) -> torch.Tensor:
    return F.max_pool2d(mask[None].float(), 2 * radius + 1, 1, radius)[0] > 0


def erode(mask: torch.Tensor, radius: int) -> torch.Tensor:
    return ~dilate(~mask, radius)
