"""ICC profile and XMP in the application extensions of GIF files, which Pillow does not read.

Reference: GIF89a (CompuServe, 1990); the extensions of the ICC and of Adobe.
"""

from __future__ import annotations

from typing import IO

from stfcodec.imageio.metadata.blocks import Blocks

_EXTENSION, _PICTURE = 0x21, 0x2C
_APPLICATION = 0xFF
_HARMLESS = (b"NETSCAPE2.0", b"ANIMEXTS1.0")  # of animations
_ICC, _XMP = b"ICCRGBG1012", b"XMP DataXMP"
_XMP_TRAILER_BYTES = 257  # by which readers that know no XMP find the end
_MAX_BLOCKS = 10_000


def blocks_in(fp: IO[bytes], limit: int) -> Blocks:
    """What stands before the pixels. limit: bytes of a block.

    The position in the file is restored.
    """
    position, found = fp.tell(), Blocks()
    try:
        fp.seek(10)
        flags = (fp.read(3) + b"\0")[0]
        fp.seek(13 + (3 << (flags & 7) + 1 if flags & 0x80 else 0))
        for _ in range(_MAX_BLOCKS):
            head = fp.read(2)
            if len(head) < 2 or head[0] != _EXTENSION:
                break
            _read_extension(fp, head[1], limit, found)
    finally:
        fp.seek(position)
    return found


def _read_extension(fp: IO[bytes], kind: int, limit: int, found: Blocks) -> None:
    name = fp.read((fp.read(1) or b"\0")[0])
    parts, raw, size = bytearray(), bytearray(), 0
    while length := fp.read(1)[:1]:
        if length == b"\0":
            break
        part = fp.read(length[0])
        size += 1 + len(part)
        if size <= limit:
            parts += part
            raw += length + part
    if kind != _APPLICATION or name in _HARMLESS:
        return
    if name in (_ICC, _XMP) and size > limit:
        found.notes.append(f"too long and left out: {size} bytes of {name[:3].decode()}")
    elif name == _ICC:
        found.icc = bytes(parts)
    elif name == _XMP:
        found.xmp = bytes(raw[:-_XMP_TRAILER_BYTES]) or None
    else:
        found.left_out.append(f"GIF extension {name.decode('latin-1')!r}")
