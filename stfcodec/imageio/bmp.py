"""The colour description in the header of a BMP file, which Pillow does not show."""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass
from typing import IO

_START = 14  # of the header, behind that of the file
_CALIBRATED, _EMBEDDED, _LINKED = bytes(4), b"DEBM", b"KNIL"
_WITH_COLOURS = (108, 124)  # bytes of the headers of versions 4 and 5
_D65 = (0.3127, 0.3290)


@dataclass(frozen=True)
class Calibration:
    """x and y of white, red, green and blue; and how light follows from the numbers of each."""

    chromaticities: tuple[float, ...]
    exponents: tuple[float, ...]


def stated(fp: IO[bytes]) -> Calibration | bytes | str | None:
    """Primaries and curves, or an ICC profile, or what it is that cannot be used.

    None stands for sRGB. A profile that is not where the header says is an empty one. The
    position in the file is kept.
    """
    position = fp.tell()
    try:
        fp.seek(_START)
        header = fp.read(max(_WITH_COLOURS))
        size = int.from_bytes(header[:4], "little")
        if size not in _WITH_COLOURS or len(header) < size:
            return None
        kind = header[56:60]
        if kind == _EMBEDDED and size == max(_WITH_COLOURS):
            return _profile(fp, *struct.unpack_from("<II", header, 112))
        if kind == _LINKED:
            return "BMP with its ICC profile in another file"
        return _calibration(header) if kind == _CALIBRATED else None
    finally:
        fp.seek(position)


def _profile(fp: IO[bytes], at: int, size: int) -> bytes:
    fp.seek(0, os.SEEK_END)
    if _START + at + size > fp.tell():
        return b""
    fp.seek(_START + at)
    return fp.read(size)


def _calibration(header: bytes) -> Calibration | None:
    """None where all is zero, as many programs leave it.

    What should be X, Y and Z of the primaries is x, y and z in many files, which say nothing of
    white. Exponents below 1 are meant the other way round.
    """
    ends = [value / (1 << 30) for value in struct.unpack_from("<9I", header, 60)]
    exponents = [value / (1 << 16) for value in struct.unpack_from("<3I", header, 96)]
    if not any(ends):
        return Calibration((), _upward(exponents)) if any(exponents) else None
    primaries = [ends[n : n + 3] for n in (0, 3, 6)]
    only_chromaticities = all(abs(sum(primary) - 1) < 0.01 for primary in primaries)
    white = [sum(values) for values in zip(*primaries, strict=True)]
    numbers = [*(_D65 if only_chromaticities else _chromaticity(white))]
    for primary in primaries:
        numbers += _chromaticity(primary)
    return Calibration(tuple(numbers), _upward(exponents) if any(exponents) else ())


def _upward(exponents: list[float]) -> tuple[float, ...]:
    return tuple(1 / value if 0 < value < 1 else value for value in exponents)


def _chromaticity(values: list[float]) -> tuple[float, float]:
    total = sum(values)
    return (values[0] / total, values[1] / total) if total else (0.0, 0.0)
