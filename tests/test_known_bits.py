"""The known computation: what it stands for, and what it notices."""

import re

from stages.classifier.image_classifier import build_network
from stages.classifier.known_bits import known_networks
from tests.conftest import PARAMS, Clone


def test_another_torch_than_that_of_the_requirements_is_noticed(clone: Clone) -> None:
    requirements = clone.path / "requirements.txt"
    requirements.write_text(
        re.sub("^torch==.*", "torch==2.12.0", requirements.read_text(), flags=re.M)
    )
    done = clone.stage("evaluate", "lenet5")
    assert re.search(r"^warning: it has torch \S+, not 2\.12\.0; install", done.stdout, re.M)


def test_the_known_computation_has_the_committed_shapes() -> None:
    known = [network for network, _images in known_networks()]
    for network, name in zip(known, ("two_conv", "lenet5"), strict=True):
        committed = build_network(name, PARAMS)
        shapes, expected = (
            [one.shape for one in built.parameters() if one.ndim > 1]
            for built in (network, committed)
        )
        assert shapes == expected
    shards = [len(images) for _network, images in known_networks()]
    recipes = [PARAMS.two_conv, PARAMS.lenet5]
    assert shards == [recipe.batch_size // recipe.shards for recipe in recipes]
