"""What an .stf stream holds: its fields as dataclasses, and the constants of the format."""

from __future__ import annotations

import struct
from dataclasses import asdict, dataclass
from typing import Any

SIGNATURE = b"\x89STF\r\n\x1a\n"
VERSION = 1

MAX_SIDE = (1 << 24) - 1
MAX_MODEL_ID = 0xFFFF
MAX_UINT32 = 0xFFFF_FFFF
MAX_CHUNKS = 64
QUALITY_SCALE = 1000
FINGERPRINT_BYTES = 4

PIXEL_FORMATS = ((1, 8), (3, 8), (1, 16), (3, 16))
"""(channels, bits per channel) by pixel format code."""

METADATA_CHUNKS = {"iccp": "icc", "exif": "exif", "xmpm": "xmp", "iptc": "iptc"}
"""The field of `Stream` that each type of metadata chunk holds."""

KNOWN_CHUNKS = frozenset({"HEAD", "DATA", "alph", *METADATA_CHUNKS})

UINT16 = struct.Struct(">H")
UINT32 = struct.Struct(">I")


@dataclass(frozen=True)
class Header:
    """What must be known before decoding starts."""

    width: int  # pixels, 1..MAX_SIDE
    height: int  # pixels, 1..MAX_SIDE
    channels: int  # 1 grey | 3 RGB
    bit_depth: int  # bits per channel of the source: 8 | 16
    model_id: int  # 1..MAX_MODEL_ID, see models/registry.py
    fingerprint: bytes  # first 4 bytes of the SHA-256 of the model's weights
    quality: float  # 1..6, a whole number of thousandths

    def validate(self) -> None:
        """Raise ValueError, naming field, value and range, unless every field is in range."""
        check_range("width", self.width, 1, MAX_SIDE)
        check_range("height", self.height, 1, MAX_SIDE)
        check_range("model_id", self.model_id, 1, MAX_MODEL_ID)
        check_range("quality", self.quality, 1, 6)
        if round(self.quality * QUALITY_SCALE) / QUALITY_SCALE != self.quality:
            # Rounded here, the decoder would use another gain than the encoder did.
            raise ValueError(f"quality is {self.quality!r}, must be rounded to thousandths")
        if (self.channels, self.bit_depth) not in PIXEL_FORMATS:
            raise ValueError(
                f"channels x bit_depth is {self.channels} x {self.bit_depth}, must be one of "
                + ", ".join(f"{channels} x {bits}" for channels, bits in PIXEL_FORMATS)
            )
        if len(self.fingerprint) != FINGERPRINT_BYTES:
            raise ValueError(
                f"fingerprint has {len(self.fingerprint)} bytes, must have {FINGERPRINT_BYTES}"
            )


@dataclass(frozen=True)
class Stream:
    """Everything an .stf file holds."""

    header: Header
    z: bytes  # rANS stream of the hyper-latents
    y: bytes  # rANS streams of the latents
    checksum: int  # CRC-32 of the decoded symbols, uint32
    icc: bytes | None = None
    exif: bytes | None = None
    xmp: bytes | None = None
    alpha: bytes | None = None  # a PNG file of mode L
    iptc: bytes | None = None


@dataclass(frozen=True)
class ChunkInfo:
    """One chunk of a stream."""

    type: str
    """Four letters, such as "DATA"."""
    length: int
    """Bytes of payload."""
    crc: int
    """CRC-32 of type and payload, uint32."""


@dataclass(frozen=True)
class StreamInfo:
    """What can be said of a stream without decoding it: what `info` returns."""

    version: int
    """Of the format."""
    width: int
    """Pixels."""
    height: int
    """Pixels."""
    channels: int
    """1 for grey, 3 for RGB; alpha does not count."""
    bit_depth: int
    """Bits a channel of the source, 8 or 16; alpha has 8."""
    model_id: int
    """The `ModelInfo.id` of the model that it was coded with."""
    fingerprint: str
    """Of the weights that it was coded with, 8 hex digits."""
    quality: float
    """1…6, a whole number of thousandths."""
    z_bytes: int
    """Bytes of the hyper-latents."""
    y_bytes: int
    """Bytes of the latents."""
    overhead_bytes: int
    """All bytes that are neither z nor y, metadata and alpha included."""
    total_bytes: int
    """Bytes of the whole file."""
    bpp: float
    """Bits per pixel of the whole file."""
    has_alpha: bool
    """Whether there is an alpha plane."""
    chunks: tuple[ChunkInfo, ...]
    """Type, length and CRC of each chunk (docs/format.md)."""

    def to_json(self) -> dict[str, Any]:
        """The same fields as plain values for json.dumps; CRCs as 8 hex digits."""
        chunks = [asdict(chunk) | {"crc": f"{chunk.crc:08x}"} for chunk in self.chunks]
        return asdict(self) | {"chunks": chunks}


def check_range(name: str, value: float, low: int, high: int) -> None:
    """Raise ValueError unless `value` is within low..high, both included."""
    if not low <= value <= high:
        raise ValueError(f"{name} is {value!r}, must be {low}..{high}")
