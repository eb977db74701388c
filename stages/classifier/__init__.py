"""A network around its layers: raw images in, logits out. Used by train, evaluate, predict."""
