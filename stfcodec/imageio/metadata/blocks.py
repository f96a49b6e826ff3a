"""What the readers of single formats find in a file beside the pixels."""

from __future__ import annotations

from dataclasses import dataclass, field

from stfcodec.imageio.metadata.resolution import Resolution


@dataclass
class Blocks:
    """Metadata blocks as they are in a file. What Pillow finds besides is not here."""

    icc: bytes | None = None
    exif: bytes | None = None
    xmp: bytes | None = None
    iptc: bytes | None = None
    resolution: Resolution | None = None
    """As stated outside EXIF."""
    orientation: int | None = None
    """1 to 8, where Pillow applies it to the pixels itself."""
    left_out: list[str] = field(default_factory=list)
    """What there is no place for, as notes name it."""
    notes: list[str] = field(default_factory=list)
