"""Random changes to training images, for a whole batch at once."""

from dataclasses import dataclass
from typing import NamedTuple

import torch

from stages.classifier.views import move
from stages.common.tensors import LabelledImages


class Changes(NamedTuple):
    """What is to be done to each of N images.

    Attributes
    ----------
    mirrored : bool [N, 1]
        Whether an image is mirrored left to right, once it is moved.
    places : uint8 [N, 2]
        Where it is moved to, as ``views.move`` has it.
    """

    mirrored: torch.Tensor
    places: torch.Tensor

    def to(self, device: torch.device) -> "Changes":
        """Return them on a device; where they are there already, nothing is copied."""
        return Changes(*(drawn.to(device) for drawn in self))

    def take(self, index: slice) -> "Changes":
        """Return those of the images at ``index``."""
        return Changes(*(drawn[index] for drawn in self))


@dataclass(frozen=True)
class Batch:
    """Images that are chosen but not yet changed, so that each core can change those of its own.

    Attributes
    ----------
    examples : LabelledImages
        What the images are chosen from.
    members : int32 [N]
        Which.
    changes : Changes
        What is to be done to them.
    max_shift : int
        The one that the changes were drawn with.
    """

    examples: LabelledImages
    members: torch.Tensor
    changes: Changes
    max_shift: int

    def __len__(self) -> int:
        return len(self.members)

    def split(self, count: int) -> list["Batch"]:
        """Cut it into so many parts, in order."""
        parts = (one.tensor_split(count) for one in (self.members, *self.changes))
        return [
            Batch(self.examples, members, Changes(*changes), self.max_shift)
            for members, *changes in zip(*parts, strict=True)
        ]

    def overwrite(self, other: "Batch") -> None:
        """Choose and change what another batch of the same examples does, in the same memory."""
        for ours, theirs in zip(
            (self.members, *self.changes), (other.members, *other.changes), strict=True
        ):
            ours.copy_(theirs)

    def make(self) -> LabelledImages:
        """Take the images, change them, and take their labels."""
        chosen = self.examples.take(self.members)
        moved = move(chosen.images, self.changes.places, self.max_shift)
        mirrored = self.changes.mirrored[:, :, None, None]
        images = torch.where(mirrored, moved.flip(-1), moved)
        return LabelledImages(images, chosen.labels)


def draw_changes(count: int, flip: bool, max_shift: int, generator: torch.Generator) -> Changes:
    """Draw for each of ``count`` images whether it is mirrored, and how far it moves.

    ``flip`` mirrors half of them; ``max_shift`` is in pixels, each way; ``generator`` is the CPU's,
    so that every device gets the same draws.
    """
    mirrored = torch.rand(count, 1, generator=generator) < (0.5 if flip else 0.0)
    choices = 2 * max_shift + 1
    places = torch.randint(choices, (count, 2), generator=generator, dtype=torch.uint8)
    return Changes(mirrored, places)
