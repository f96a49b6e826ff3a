"""XMP keeps its bytes, claims nothing that is not kept, and goes through JPEG at any length."""

from __future__ import annotations

import hashlib
import io
import struct
import time
import xml.etree.ElementTree as ET
from dataclasses import replace

import images
import numpy as np
import pytest
from metadata_files import RDF, jpeg, segment, xmp_segment
from PIL import Image
from reading import read, written

from stfcodec.imageio import read_picture, write_picture
from stfcodec.imageio.metadata import extended_xmp, xmp
from stfcodec.imageio.metadata.xml_tree import XmlError, parse, without
from stfcodec.limits import Limits

RGB = images.pixels()
IMAGE = Image.fromarray(RGB)
DC = 'xmlns:dc="http://purl.org/dc/elements/1.1/"'
GAIN_MAP = 'xmlns:hdrgm="http://ns.adobe.com/hdr-gain-map/1.0/"'
CAMERA = 'xmlns:GCamera="http://ns.google.com/photos/1.0/camera/"'
CONTAINER = (
    'xmlns:Container="http://ns.google.com/photos/1.0/container/" '
    'xmlns:Item="http://ns.google.com/photos/1.0/container/item/"'
)
DIRECTORY = (
    '<Container:Directory><rdf:Seq><rdf:li rdf:parseType="Resource">'
    '<Container:Item Item:Semantic="Primary" Item:Mime="image/jpeg"/></rdf:li>'
    '<rdf:li rdf:parseType="Resource"><Container:Item Item:Semantic="GainMap" Item:Length="12"/>'
    "</rdf:li></rdf:Seq></Container:Directory>"
)


def packet(description: str) -> bytes:
    return (RDF % description).encode()


def properties(data: bytes) -> set[tuple[str, str]]:
    """Top-level properties of a packet with their contents, as an XML library reads it."""
    found = set()
    for description in ET.fromstring(data).iter(
        "{http://www.w3.org/1999/02/22-rdf-syntax-ns#}Description"
    ):
        found |= {(n, v) for n, v in description.attrib.items() if "22-rdf-syntax" not in n}
        found |= {(child.tag, "".join(child.itertext())) for child in description}
    return found


# Claims


@pytest.mark.parametrize(
    ("claims", "name"),
    [
        (f'{GAIN_MAP} hdrgm:Version="1.0" hdrgm:GainMapMax="3.5">', "HDR gain map"),
        (f"{GAIN_MAP}><hdrgm:Version>1.0</hdrgm:Version>", "HDR gain map"),
        (f'{GAIN_MAP} {CONTAINER} hdrgm:Version="1.0">{DIRECTORY}', "HDR gain map"),
        (f'{CAMERA} GCamera:MotionPhoto="1" GCamera:MotionPhotoVersion="1">', "motion photo"),
        (f"{CAMERA} GCamera:MicroVideo='1' GCamera:MicroVideoOffset='123'>", "motion photo"),
        (
            'xmlns:dcterms="http://purl.org/dc/terms/" dcterms:provenance="self#jumbf=c2pa/a">',
            "content credentials (C2PA)",
        ),
    ],
)
@pytest.mark.parametrize("with_title", [True, False])
def test_claims_are_removed_and_named(claims: str, name: str, with_title: bool) -> None:
    title = "<dc:title>Pier &amp; sea</dc:title>" if with_title else ""
    data = jpeg(xmp_segment(packet(f"{DC} {claims}{title}")))
    picture = read_picture(data)
    assert picture.notes == (f"not carried: {name}",)
    if not with_title:
        assert picture.xmp is None
        return
    assert properties(picture.xmp) == {("{http://purl.org/dc/elements/1.1/}title", "Pier & sea")}
    for word in (b"hdrgm", b"hdr-gain", b"Container", b"GCamera", b"Motion", b"jumbf"):
        assert word not in picture.xmp
    assert picture.xmp.count(b"<dc:title>Pier &amp; sea</dc:title>") == 1


def test_a_prefix_is_what_it_stands_for() -> None:
    other = 'xmlns:q="http://ns.adobe.com/hdr-gain-map/1.0/" q:Version="1.0"'
    picture = read_picture(jpeg(xmp_segment(packet(f"{DC} {other} dc:format='x'>"))))
    assert b"gain-map" not in picture.xmp and b"dc:format='x'" in picture.xmp
    innocent = packet('xmlns:hdrgm="http://example.org/" hdrgm:Version="1.0">')
    assert read_picture(jpeg(xmp_segment(innocent))).xmp == innocent


def test_what_is_no_claim_is_kept() -> None:
    text = f"{CAMERA} {DC} GCamera:BurstID='7' GCamera:MotionPhoto='1' dc:source='hdrgm:Version'>"
    picture = read_picture(jpeg(xmp_segment(packet(text))))
    assert b"GCamera:BurstID='7'" in picture.xmp and b"MotionPhoto" not in picture.xmp
    assert b"dc:source='hdrgm:Version'" in picture.xmp
    credit = packet(
        'xmlns:dcterms="http://purl.org/dc/terms/" dcterms:provenance="Estate of J. D.">'
    )
    assert read_picture(jpeg(xmp_segment(credit))).xmp == credit


def test_claims_in_formats_that_cannot_hold_them_go_without_a_note() -> None:
    text = packet(f'{GAIN_MAP} {DC} hdrgm:Version="1.0" dc:format="x">')
    for format in ("WEBP", "TIFF"):
        options = {"tiffinfo": {700: text}} if format == "TIFF" else {"xmp": text}
        picture = read(IMAGE, format, **options)
        assert b"hdrgm" not in picture.xmp and picture.notes == ()


def test_claims_in_xmp_that_cannot_be_parsed() -> None:
    for bad in (
        packet(f'{GAIN_MAP} hdrgm:Version="1.0">').replace(b"</rdf:RDF>", b""),
        b"<!DOCTYPE a [<!ENTITY b 'c'>]>" + packet(f"{GAIN_MAP} hdrgm:Version='1'>"),
        packet(f"{GAIN_MAP} hdrgm:Version='1'>") + b"<!-- http://ns.adobe.com/hdr-gain-map/",
    ):
        picture = read_picture(jpeg(xmp_segment(bad)))
        assert (picture.xmp, picture.notes) == (None, ("unreadable XMP left out",))
    odd = b"<x:xmpmeta><broken"
    assert read_picture(jpeg(xmp_segment(odd))).xmp == odd  # carried as it is


@pytest.mark.parametrize(
    "text",
    [
        b"<a>" * 200_000,
        b"<a " + b'x="y" ' * 500_000,
        b"<!--" * 1_000_000,
        b'<a "' * 1_000_000,
        b"<" * 3_000_000,
        b"<a" + b" " * 3_000_000,
        b"<a b=" + b"'\"" * 1_000_000,
        b"<a" + b" " * 3_000_000 + b">",
        b"<a" + b" b \n" * 1_000_000 + b">",
    ],
)
def test_hostile_xml_takes_little_time(text: bytes) -> None:
    begin = time.process_time()
    with pytest.raises(XmlError):
        parse(text)
    extended_xmp.split(text, 60_000)
    assert time.process_time() - begin < 3


# Orientation and size


@pytest.mark.parametrize("orientation", range(1, 9))
def test_sizes_and_orientation_are_those_of_the_picture(orientation: int) -> None:
    text = packet(
        'xmlns:tiff="http://ns.adobe.com/tiff/1.0/" xmlns:exif="http://ns.adobe.com/exif/1.0/" '
        f"tiff:Orientation='{orientation}' tiff:ImageWidth=\"9\" tiff:ImageLength = '6'>"
        "<exif:PixelXDimension>9</exif:PixelXDimension>"
        "<exif:PixelYDimension> 6</exif:PixelYDimension>"
    )
    picture = read_picture(jpeg(xmp_segment(text)))
    width, height = picture.pixels.shape[1], picture.pixels.shape[0]
    assert (width, height) == ((6, 9) if orientation > 4 else (9, 6))
    values = {name.partition("}")[2]: value.strip() for name, value in properties(picture.xmp)}
    assert values == {
        "Orientation": "1",
        **{"ImageWidth": str(width), "ImageLength": str(height)},
        **{"PixelXDimension": str(width), "PixelYDimension": str(height)},
    }
    if orientation == 1:
        assert picture.xmp == text
    assert np.array_equal(read_picture(written(picture, "PNG")).pixels, picture.pixels)


def test_exif_comes_before_xmp() -> None:
    """A picture that was turned upright, whose XMP nobody has told so, is not turned again."""
    text = packet('xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="6">')
    for block in (images.exif(1), b"II*\0\x08\0\0\0\1\0\x0f\1\2\0\4\0\0\0Cam\0\0\0\0\0"):
        picture = read(IMAGE, "PNG", exif=block, pnginfo=itxt(text))
        assert np.array_equal(picture.pixels, RGB)
        assert b'tiff:Orientation="1"' in picture.xmp
    turned = read(IMAGE, "PNG", exif=images.exif(3), pnginfo=itxt(text))
    assert np.array_equal(turned.pixels, RGB[::-1, ::-1])


def itxt(text: bytes):
    from PIL.PngImagePlugin import PngInfo

    info = PngInfo()
    info.add_itxt("XML:com.adobe.xmp", text)
    return info


def test_regions_and_thumbnails_of_turned_pictures() -> None:
    text = (
        'xmlns:tiff="http://ns.adobe.com/tiff/1.0/" xmlns:xmp="http://ns.adobe.com/xap/1.0/" '
        'xmlns:mwg-rs="http://www.metadataworkinggroup.com/schemas/regions/" tiff:Orientation="%d">'
        "<mwg-rs:Regions rdf:parseType='Resource'><mwg-rs:RegionList>Ann</mwg-rs:RegionList>"
        "</mwg-rs:Regions><xmp:Thumbnails>abc</xmp:Thumbnails><xmp:Rating>5</xmp:Rating>"
    )
    turned = read_picture(jpeg(xmp_segment(packet(text % 6))))
    assert b"Ann" not in turned.xmp and b"Thumbnails" not in turned.xmp
    assert b"<xmp:Rating>5</xmp:Rating>" in turned.xmp
    assert turned.notes == ("not carried: regions in XMP",)
    upright = read_picture(jpeg(xmp_segment(packet(text % 1))))
    assert upright.xmp == packet(text % 1) and upright.notes == ()


# Extended XMP

LONG = "".join(f"<dc:relation{n}>{'abc' * 9000}{n}</dc:relation{n}>" for n in range(9))


def extended(main: str, extension: bytes, digest: str | None = None, cut: int = 0) -> bytes:
    """A JPEG with an extension in segments of 50000 bytes, the last of them first."""
    digest = digest or hashlib.md5(extension).hexdigest().upper()
    note = f'xmlns:xmpNote="http://ns.adobe.com/xmp/note/" xmpNote:HasExtendedXMP="{digest}" {main}'
    parts = [
        segment(
            1,
            b"http://ns.adobe.com/xmp/extension/\0"
            + digest.encode()
            + struct.pack(">II", len(extension), at)
            + extension[at : at + 50_000],
        )
        for at in range(0, len(extension), 50_000)
    ]
    return jpeg(xmp_segment(packet(note)), *parts[cut:][::-1])


def test_extension_is_joined() -> None:
    extension = packet(f"{DC}>{LONG}")
    picture = read_picture(extended(f"{DC} dc:format='x'>", extension))
    expected = properties(extension) | {("{http://purl.org/dc/elements/1.1/}format", "x")}
    assert properties(picture.xmp) == expected and picture.notes == ()
    assert b"HasExtendedXMP" not in picture.xmp


def test_namespaces_around_the_extension_are_kept() -> None:
    extension = packet(f">{LONG}").replace(b"<rdf:RDF ", f"<rdf:RDF {DC} ".encode())
    picture = read_picture(extended("rdf:about=''>", extension))
    assert properties(picture.xmp) == properties(extension)


@pytest.mark.parametrize("fault", ["part", "digest", "limit", "xml", "prefix"])
def test_extension_that_cannot_be_joined_is_named(fault: str) -> None:
    extension = packet(f"{DC}>{LONG}")
    if fault == "xml":
        extension = extension.replace(b"</rdf:RDF>", b"")
    if fault == "prefix":
        extension = extension.replace(b"<rdf:RDF ", b'<rdf:RDF xmlns:x="other:" ')
    data = extended(f"{DC} dc:format='x'>", extension, cut=fault == "part")
    if fault == "digest":
        at = data.index(b'HasExtendedXMP="') + 16
        data = data[:at] + (b"1" if data[at : at + 1] == b"0" else b"0") + data[at + 1 :]
    limits = Limits(metadata=100_000) if fault == "limit" else Limits()
    picture = read_picture(data, limits)
    assert picture.notes == ("unreadable extension of XMP left out",)
    assert properties(picture.xmp) == {("{http://purl.org/dc/elements/1.1/}format", "x")}


@pytest.mark.parametrize("as_attributes", [False, True])
def test_long_xmp_goes_through_jpeg(as_attributes: bool) -> None:
    history = LONG
    if as_attributes:
        values = (f'dc:relation{n}="{n}{"abc" * 9000}"' for n in range(9))
        history = f"/><rdf:Description {DC} rdf:about='' {' '.join(values)}></rdf:Description>"
        history += f"<rdf:Description {DC}>"
    text = packet(f"{DC} rdf:about='' dc:format='x'>{'' if as_attributes else history}")
    if as_attributes:
        text = packet(f"{DC} rdf:about='' dc:format='x'{history}")
    padded = b"<?xpacket begin='' id='W5M0MpCehiHzreSzNTczkc9d'?>" + text + b"\n" + b" " * 3000
    padded += b"<?xpacket end='w'?>"
    picture = replace(read_picture(RGB), xmp=padded)
    data = written(picture, "JPEG")
    assert write_picture(picture, io.BytesIO(), "JPEG") == ()
    main = Image.open(io.BytesIO(data)).info["xmp"]
    assert len(main) < 65_504 and ("{http://purl.org/dc/elements/1.1/}format", "x") in properties(
        main
    )
    again = read_picture(data)
    assert properties(again.xmp) == properties(text) and again.notes == ()


def test_extension_is_found_by_its_digest() -> None:
    text = packet(f"{DC}>{LONG}")
    main, extension = extended_xmp.split(text, 65_000)
    assert hashlib.md5(extension).hexdigest().upper().encode() in main
    assert properties(main) | properties(extension) > properties(text)
    parts = extended_xmp.segments(extension)
    assert all(len(part) <= 65_533 for part in parts) and len(parts) > 2


@pytest.mark.parametrize(
    "text",
    [
        b'<x:xmpmeta xmlns:x="adobe:ns:meta/">' + b"<!-- history -->" * 5000 + b"</x:xmpmeta>",
        b"x" * 70_000,
        RDF.replace("%s", f"{DC} xmlns:a='{'b' * 70_000}'>").encode(),
    ],
)
def test_long_xmp_that_cannot_be_split_is_missed_and_the_picture_written(text: bytes) -> None:
    picture = replace(read_picture(RGB), xmp=text)
    buffer = io.BytesIO()
    assert write_picture(picture, buffer, "JPEG") == ("JPEG cannot hold: xmp",)
    assert read_picture(buffer.getvalue()).xmp is None
    assert write_picture(picture, io.BytesIO(), "PNG") == ()


# The tree


def test_many_descriptions_take_little_time() -> None:
    begin = time.process_time()
    one = f'<rdf:Description {DC} dc:format="{"x" * 40}"/>'
    whole = (RDF % f"{DC}>").replace("</rdf:RDF>", one * 20_000 + "</rdf:RDF>").encode()
    kept, extension = extended_xmp.split(whole, len(whole) - 500_000)
    assert len(kept) <= len(whole) - 500_000 and extension.count(b"x" * 40) > 5000
    assert time.process_time() - begin < 3


def test_tree_skips_comments_and_character_data() -> None:
    text = b"<?a <b>?><a><!-- <b> --><![CDATA[<b>]]><c d = 'e>f' g=\"h\"/><c>i</c></a>"
    root = parse(text)
    assert [element.name for element in root.walk()] == [b"", b"a", b"c", b"c"]
    first = root.children[0].children[0]
    assert [(a.name, a.value) for a in first.attributes] == [(b"d", b"e>f"), (b"g", b"h")]
    d = first.attributes[0]
    assert without(text, [(d.begin, d.end)]) == text.replace(b" d = 'e>f'", b"")
    assert without(text, [(first.begin, first.end), (d.begin, d.end)]).count(b"<c") == 1
    assert xmp.orientation(b"") == 1
