"""The layers of the networks, one file per network. Used by train, evaluate, predict."""
