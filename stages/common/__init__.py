"""Params, files, messages, formats. Used by check, fetch, split, train, evaluate, predict."""
