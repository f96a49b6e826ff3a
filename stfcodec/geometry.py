"""Sizes of latents and of padded pictures. Importable without torch.

The latents y have one position for every 16 × 16 pixels, the hyper-latents z one for every 64 × 64.
Both sides of a picture are therefore padded to multiples of 64 before it is coded.
"""

from __future__ import annotations

DOWNSAMPLING_Y, DOWNSAMPLING_Z = 16, 64
"""Pixels per position of y and of z, each way."""


def round_up(n: int, multiple: int) -> int:
    """The least multiple of `multiple` that is not below `n`."""
    return -(-n // multiple) * multiple


def padded(side: int) -> int:
    """A picture's width or height as it is coded, in pixels."""
    return round_up(side, DOWNSAMPLING_Z)
