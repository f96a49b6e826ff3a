"""How much one input may cost. Importable without torch and numpy."""

from __future__ import annotations

from dataclasses import dataclass

from stfcodec.errors import UsageError

TILE = 64
"""Pictures are coded padded to multiples of so many pixels, each way."""


@dataclass(frozen=True)
class Limits:
    """What a reader accepts of one picture or stream. A file that states more is refused before
    memory is taken for it; one that holds more is refused as soon as that shows."""

    pixels: int = 1 << 27
    """Of the picture padded to multiples of 64 each way, which is what coding works on. 134
    megapixels take about 6 GiB to encode and 3 GiB to decode."""
    bytes: int = 1 << 30
    """Of an input file."""
    metadata: int = 16 << 20
    """Bytes of one ICC, EXIF or XMP block, uncompressed."""

    def __post_init__(self) -> None:
        for name in ("pixels", "bytes", "metadata"):
            value = getattr(self, name)
            if not isinstance(value, int) or value < 1:
                raise UsageError(f"limit {name} is {value!r}, must be a positive whole number")

    def refuses(self, width: int, height: int) -> str | None:
        """Why a picture of this size in pixels is refused; None where it is accepted."""
        padded = padded_pixels(width, height)
        if padded <= self.pixels:
            return None
        more = f", {padded} once padded," if padded > width * height else ""
        return (
            f"{width}x{height} pixels{more} are over the limit of {self.pixels}; "
            f"raise it with --max-pixels if the file can be trusted"
        )


def padded_pixels(width: int, height: int) -> int:
    """Pixels of the picture as it is coded."""
    return -(-width // TILE) * TILE * (-(-height // TILE) * TILE)


DEFAULT_LIMITS = Limits()
