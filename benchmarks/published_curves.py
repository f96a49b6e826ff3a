"""Rate-distortion curves that others published, by the set of pictures that they were measured on.

`make bench` draws them beside the curves that it measures on the same pictures.
"""

from __future__ import annotations

import re
from typing import NamedTuple


class PublishedCurve(NamedTuple):
    """(bpp, PSNR in dB) points, and where they are published."""

    source: str
    points: tuple[tuple[float, float], ...]


class PublishedSet(NamedTuple):
    """A set of pictures, and what was published of it."""

    title: str
    pictures: int
    megapixels: float
    """At least so many do all pictures have together."""
    curves: dict[str, PublishedCurve]


_STF, _COMPRESSAI = "github.com/Googolxx/STF, results", "github.com/InterDigitalInc/CompressAI"

KODAK = PublishedSet("Kodak", 24, 9.43, {
    "WACNN": PublishedCurve(
        f"{_STF}/cnn_mse_Kodak.json",
        ((0.127, 29.22), (0.199, 30.59), (0.309, 32.26), (0.449, 34.15), (0.649, 35.91),
         (0.895, 37.72)),
    ),
    "STF": PublishedCurve(
        f"{_STF}/stf_mse_Kodak.json",
        ((0.124, 29.14), (0.191, 30.50), (0.298, 32.15), (0.441, 33.97), (0.651, 35.82),
         (0.903, 37.72)),
    ),
    "VTM": PublishedCurve(
        f"{_COMPRESSAI}, results/image/kodak/vtm.json",
        ((0.04824, 26.145), (0.11250, 28.493), (0.24582, 31.200), (0.49055, 34.262),
         (0.87481, 37.420), (1.43085, 40.424), (2.32461, 43.506)),
    ),
})  # fmt: skip

CLIC_PRO_VALID = PublishedSet("CLIC professional validation", 41, 41.0, {
    "WACNN": PublishedCurve(
        f"{_STF}/cnn_mse_CLIC.json",
        ((0.094, 30.97), (0.153, 32.36), (0.229, 33.85), (0.322, 35.39), (0.481, 36.88),
         (0.671, 38.43)),
    ),
    "STF": PublishedCurve(
        f"{_STF}/stf_mse_CLIC .json",
        ((0.092, 30.88), (0.144, 32.24), (0.223, 33.70), (0.320, 35.27), (0.483, 36.90),
         (0.661, 38.42)),
    ),
    "VTM": PublishedCurve(
        "github.com/sjtu-medialab/RwkvCompress, results/clicproval-vtm91.json",
        ((0.035721, 28.0059), (0.082522, 30.3775), (0.178556, 32.9119), (0.352113, 35.5806),
         (0.644501, 38.2313), (1.150890, 41.0049)),
    ),
})  # fmt: skip

SETS = {
    "kodak": KODAK,
    "clicprovalid": CLIC_PRO_VALID,
    "clicproval": CLIC_PRO_VALID,
    "clicprofessionalvalid": CLIC_PRO_VALID,
    "clic2020professionalvalid": CLIC_PRO_VALID,
}
"""The sets by the names that a folder of their pictures may have, letters and digits alone."""


def published_set(
    name: str, pictures: int, megapixels: float, whole: bool
) -> tuple[PublishedSet | None, str]:
    """The set that a folder is, and why its published curves do not apply, or an empty string.

    name: of the data set. pictures, megapixels: how many were measured. whole: whether at full
    size.
    """
    found = SETS.get(re.sub(r"[^a-z0-9]", "", name.lower()))
    if found is None:
        return None, ""
    if pictures != found.pictures:
        return None, f"{pictures} pictures were measured, {found.title} has {found.pictures}"
    if not whole:
        return None, "only a part of each picture was measured"
    if megapixels < found.megapixels:
        return None, f"{megapixels:.1f} megapixels are less than {found.title} has"
    return found, ""
