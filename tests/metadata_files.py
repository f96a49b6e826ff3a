"""Pictures with metadata that Pillow cannot write, made in code."""

from __future__ import annotations

import struct
import zlib

import images
from PIL import Image

IPTC = b"\x1c\x02\x50\x00\x08Jane Doe\x1c\x02\x74\x00\x06(c) JD"
RDF = (
    '<x:xmpmeta xmlns:x="adobe:ns:meta/">'
    '<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    "<rdf:Description %s</rdf:Description></rdf:RDF></x:xmpmeta>"
)
"""XMP with a hole for the attributes and properties of its description."""


def jpeg(*segments: bytes, trailer: bytes = b"") -> bytes:
    """A JPEG with these segments behind its JFIF header."""
    data = images.file(Image.fromarray(images.pixels()), "JPEG", quality=95)
    return data[:20] + b"".join(segments) + data[20:] + trailer


def segment(number: int, content: bytes) -> bytes:
    """APPn; number 14 + 16 is a comment."""
    return bytes((0xFF, 0xE0 + number)) + struct.pack(">H", len(content) + 2) + content


def xmp_segment(packet: bytes) -> bytes:
    return segment(1, b"http://ns.adobe.com/xap/1.0/\0" + packet)


def photoshop_segment(*resources: tuple[int, bytes]) -> bytes:
    return segment(13, b"Photoshop 3.0\0" + photoshop(*resources))


def photoshop(*resources: tuple[int, bytes]) -> bytes:
    """Image resources (number, content), each with the name "a"."""
    return b"".join(
        b"8BIM"
        + struct.pack(">H2sI", number, b"\1a", len(content))
        + content
        + b"\0" * (len(content) % 2)
        for number, content in resources
    )


def png(*chunks: tuple[bytes, bytes]) -> bytes:
    """A PNG with these chunks behind its header."""
    data = images.file(Image.fromarray(images.pixels()), "PNG")
    made = b"".join(
        struct.pack(">I", len(content))
        + name
        + content
        + struct.pack(">I", zlib.crc32(name + content))
        for name, content in chunks
    )
    return data[:33] + made + data[33:]


def raw_profile(name: str, data: bytes) -> tuple[bytes, bytes]:
    """The chunk zTXt with which ImageMagick and ExifTool store a block."""
    digits = data.hex()
    lines = "\n".join(digits[at : at + 72] for at in range(0, len(digits), 72))
    text = f"\n{name.lower()}\n{len(data):8d}\n{lines}\n"
    return b"zTXt", f"Raw profile type {name}".encode() + b"\0\0" + zlib.compress(text.encode())


def with_webp_chunk(data: bytes, name: bytes, content: bytes) -> bytes:
    data += name + struct.pack("<I", len(content)) + content + b"\0" * (len(content) % 2)
    return data[:4] + struct.pack("<I", len(data) - 8) + data[8:]


def box(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I4s", 8 + len(content), name) + content
