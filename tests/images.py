"""Awkward pictures, made in code so that tests need no files."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import numpy as np
from PIL import Image, ImageCms

XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><tiff:Orientation>6</tiff:Orientation></x:xmpmeta>'

# 2x2 RGB of 10 bits, all 1023 but the first pixel. Pillow cannot write that depth.
WHITE_JPEG_2000_10_BITS = (
    "ff4fff51002f000000000002000000020000000000000000000000020000000200000000000000000003090101"
    "090101090101ff52000c00000001010004040001ff5c00044050ff640025000143726561746564206279204f70"
    "656e4a5045472076657273696f6e20322e352e34ff90000a0000000000160001ff93cfcc0c0a8cd68080ffd9"
)


def pixels(height: int = 6, width: int = 9, channels: int = 3) -> np.ndarray:
    """A uint8 picture whose every row and column differs, so that turning it shows."""
    y, x, c = np.mgrid[:height, :width, :channels]
    values = (y * 37 + x * 11 + c * 90).astype(np.uint8)
    return values if channels > 1 else values[..., 0]


def file(image: Image.Image, format: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def srgb_profile() -> bytes:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def cmyk_profile() -> bytes:
    """Turns any mix of inks into one Lab colour, a strong red, so that its use shows."""
    identity, colour = bytes(range(256)), bytes((136, 208, 195))
    lut = b"mft1" + bytes(4) + bytes((4, 3, 2, 0))
    lut += struct.pack(">9i", *(65536 * (row == column) for row in range(3) for column in range(3)))
    lut += identity * 4 + colour * 2**4 + identity * 3
    return _profile(b"prtr", b"CMYK", b"Lab ", {b"A2B0": lut})


def grey_profile(gamma: float = 1.8, pcs: bytes = b"XYZ ") -> bytes:
    """Grey of one exponent, as scanners and photo editors write it."""
    curve = b"curv" + bytes(4) + struct.pack(">IH", 1, round(gamma * 256))
    return _profile(b"mntr", b"GRAY", pcs, {b"kTRC": curve})


def rgb_profile(gamma: float = 1.8, blue_gamma: float | None = None, table: bool = False) -> bytes:
    """RGB of sRGB's primaries and one exponent, or another one for blue, or with a lookup table."""
    gammas = dict.fromkeys((b"r", b"g"), gamma) | {b"b": blue_gamma or gamma}
    colours = {b"r": (28569, 14580, 912), b"g": (25240, 46981, 6363), b"b": (9380, 3975, 46788)}
    tags = {}
    for letter, exponent in gammas.items():
        curve = struct.pack(">IH", 1, round(exponent * 256))
        tags[letter + b"TRC"] = b"curv" + bytes(4) + curve
        tags[letter + b"XYZ"] = b"XYZ " + bytes(4) + struct.pack(">3i", *colours[letter])
    if table:
        tags[b"A2B0"] = b"mft1" + bytes(44)
    return _profile(b"mntr", b"RGB ", b"XYZ ", tags)


def _profile(kind: bytes, space: bytes, pcs: bytes, more: dict[bytes, bytes]) -> bytes:
    """A version 2 profile of the class `kind`, with these tags beside the white point."""
    white = b"XYZ " + bytes(4) + struct.pack(">3i", 0xF6D6, 0x10000, 0xD32D)
    tags, body, at = b"", b"", 128 + 4 + (1 + len(more)) * 12
    for name, data in (*more.items(), (b"wtpt", white)):
        data = data.ljust(-(-len(data) // 4) * 4, b"\0")
        tags += name + struct.pack(">2I", at + len(body), len(data))
        body += data
    header = struct.pack(">I4sI4s4s4s", at + len(body), b"none", 0x02400000, kind, space, pcs)
    header = header.ljust(36, b"\0") + b"acsp"
    header = header.ljust(68, b"\0") + struct.pack(">3i", 0xF6D6, 0x10000, 0xD32D)
    return header.ljust(128, b"\0") + struct.pack(">I", 1 + len(more)) + tags + body


def exif(orientation: int, order: str = "<") -> bytes:
    """A camera's block: maker's note found by its place, a link to a thumbnail, no prefix."""
    makers_note = b"MAKER:note at its place"
    note_at = 8 + 2 + 3 * 12 + 4 + 2 + 12 + 4
    thumbnail_at = note_at + len(makers_note)
    head = b"II*\0" if order == "<" else b"MM\0*"
    main = struct.pack(order + "H", 3)
    main += struct.pack(order + "HHI4s", 0x010F, 2, 4, b"Cam\0")
    main += struct.pack(order + "HHIHxx", 0x0112, 3, 1, orientation)
    main += struct.pack(order + "HHII", 0x8769, 4, 1, 8 + 2 + 3 * 12 + 4)
    main += struct.pack(order + "I", thumbnail_at)
    camera = struct.pack(order + "HHHII", 1, 0x927C, 7, len(makers_note), note_at) + bytes(4)
    thumbnail = struct.pack(order + "HHHIHxx", 1, 0x0103, 3, 1, 6) + bytes(4)
    return head + struct.pack(order + "I", 8) + main + camera + makers_note + thumbnail


def png(samples: np.ndarray, bits: int, key: tuple[int, ...] | None = None) -> bytes:
    """A PNG of 2, 4, 8 or 16 bits: (H, W) grey, (H, W, 2) grey and alpha, RGB or RGBA.

    `key` is the transparent grey level or colour of the tRNS chunk.
    """
    height, width = samples.shape[:2]
    kind = {1: 0, 2: 4, 3: 2, 4: 6}[samples[0, 0].size]
    rows = samples.reshape(height, -1)
    if bits < 8:
        digits = rows[..., None] >> np.arange(bits)[::-1] & 1
        lines = np.packbits(digits.reshape(height, -1).astype(np.uint8), axis=1)
    else:
        lines = rows.astype(">u2" if bits == 16 else "u1")
    data = b"".join(b"\0" + line.tobytes() for line in lines)
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, kind, 0, 0, 0))]
    if key is not None:
        chunks.append((b"tRNS", struct.pack(f">{len(key)}H", *key)))
    chunks += [(b"IDAT", zlib.compress(data)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        for name, body in chunks
    )


def tiff16(samples: np.ndarray, order: str = "<", white_is_zero: bool = False) -> bytes:
    """An uncompressed TIFF of 16 bits, grey (H, W) or RGB (H, W, 3)."""
    height, width = samples.shape[:2]
    channels = samples[0, 0].size
    data = samples.astype(order + "u2").tobytes()
    photometric = 2 if channels == 3 else 0 if white_is_zero else 1
    depth_at = 8 + 2 + 9 * 12 + 4
    tags = [(256, width), (257, height), (258, 16), (259, 1), (262, photometric)]
    tags += [(273, depth_at + 6), (277, channels), (278, height), (279, len(data))]
    table = struct.pack(order + "H", len(tags))
    for tag, value in tags:
        if tag == 258 and channels == 3:
            table += struct.pack(order + "HHII", tag, 3, 3, depth_at)
        else:
            table += struct.pack(order + "HHIHxx", tag, 3, 1, value)
    head = b"II*\0" if order == "<" else b"MM\0*"
    depths = struct.pack(order + "3H", 16, 16, 16)
    return head + struct.pack(order + "I", 8) + table + bytes(4) + depths + data


def animation(format: str, frames: int = 3) -> bytes:
    """GIF, WEBP, PNG or TIFF (pages) of several unlike frames; MPO likewise."""
    first, *rest = (Image.fromarray(pixels() + np.uint8(50 * n)) for n in range(frames))
    return file(first, format, save_all=True, append_images=rest)
