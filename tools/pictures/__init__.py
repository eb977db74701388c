"""How well a network knows garments in pictures such as people bring: ``make pictures``."""

import stages  # noqa: F401, its pins come before torch
