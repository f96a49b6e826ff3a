"""Leaves metadata out of a picture."""

from __future__ import annotations

from dataclasses import replace

from stfcodec.imageio.colours import profiles
from stfcodec.imageio.picture import Picture


def without_metadata(picture: Picture) -> Picture:
    """The picture without ICC profile, EXIF, XMP and IPTC.

    A note is added if its colours change thereby: without a profile they are taken for sRGB.
    """
    notes = picture.notes
    if picture.icc is not None and not profiles.means_srgb(picture.icc, picture.gray):
        notes += ("colours taken for sRGB: the ICC profile that was left out states others",)
    return replace(picture, icc=None, exif=None, xmp=None, iptc=None, notes=notes)
