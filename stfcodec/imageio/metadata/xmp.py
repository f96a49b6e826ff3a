"""XMP packets: what they say of the picture, and changes that leave every other byte as it is.

A kept packet must not claim what is not there: another orientation or size, and further pictures,
films or signatures that the file held beside the picture. Reference: Adobe XMP specification.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from stfcodec.imageio.metadata.xml_tree import Attribute, Element, parse, without

_ORIENTATION = re.compile(rb"(tiff:Orientation\s*(?:>|=\s*[\"'])\s*)([1-8])")
_WIDTHS = re.compile(rb"((?:tiff:ImageWidth|exif:PixelXDimension)\s*(?:>|=\s*[\"'])\s*)(\d+)")
_HEIGHTS = re.compile(rb"((?:tiff:ImageLength|exif:PixelYDimension)\s*(?:>|=\s*[\"'])\s*)(\d+)")
_ADOBE, _GOOGLE = b"http://ns.adobe.com/", b"http://ns.google.com/photos/"

_VALUE_BYTES = 4096  # in which a claim must show

GAIN_MAP, MOTION, DEPTH_MAP = "HDR gain map", "motion photo", "depth map"
CREDENTIALS = "content credentials (C2PA)"
"""What a file may hold beside the picture, as notes name it."""


class _Claim(NamedTuple):
    """Properties of one namespace that speak of something beside the picture."""

    namespace: bytes
    """What its name begins with."""
    properties: re.Pattern[bytes]
    """Names without prefix."""
    value: re.Pattern[bytes]
    """What the value must contain."""
    of: str
    """What they claim, for notes; empty: nothing that would be missed."""

    def may_be_in(self, packet: bytes) -> bool:
        """Whether a packet is worth parsing for it."""
        words = self.properties.pattern.rstrip(b"$")
        return self.namespace in packet and re.search(words, packet) is not None


def _claim(of: str, namespace: bytes, properties: bytes = b"", value: bytes = b"") -> _Claim:
    return _Claim(namespace, re.compile(properties), re.compile(value), of)


_CLAIMS = (
    _claim(GAIN_MAP, _ADOBE + b"hdr-gain-map/"),
    _claim(GAIN_MAP, b"http://ns.apple.com/HDRGainMap/"),
    _claim("", _GOOGLE + b"1.0/container/"),  # a list of what the other claims are about
    _claim(MOTION, _GOOGLE + b"1.0/camera/", rb"Motion|MicroVideo"),
    _claim(MOTION, b"http://ns.oplus.com/photos/1.0/camera/", rb"Motion|OLive|VideoLength"),
    _claim(DEPTH_MAP, _GOOGLE + b"dd/1.0/"),
    _claim(CREDENTIALS, b"http://purl.org/dc/terms/", rb"provenance$", rb"jumbf|c2pa|manifest"),
    _claim("", _ADOBE + b"xmp/note/", rb"HasExtendedXMP$"),
)
_CLAIMS_ON_ORIENTATION = (
    _claim("", _ADOBE + b"xap/1.0/", rb"Thumbnails$"),
    _claim("regions in XMP", b"http://www.metadataworkinggroup.com/schemas/regions/", rb"Regions$"),
    _claim("regions in XMP", b"http://ns.microsoft.com/photo/1.2/", rb"RegionInfo$"),
)


def orientation(packet: bytes) -> int:
    """1 to 8; 1 if the packet says nothing."""
    found = _ORIENTATION.search(packet)
    return int(found[2]) if found else 1


def upright(packet: bytes, size: tuple[int, int]) -> bytes:
    """The packet with orientation 1 and the size of the picture, where it states them.

    size: width and height.
    """
    width, height = (str(side).encode() for side in size)
    packet = _ORIENTATION.sub(rb"\g<1>1", packet)
    packet = _WIDTHS.sub(rb"\g<1>" + width, packet)
    return _HEIGHTS.sub(rb"\g<1>" + height, packet)


def without_claims(packet: bytes, turned: bool) -> tuple[bytes | None, list[str]]:
    """The packet without properties about what is not kept, and what these spoke of.

    turned: the pixels were turned or mirrored, so thumbnails and regions do not fit any more. The
    packet is None if nothing is left in it. Raises XmlError if there are such properties and it
    cannot be parsed.
    """
    possible = (*_CLAIMS, *_CLAIMS_ON_ORIENTATION) if turned else _CLAIMS
    claims = [claim for claim in possible if claim.may_be_in(packet)]
    if not claims:
        return packet, []
    root = parse(packet)
    prefixes = {p: uri for element in root.walk() for p, uri in element.namespaces().items()}
    ranges: list[tuple[int, int]] = []
    names: set[str] = set()
    for name, begin, end in _properties(root):
        prefix, _, local = name.partition(b":")
        uri = prefixes.get(prefix, b"")
        for claim in claims:
            is_named = uri.startswith(claim.namespace) and claim.properties.match(local)
            if is_named and claim.value.search(packet, begin, min(end, begin + _VALUE_BYTES)):
                ranges.append((begin, end))
                names.add(claim.of)
    if not ranges:
        return packet, []
    packet = _without_unused_namespaces(without(packet, ranges), claims)
    return (packet if _has_properties(packet) else None), sorted(names - {""})


def _properties(root: Element) -> Iterator[tuple[bytes, int, int]]:
    """Name, begin and end of all elements, and of all attributes that declare no namespace."""
    for element in root.walk():
        if element.name:
            yield element.name, element.begin, element.end
        for attribute in element.attributes:
            if not attribute.name.startswith(b"xmlns"):
                yield attribute.name, attribute.begin, attribute.end


def _without_unused_namespaces(packet: bytes, claims: list[_Claim]) -> bytes:
    """The packet without declarations of the claims' namespaces that nothing uses any more."""
    root = parse(packet)
    used = {name.partition(b":")[0] for name, _, _ in _properties(root)}
    declarations = (attribute for element in root.walk() for attribute in element.attributes)
    namespaces = tuple(claim.namespace for claim in claims)

    def is_unused(attribute: Attribute) -> bool:
        kind, _, prefix = attribute.name.partition(b":")
        return kind == b"xmlns" and prefix not in used and attribute.value.startswith(namespaces)

    return without(packet, [(a.begin, a.end) for a in declarations if is_unused(a)])


def _has_properties(packet: bytes) -> bool:
    """Whether a packet that can be parsed says anything of its picture."""
    for element in parse(packet).walk():
        if element.name != b"rdf:Description":
            continue
        names = (attribute.name for attribute in element.attributes)
        if element.children or any(not name.startswith((b"xmlns", b"rdf:")) for name in names):
            return True
    return False
