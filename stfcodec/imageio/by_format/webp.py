"""Chunks of WebP files that Pillow does not tell of (RFC 9649)."""

from __future__ import annotations

from typing import IO

from stfcodec.imageio.metadata import xmp
from stfcodec.imageio.metadata.blocks import Blocks

_KNOWN = (b"VP8 ", b"VP8L", b"VP8X", b"ALPH", b"ANIM", b"ANMF", b"ICCP", b"EXIF", b"XMP ")
_MAX_CHUNKS = 1000


def blocks_in(fp: IO[bytes]) -> Blocks:
    """What is not carried. The position in the file is restored."""
    position, offset, found = fp.tell(), 12, Blocks()
    try:
        for _ in range(_MAX_CHUNKS):
            fp.seek(offset)
            head = fp.read(8)
            if len(head) < 8:
                break
            if head[:4] == b"C2PA":
                found.left_out.append(xmp.CREDENTIALS)
            elif head[:4] not in _KNOWN:
                found.left_out.append(f"chunk {head[:4].decode('latin-1')!r}")
            size = int.from_bytes(head[4:], "little")
            offset += 8 + size + size % 2
    finally:
        fp.seek(position)
    return found
