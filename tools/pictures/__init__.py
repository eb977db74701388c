"""How well a network knows garments in pictures such as people bring: ``make pictures``."""
