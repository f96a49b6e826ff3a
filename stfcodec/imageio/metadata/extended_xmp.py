"""XMP packets of more than 64 KiB, which JPEG holds in two parts: the packet and its extension.

The packet names the MD5 of the extension, which is XMP in its own right and fills as many segments
as it needs. Reference: Adobe XMP specification, part 3, section 1.1.3.
"""

from __future__ import annotations

import hashlib
import re
import struct
from collections.abc import Iterable
from itertools import groupby
from typing import NamedTuple

from stfcodec.imageio.metadata.xml_tree import Element, XmlError, parse, without

SEGMENT_PREFIX = b"http://ns.adobe.com/xmp/extension/\0"
_HEADER = struct.Struct(">32sII")  # MD5 in hexadecimal digits, size of the whole, offset
_CONTENT_BYTES = 65_000  # in a segment
_NAMED = re.compile(rb"xmpNote:HasExtendedXMP\s*(?:>|=\s*[\"'])\s*([0-9A-Fa-f]{32})")
_NOTE = b' xmlns:xmpNote="http://ns.adobe.com/xmp/note/" xmpNote:HasExtendedXMP="%s"'
_PADDING = re.compile(rb">\s{100,}+<")
_DESCRIPTION = b"rdf:Description"


class _Property(NamedTuple):
    """A top-level property of a packet: an element or an attribute of a description."""

    begin: int
    end: int
    description: int
    """Number of the description that it belongs to."""
    is_attribute: bool


def joined(packet: bytes, segments: Iterable[bytes], limit: int) -> bytes | None:
    """The packet with the properties of its extension.

    segments: contents of APP1 segments that begin with `SEGMENT_PREFIX`. limit: bytes of the
    extension. None if the extension is not the one that the packet names, incomplete, damaged or
    too long.
    """
    named = _NAMED.search(packet)
    parts: dict[int, bytes] = {}
    size = 0
    for segment in segments:
        header = segment[len(SEGMENT_PREFIX) :][: _HEADER.size]
        if named and len(header) == _HEADER.size:
            digest, whole, offset = _HEADER.unpack(header)
            if digest.lower() == named[1].lower():
                size, parts[offset] = whole, segment[len(SEGMENT_PREFIX) + _HEADER.size :]
    extension = bytearray()
    for offset in sorted(parts):
        if offset != len(extension):
            return None
        extension += parts[offset]
    if not extension or len(extension) != size or size > limit:
        return None
    try:
        return _merged(packet, bytes(extension))
    except XmlError:
        return None


def _merged(packet: bytes, extension: bytes) -> bytes:
    """The packet with the descriptions of the extension behind its own. Raises XmlError."""
    ours, theirs = parse(packet).first(b"rdf:RDF"), parse(extension)
    other = theirs.first(b"rdf:RDF")
    if ours is None or other is None or ours.content_end == ours.end:
        raise XmlError
    known = _namespaces(parse(packet), ours)
    needed = _namespaces(theirs, other)
    if any(known.get(prefix, uri) != uri for prefix, uri in needed.items()):
        raise XmlError
    new = {prefix: uri for prefix, uri in needed.items() if prefix not in known}
    start_tag, content = ours.content_begin - 1, ours.content_end
    return b"".join(
        (
            packet[:start_tag],
            _declarations(new),
            packet[start_tag:content],
            extension[other.content_begin : other.content_end],
            packet[content:],
        )
    )


def _namespaces(root: Element, inner: Element) -> dict[bytes, bytes]:
    """The namespaces that are declared around an element or by it."""
    around = (e for e in root.walk() if e.begin <= inner.begin and inner.end <= e.end)
    return {prefix: uri for element in around for prefix, uri in element.namespaces().items()}


def _declarations(namespaces: dict[bytes, bytes]) -> bytes:
    return b"".join(b' xmlns:%s="%s"' % item for item in namespaces.items())


def split(packet: bytes, limit: int) -> tuple[bytes, bytes] | None:
    """The packet with at most `limit` bytes, and its extension.

    The largest properties go to the extension. None if that is not enough, or if the packet cannot
    be parsed.
    """
    packet = _PADDING.sub(b">\n<", packet)
    try:
        root = parse(packet)
    except XmlError:
        return None
    rdf = root.first(b"rdf:RDF")
    descriptions = [e for e in rdf.children if e.name == _DESCRIPTION] if rdf else []
    if rdf is None or not descriptions:
        return None
    moved, excess = [], len(packet) + len(_NOTE % bytes(32)) - limit
    for found in sorted(_properties(descriptions), key=lambda p: p.begin - p.end):
        if excess <= 0:
            break
        moved.append(found)
        excess -= found.end - found.begin
    if excess > 0:
        return None
    extension = _extension(packet, root, rdf, descriptions, moved)
    note = _NOTE % hashlib.md5(extension, usedforsecurity=False).hexdigest().upper().encode()
    name_end = descriptions[0].begin + 1 + len(_DESCRIPTION)
    kept = without(packet[name_end:], [(p.begin - name_end, p.end - name_end) for p in moved])
    return packet[:name_end] + note + kept, extension


def _properties(descriptions: list[Element]) -> list[_Property]:
    found = []
    for number, description in enumerate(descriptions):
        found += [_Property(e.begin, e.end, number, False) for e in description.children]
        found += [
            _Property(a.begin, a.end, number, True)
            for a in description.attributes
            if not a.name.startswith((b"xmlns", b"rdf:", b"xml:"))
        ]
    return found


def _extension(
    packet: bytes,
    root: Element,
    rdf: Element,
    descriptions: list[Element],
    moved: list[_Property],
) -> bytes:
    """XMP of these properties alone, each in a description like its own."""
    parts = [b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF']
    around = _namespaces(root, rdf)
    parts += [_declarations({p: uri for p, uri in around.items() if p != b"x"}), b">"]
    for number, group in groupby(sorted(moved, key=lambda p: (p.description, p.begin)), _number):
        description, ours = descriptions[number], list(group)
        kept = (a for a in description.attributes if a.name.startswith((b"xmlns", b"rdf:")))
        attributes = [packet[a.begin : a.end] for a in kept]
        attributes += [packet[p.begin : p.end] for p in ours if p.is_attribute]
        elements = [packet[p.begin : p.end] for p in ours if not p.is_attribute]
        parts += [b"<", _DESCRIPTION, *attributes, b">", *elements, b"</", _DESCRIPTION, b">"]
    return b"".join((*parts, b"</rdf:RDF></x:xmpmeta>"))


def _number(found: _Property) -> int:
    return found.description


def segments(extension: bytes) -> list[bytes]:
    """The contents of the APP1 segments that hold an extension."""
    digest = hashlib.md5(extension, usedforsecurity=False).hexdigest().upper().encode()
    return [
        SEGMENT_PREFIX
        + _HEADER.pack(digest, len(extension), offset)
        + extension[offset : offset + _CONTENT_BYTES]
        for offset in range(0, len(extension), _CONTENT_BYTES)
    ]
