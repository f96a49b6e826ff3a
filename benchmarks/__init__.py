"""Measurements of the codec: rate, distortion, time. Nothing in the coding path imports this."""
