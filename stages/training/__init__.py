"""The training loop and its parts. Used by train."""
