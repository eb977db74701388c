"""The raw files, in IDX: read, written and, without a network, drawn. Used by fetch, split."""
