"""Experiments on many machines: ``make farm``."""
