"""Pictures, drawn and read. Used by split, evaluate, predict."""
