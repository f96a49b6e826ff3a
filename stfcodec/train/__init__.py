"""Training: photographs in, weights out. Nothing in the coding path imports this room."""
