"""Puts a transparent picture on a background of one colour."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from PIL import ImageColor

from stfcodec.errors import UsageError
from stfcodec.imageio.colours import profiles
from stfcodec.imageio.hidden import is_opaque
from stfcodec.imageio.picture import Picture


def parse_colour(text: str) -> profiles.RGB:
    """An sRGB colour from its CSS name, #rgb, #rrggbb or another form that Pillow knows.

    Raises UsageError for anything else, and for a colour that is not opaque.
    """
    try:
        red, green, blue, *alpha = ImageColor.getrgb(text)
    except (ValueError, TypeError, AttributeError):
        known = "give a CSS name, #rgb or #rrggbb"
        raise UsageError(f"unknown background colour {text!r}: {known}") from None
    if alpha not in ([], [255]):
        raise UsageError(f"background colour {text!r} is not opaque")
    if max(red, green, blue) > 255:  # Pillow takes rgb(300, 0, 0)
        raise UsageError(f"background colour {text!r} has a value above 255")
    return red, green, blue


def on_background(picture: Picture, background: str) -> Picture:
    """The picture without alpha, its pixels mixed with the background as browsers do.

    background: as of `parse_colour`. A grey picture becomes RGB if the background is no grey. Mixes
    values as they are stored, in the space of the picture's profile. Raises UsageError.
    """
    colour = parse_colour(background)
    if picture.alpha is None or is_opaque(picture):
        return replace(picture, alpha=None)
    notes: list[str] = []
    gray = picture.gray and len(set(colour)) == 1
    profile = picture.icc
    if (rgb_profile := profiles.fitted(profile, False, notes)) is not None:
        colour = profiles.from_srgb(colour, rgb_profile)
    if gray:
        colour = (colour[1],) * 3
        notes.clear()
    else:
        profile = rgb_profile
    dtype = picture.pixels.dtype
    alpha = picture.alpha[..., None].astype(np.uint32)
    levels = np.array(colour, np.uint32) * (np.iinfo(dtype).max // 255)
    mixed = picture.pixels * alpha + levels * (255 - alpha)
    return replace(
        picture,
        pixels=((mixed + 127) // 255).astype(dtype),
        gray=gray,
        alpha=None,
        icc=profile,
        notes=(*picture.notes, *notes),
    )
