"""Views: an image as it is, mirrored, and moved each way."""

import torch

from stages.classifier.views import views_of
from stages.common.params import EvaluateParams

IMAGE = torch.arange(1, 10, dtype=torch.uint8).view(1, 1, 3, 3)


def test_the_views_are_an_image_its_mirror_image_and_both_moved_a_pixel_each_way() -> None:
    alone, pair, moved = (
        [*views_of(IMAGE, EvaluateParams(flip=flip, shift=shift))]
        for flip, shift in ((False, 0), (True, 0), (False, 1))
    )
    assert [view.tolist() for view in alone] == [IMAGE.tolist()]
    assert all(map(torch.equal, pair, [IMAGE, IMAGE.flip(-1)]))
    views = [*views_of(IMAGE, EvaluateParams(flip=True, shift=1))]
    assert all(map(torch.equal, moved, views[::2]))
    assert len(views) == 10
    assert all(map(torch.equal, views[:2], pair))
    assert views[2][0, 0].tolist() == [[0, 0, 0], [1, 2, 3], [4, 5, 6]]
    assert views[5][0, 0].tolist() == [[6, 5, 4], [9, 8, 7], [0, 0, 0]]
    assert views[6][0, 0].tolist() == [[0, 1, 2], [0, 4, 5], [0, 7, 8]]


def test_a_larger_shift_moves_an_image_by_as_many_pixels() -> None:
    views = [*views_of(IMAGE, EvaluateParams(flip=False, shift=2))]
    assert len(views) == 5
    unmoved, down, up, right, left = (view[0, 0].tolist() for view in views)
    assert unmoved == [[1, 2, 3], [4, 5, 6], [7, 8, 9]]
    assert down == [[0, 0, 0], [0, 0, 0], [1, 2, 3]]
    assert up == [[7, 8, 9], [0, 0, 0], [0, 0, 0]]
    assert right == [[0, 0, 1], [0, 0, 4], [0, 0, 7]]
    assert left == [[3, 0, 0], [6, 0, 0], [9, 0, 0]]
