"""The .stf container: one coded picture as a signature, a version and checksummed chunks.

    stream   signature 8 bytes | version u8 | HEAD | iccp? exif? xmpm? iptc? alph? | DATA
    chunk    type 4 letters | length varint | payload | CRC-32 of type and payload u32
    HEAD     width varint | height varint | model id varint | fingerprint 4 bytes
             | u16: pixel format (top 3 bits), quality in thousandths (low 13 bits)
    DATA     length of z varint | z | y | checksum of the decoded symbols u32
    iccp exif xmpm iptc   a zlib stream of at most 16 MiB of metadata
    alph     a PNG file of mode L, kept as it is

Fixed-size integers are big-endian; a varint is unsigned LEB128 in its shortest form, below 2**32.
Chunks between HEAD and DATA come in any order. One whose first letter is lower case may be skipped
by a reader that does not know it.
docs/format.md is the full specification. `layout` has the fields and what they may hold, `writing`
and `reading` the bytes. Standard library only; z and y are opaque here.
"""

from __future__ import annotations

from stfcodec.container.layout import (
    MAX_SIDE,
    VERSION,
    ChunkInfo,
    Header,
    Stream,
    StreamInfo,
)
from stfcodec.container.reading import check_signature, has_signature, inspect, read
from stfcodec.container.writing import write
from stfcodec.limits import MAX_METADATA

__all__ = [
    "MAX_METADATA",
    "MAX_SIDE",
    "VERSION",
    "ChunkInfo",
    "Header",
    "Stream",
    "StreamInfo",
    "check_signature",
    "has_signature",
    "inspect",
    "read",
    "write",
]
