"""Tells kinds of JPEG that libjpeg does not read from damaged files, which it takes them for.

Reference: ISO/IEC 10918-1, annex B.
"""

from __future__ import annotations

from typing import IO

from stfcodec.errors import ImageError

MAGIC = b"\xff\xd8\xff"
_KINDS = {
    **dict.fromkeys((0xC5, 0xC6, 0xC7, 0xCD, 0xCE, 0xCF, 0xDE), "hierarchical JPEG"),
    **{0xCB: "lossless JPEG with arithmetic coding", 0xF7: "JPEG-LS"},
}
_WITHOUT_LENGTH = (0x01, *range(0xD0, 0xD9))
_MAX_MARKERS = 10_000


def check_kind(fp: IO[bytes]) -> None:
    """Raise ImageError for a kind that is not supported. The position in the file is restored."""
    position, offset = fp.tell(), 2
    try:
        for _ in range(_MAX_MARKERS):
            fp.seek(offset)
            head = fp.read(4)
            if len(head) < 4 or head[0] != 0xFF:
                return
            marker = head[1]
            if kind := _KINDS.get(marker):
                raise ImageError(f"{kind} is not supported: convert it to baseline JPEG or to PNG")
            if 0xC0 <= marker <= 0xC3 or marker == 0xDA:  # a frame, a scan
                return
            if marker == 0xFF:  # padding
                offset += 1
            elif marker in _WITHOUT_LENGTH:
                offset += 2
            else:
                offset += 2 + int.from_bytes(head[2:], "big")
    finally:
        fp.seek(position)
