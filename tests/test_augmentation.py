"""Augmentation mirrors images and moves them, and does nothing else."""

import itertools

import torch

from stages.common.tensors import LabelledImages
from stages.training.augmentation import Batch, draw_changes


def augment(images: torch.Tensor, flip: bool, max_shift: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    changes = draw_changes(len(images), flip, max_shift, generator)
    examples = LabelledImages(images, torch.zeros(len(images), dtype=torch.int64))
    return Batch(examples, torch.arange(len(images)), changes, max_shift).make().images


def test_augmentation_gives_each_mirror_and_shift_and_nothing_else() -> None:
    image = torch.zeros(1, 1, 28, 28, dtype=torch.uint8)
    image[0, 0, 5:20, 8:12] = torch.arange(60, dtype=torch.uint8).view(15, 4) + 1
    expected = {
        torch.roll(flipped, (dy, dx), (-2, -1)).numpy().tobytes()
        for flipped in (image, image.flip(-1))
        for dy, dx in itertools.product((-1, 0, 1), repeat=2)
    }
    images = augment(image.expand(500, 1, 28, 28), flip=True, max_shift=1)
    assert {found.numpy().tobytes() for found in images} == expected


def test_what_is_shifted_in_is_background() -> None:
    image = torch.full((200, 1, 28, 28), 255, dtype=torch.uint8)
    images = augment(image, flip=False, max_shift=2)
    sums = {int(found.count_nonzero()) for found in images}
    assert sums == {a * b for a in (26, 27, 28) for b in (26, 27, 28)}


def test_without_augmentation_images_stay_as_they_are() -> None:
    images = torch.randint(256, (50, 1, 28, 28), dtype=torch.uint8)
    assert torch.equal(augment(images, flip=False, max_shift=0), images)
