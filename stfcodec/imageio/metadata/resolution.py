"""Pixels per inch or centimetre: as the formats state them, and as their fields hold them."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

NO_UNIT, INCH, CENTIMETRE = 1, 2, 3
"""Units, numbered as in TIFF and EXIF."""

_INCHES = Fraction(254, 100)  # centimetres in an inch
_INCHES_IN_METRE = Fraction(10000, 254)
_TOLERANCE = Fraction(1, 100)  # by which rounding may change a value
_BMP_INCHES_IN_METRE = 39.3701  # as Pillow has it
_BMP_DEFAULTS = (3779, 3780)  # 96 per inch: what is written where nothing is known
_MAX_UINT16, _MAX_INT32, _MAX_UINT32 = 0xFFFF, 0x7FFF_FFFF, 0xFFFF_FFFF


@dataclass(frozen=True)
class Resolution:
    """Pixels per unit of length, both above 0. Without a unit only their ratio counts."""

    across: Fraction
    down: Fraction
    unit: int

    def per(self, unit: int) -> tuple[Fraction, Fraction]:
        """Both values per inch or per centimetre, of a resolution that has a unit."""
        factor = {(INCH, CENTIMETRE): 1 / _INCHES, (CENTIMETRE, INCH): _INCHES}
        scale = factor.get((self.unit, unit), Fraction(1))
        return self.across * scale, self.down * scale

    def turned(self) -> Resolution:
        """That of the picture after a quarter turn."""
        return Resolution(self.down, self.across, self.unit)

    def is_close(self, other: Resolution) -> bool:
        """Whether the two differ by no more than rounding to the fields of another format."""
        if NO_UNIT in (self.unit, other.unit):
            ours, theirs = (self.across / self.down,), (other.across / other.down,)
            return self.unit == other.unit and _are_close(ours, theirs)
        return _are_close(self.per(INCH), other.per(INCH))


def _are_close(ours: tuple[Fraction, ...], theirs: tuple[Fraction, ...]) -> bool:
    return all(abs(a - b) <= b * _TOLERANCE for a, b in zip(ours, theirs, strict=True))


def stated(across: Fraction, down: Fraction, unit: int) -> Resolution | None:
    """A resolution; None if the numbers make no sense or say nothing.

    Square pixels without a unit say nothing, and neither does one pixel per unit.
    """
    if not (across > 0 and down > 0) or unit not in (NO_UNIT, INCH, CENTIMETRE):
        return None
    if across == down and (unit == NO_UNIT or across == 1):
        return None
    return Resolution(across, down, unit)


def per_metre(across: int, down: int) -> Resolution | None:
    """From whole numbers per metre; in whole numbers per inch if these round to the same."""
    inches = [round(value / _INCHES_IN_METRE) for value in (across, down)]
    if [round(value * _INCHES_IN_METRE) for value in inches] == [across, down]:
        return stated(Fraction(inches[0]), Fraction(inches[1]), INCH)
    return stated(Fraction(across, 100), Fraction(down, 100), CENTIMETRE)


def stated_in(info: Mapping[Any, Any], format: str | None) -> Resolution | None:
    """The resolution in Pillow's `Image.info`, other than one that Pillow found in EXIF."""
    try:
        if "jfif_density" in info:
            unit = {1: INCH, 2: CENTIMETRE}.get(info.get("jfif_unit", 0), NO_UNIT)
            across, down = info["jfif_density"]
            return stated(Fraction(across), Fraction(down), unit)
        if format in ("JPEG", "MPO"):
            return None
        if "aspect" in info:  # of PNG
            across, down = info["aspect"]
            return stated(Fraction(across), Fraction(down), NO_UNIT)
        if "dpi" not in info:
            return None
        across, down = info["dpi"]
        if format == "BMP":
            metre = [round(value * _BMP_INCHES_IN_METRE) for value in (across, down)]
            is_default = all(value in _BMP_DEFAULTS for value in metre)
            return None if is_default else per_metre(*metre)
        if format == "PNG":
            return per_metre(*(round(value / 0.0254) for value in (across, down)))
        # As floats: Pillow's rationals may be 1/0, which a Fraction of them would be, too.
        across, down = (Fraction(float(v)).limit_denominator(10000) for v in (across, down))
        return stated(across, down, INCH)
    except (TypeError, ValueError, ArithmeticError):  # a host program may put anything there
        return None


def rationals(resolution: Resolution) -> tuple[int, int, int, int] | None:
    """Numerators and denominators of TIFF and EXIF; None if they have more than 32 bits."""
    values = [
        value.limit_denominator(_MAX_UINT16) for value in (resolution.across, resolution.down)
    ]
    if not all(0 < value.numerator <= _MAX_UINT32 for value in values):
        return None
    across, down = values
    return across.numerator, across.denominator, down.numerator, down.denominator


def png_field(resolution: Resolution) -> bytes | None:
    """The content of the chunk pHYs; None if it cannot hold the values."""
    if resolution.unit == NO_UNIT:
        numbers, unit = _ratio(resolution), 0
    else:
        numbers, unit = [round(value * 100) for value in resolution.per(CENTIMETRE)], 1
    if not all(0 < number <= _MAX_INT32 for number in numbers):
        return None
    return struct.pack(">IIB", *numbers, unit)


def jfif_field(resolution: Resolution) -> bytes | None:
    """Unit and densities of JFIF; None if whole numbers of 16 bits are too coarse or too small."""
    if resolution.unit == NO_UNIT:
        return struct.pack(">BHH", 0, *_ratio(resolution))
    for unit in (resolution.unit, INCH + CENTIMETRE - resolution.unit):
        values = resolution.per(unit)
        numbers = [round(value) for value in values]
        in_range = all(0 < number <= _MAX_UINT16 for number in numbers)
        if in_range and _are_close(tuple(map(Fraction, numbers)), values):
            return struct.pack(">BHH", unit - 1, *numbers)
    return None


def bmp_option(resolution: Resolution) -> tuple[float, float] | None:
    """What makes Pillow write the nearest whole numbers per metre; None if BMP cannot hold them."""
    if resolution.unit == NO_UNIT:
        return None
    across, down = (round(value * 100) for value in resolution.per(CENTIMETRE))
    if not (0 < across <= _MAX_INT32 and 0 < down <= _MAX_INT32):
        return None
    return across / _BMP_INCHES_IN_METRE, down / _BMP_INCHES_IN_METRE


def _ratio(resolution: Resolution) -> list[int]:
    """Two whole numbers of up to 16 bits in the ratio of the two values, as far as they can."""
    ratio = resolution.across / resolution.down
    if ratio > 1:
        inverse = (1 / ratio).limit_denominator(_MAX_UINT16)
        return [inverse.denominator, max(1, inverse.numerator)]
    ratio = ratio.limit_denominator(_MAX_UINT16)
    return [max(1, ratio.numerator), ratio.denominator]
