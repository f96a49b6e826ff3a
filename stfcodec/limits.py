"""How much one input may cost. Importable without torch and numpy."""

from __future__ import annotations

from dataclasses import dataclass

from stfcodec.errors import UsageError
from stfcodec.geometry import padded

MAX_METADATA = 16 << 20
"""Bytes of one ICC, EXIF, XMP or IPTC block, uncompressed: the most that the format holds."""


@dataclass(frozen=True)
class Limits:
    """The largest picture or stream that is accepted, such as `Limits(pixels=10_000_000)`.

    An input whose header states more is refused before memory is allocated for it. An input that
    turns out to hold more is refused at that point. Raises UsageError for a limit that is not a
    positive integer.
    """

    pixels: int = 1 << 27
    """Width times height after padding to multiples of 64, as the picture is coded. 134 megapixels
    take about 6 GiB to encode and 3 GiB to decode."""
    bytes: int = 1 << 30
    """Bytes of an input file."""
    metadata: int = MAX_METADATA
    """Bytes of one ICC, EXIF, XMP or IPTC block, uncompressed."""

    def __post_init__(self) -> None:
        for name in ("pixels", "bytes", "metadata"):
            value = getattr(self, name)
            if not isinstance(value, int) or value < 1:
                raise UsageError(f"limit {name} is {value!r}, must be a positive whole number")

    def refuses(self, width: int, height: int) -> str | None:
        """Say why a picture of this size in pixels is refused; None where it is accepted."""
        pixels = padded(width) * padded(height)
        if pixels <= self.pixels:
            return None
        more = f", {pixels} once padded," if pixels > width * height else ""
        return (
            f"{width}x{height} pixels{more} are over the limit of {self.pixels}; "
            f"raise it with --max-pixels if the file can be trusted"
        )


DEFAULT_LIMITS = Limits()
