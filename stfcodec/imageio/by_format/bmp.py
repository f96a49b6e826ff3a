"""The colour description in the header of a BMP file (versions 4 and 5), which Pillow ignores."""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass
from typing import IO

_HEADER_OFFSET = 14  # of the bitmap header, behind the file header
_CALIBRATED, _EMBEDDED, _LINKED = bytes(4), b"DEBM", b"KNIL"  # bV5CSType, in file order
_VERSION_4_BYTES, _VERSION_5_BYTES = 108, 124
_D65 = (0.3127, 0.3290)


@dataclass(frozen=True)
class Calibration:
    """Calibrated RGB. Either part may be empty, which stands for that of sRGB."""

    chromaticities: tuple[float, ...]
    """x and y of white, red, green and blue, in this order."""
    exponents: tuple[float, ...]
    """Of red, green and blue: light is the value to this power."""


def colour_description(fp: IO[bytes]) -> Calibration | bytes | str | None:
    """Calibrated RGB, an ICC profile, or the name of a kind that cannot be used.

    None stands for sRGB. If the profile is not where the header says, it is empty. The position in
    the file is restored.
    """
    position = fp.tell()
    try:
        fp.seek(_HEADER_OFFSET)
        header = fp.read(_VERSION_5_BYTES)
        size = int.from_bytes(header[:4], "little")
        if size not in (_VERSION_4_BYTES, _VERSION_5_BYTES) or len(header) < size:
            return None
        kind = header[56:60]
        if kind == _EMBEDDED and size == _VERSION_5_BYTES:
            return _profile(fp, *struct.unpack_from("<II", header, 112))
        if kind == _LINKED:
            return "BMP with its ICC profile in another file"
        return _calibration(header) if kind == _CALIBRATED else None
    finally:
        fp.seek(position)


def _profile(fp: IO[bytes], offset: int, size: int) -> bytes:
    """The profile at an offset from the bitmap header; empty if it reaches beyond the file."""
    fp.seek(0, os.SEEK_END)
    if _HEADER_OFFSET + offset + size > fp.tell():
        return b""
    fp.seek(_HEADER_OFFSET + offset)
    return fp.read(size)


def _calibration(header: bytes) -> Calibration | None:
    """None if all fields are zero, as many programs leave them.

    The fields are X, Y and Z of each primary, whose sum is white. In many files they are x, y and z
    instead, which say nothing of white. Exponents below 1 are taken for their reciprocals.
    """
    endpoints = [value / (1 << 30) for value in struct.unpack_from("<9I", header, 60)]
    exponents = [value / (1 << 16) for value in struct.unpack_from("<3I", header, 96)]
    if not any(endpoints):
        return Calibration((), _above_one(exponents)) if any(exponents) else None
    primaries = [endpoints[n : n + 3] for n in (0, 3, 6)]
    are_chromaticities = all(abs(sum(primary) - 1) < 0.01 for primary in primaries)
    white = [sum(values) for values in zip(*primaries, strict=True)]
    chromaticities = [*(_D65 if are_chromaticities else _chromaticity(white))]
    for primary in primaries:
        chromaticities += _chromaticity(primary)
    return Calibration(tuple(chromaticities), _above_one(exponents) if any(exponents) else ())


def _above_one(exponents: list[float]) -> tuple[float, ...]:
    return tuple(1 / value if 0 < value < 1 else value for value in exponents)


def _chromaticity(xyz: list[float]) -> tuple[float, float]:
    """The x and y of X, Y and Z; 0 for black."""
    total = sum(xyz)
    return (xyz[0] / total, xyz[1] / total) if total else (0.0, 0.0)
