"""Measurements of speed and memory, side by side in one run: medians, and ratios to the limits."""
