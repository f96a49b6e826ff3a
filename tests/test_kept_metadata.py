"""Metadata of every format is kept where there is a place for it, else one line names it."""

from __future__ import annotations

import io
import struct
from dataclasses import replace

import images
import numpy as np
import pytest
from metadata_files import (
    IPTC,
    RDF,
    box,
    jpeg,
    photoshop,
    photoshop_segment,
    png,
    segment,
    with_webp_chunk,
    xmp_segment,
)
from PIL import Image, IptcImagePlugin, features
from reading import read, written
from tiffs import tiff

from stfcodec import container
from stfcodec.imageio import read_picture, write_picture
from stfcodec.imageio.metadata import iptc
from stfcodec.imageio.strip import without_metadata
from stfcodec.limits import Limits

RGB = images.pixels()
IMAGE = Image.fromarray(RGB)
XMP = (RDF % 'xmlns:dc="http://purl.org/dc/elements/1.1/" dc:format="x">').encode()
EXIF = b"II*\0\x08\0\0\0\1\0\x0f\1\2\0\4\0\0\0Cam\0\0\0\0\0"
DIGEST, RESOLUTION, URL = (0x0425, bytes(16)), (0x03ED, bytes(16)), (0x040B, b"http://a")


# IPTC


def test_iptc_of_jpeg() -> None:
    picture = read_picture(jpeg(photoshop_segment(RESOLUTION, (0x0404, IPTC), DIGEST)))
    assert (picture.iptc, picture.notes) == (IPTC, ())
    others = read_picture(jpeg(photoshop_segment(URL, (0x0404, IPTC))))
    assert (others.iptc, others.notes) == (IPTC, ("not carried: Photoshop resources",))


def test_iptc_in_two_segments() -> None:
    record = b"\x1c\x02\x78\x00\x05hello" * 9000
    whole = photoshop((0x0404, record))
    parts = [b"Photoshop 3.0\0" + part for part in (whole[:60_000], whole[60_000:])]
    assert read_picture(jpeg(*(segment(13, part) for part in parts))).iptc == record


@pytest.mark.parametrize("order", "<>")
def test_iptc_of_tiff(order: str) -> None:
    padded = IPTC + bytes(-len(IPTC) % 4)
    swapped = b"".join(padded[at : at + 4][::-1] for at in range(0, len(padded), 4))
    longs = struct.unpack(f"{order}{len(padded) // 4}I", padded)
    resources = tuple(photoshop((0x0404, IPTC)))
    assert read_picture(tiff(RGB, order, more={33723: (1, tuple(IPTC))})).iptc == IPTC
    assert read_picture(tiff(RGB, order, more={33723: (4, longs)})).iptc == padded
    assert read_picture(tiff(RGB, order, more={33723: (1, tuple(swapped))})).iptc == padded
    assert read_picture(tiff(RGB, order, more={34377: (1, resources)})).iptc == IPTC


@pytest.mark.parametrize("format", ["JPEG", "PNG", "TIFF"])
@pytest.mark.parametrize("record", [IPTC, IPTC + b"\x1c", b"\x1c\2\x78\0\5hello" * 5000])
def test_iptc_there_and_back(format: str, record: bytes) -> None:
    picture = replace(read_picture(RGB), iptc=record)
    again = read_picture(written(picture, format))
    assert again.iptc == record and "not carried" not in "".join(again.notes)
    assert write_picture(picture, io.BytesIO(), format) == ()


@pytest.mark.parametrize("format", ["JPEG", "TIFF"])
def test_iptc_is_read_by_another_library(format: str) -> None:
    with Image.open(io.BytesIO(written(replace(read_picture(RGB), iptc=IPTC), format))) as image:
        found = IptcImagePlugin.getiptcinfo(image)
    assert found == {(2, 80): b"Jane Doe", (2, 116): b"(c) JD"}


def test_iptc_without_a_place() -> None:
    picture = replace(read_picture(RGB), iptc=IPTC)
    for format in ("WEBP", "BMP", "PPM"):
        assert write_picture(picture, io.BytesIO(), format) == (f"{format} cannot hold: iptc",)
    long = replace(picture, iptc=b"\x1c" + bytes(70_000))
    assert write_picture(long, io.BytesIO(), "JPEG") == ("JPEG cannot hold: iptc",)
    assert without_metadata(picture).iptc is None


def test_damaged_photoshop_resources() -> None:
    whole = photoshop(URL, (0x0404, IPTC), DIGEST)
    for end in range(len(whole)):
        record, _ = iptc.from_resources(whole[:end])
        assert record in (None, IPTC)
    cut = whole[: whole.index(IPTC) + 5]
    assert read_picture(jpeg(segment(13, b"Photoshop 3.0\0" + cut))).iptc is None


def test_iptc_over_the_limit() -> None:
    data = jpeg(photoshop_segment((0x0404, b"\x1c" + bytes(500))))
    assert read_picture(data, Limits(metadata=400)).notes == (
        "too long and left out: IPTC of 501 bytes",
    )


def test_iptc_in_a_stream() -> None:
    header = container.Header(4, 4, 3, 8, 1, bytes(4), 3.0)
    stream = container.Stream(header, b"z", b"y", 0, iptc=IPTC)
    assert container.read(container.write(stream)) == stream
    plain = container.write(replace(stream, iptc=None))
    assert [chunk.type for chunk in container.inspect(plain).chunks] == ["HEAD", "DATA"]


# Segments of JPEG


@pytest.mark.parametrize(
    ("content", "name"),
    [
        ((2, b"urn:iso:std:iso:ts:21496:-1\0" + bytes(4)), "HDR gain map"),
        ((11, b"JP\0\1\0\0\0\1" + box(b"jumb", b"jumdc2pa")), "content credentials (C2PA)"),
        ((11, b"JP\0\1\0\0\0\1" + box(b"jumb", b"other")), "segment APP11"),
        ((2, b"FPXR\0"), "segment APP2"),
        ((4, b"vendor"), "segment APP4"),
        ((30, b"hello"), "comment"),
    ],
)
def test_segments_that_are_not_carried(content: tuple[int, bytes], name: str) -> None:
    data = jpeg(segment(*content), segment(*content))
    if content[0] == 30:
        data = jpeg(b"\xff\xfe\0\7hello")
    assert read_picture(data).notes == (f"not carried: {name}",)


def test_credentials_in_several_segments() -> None:
    first = segment(11, b"JP\0\1\0\0\0\1" + box(b"jumb", b"jumdc2pa"))
    further = segment(11, b"JP\0\1\0\0\0\2" + box(b"jumb", bytes(500)))
    assert read_picture(jpeg(first, further)).notes == ("not carried: content credentials (C2PA)",)


def test_segments_that_say_nothing_of_the_picture() -> None:
    assert read_picture(jpeg(segment(12, b"Ducky\0\1"), segment(0, b"JFXX\0\x10"))).notes == ()


def test_one_line_for_all() -> None:
    gain_map = RDF % 'xmlns:hdrgm="http://ns.adobe.com/hdr-gain-map/1.0/" hdrgm:Version="1">'
    data = jpeg(
        segment(2, b"urn:iso:std:iso:ts:21496:-1\0"),
        xmp_segment(gain_map.encode()),
        photoshop_segment(URL),
        trailer=struct.pack(">I", 24) + b"ftypmp42" + bytes(50),
    )
    assert read_picture(data).notes == (
        "not carried: Photoshop resources, HDR gain map, motion photo",
    )


@pytest.mark.parametrize("brand", [b"ftypmp42", b"ftypisom", b"MotionPhoto_Data"])
@pytest.mark.parametrize("before", [0, (1 << 20) - 700, (1 << 20) - 650])
def test_film_behind_a_picture(brand: bytes, before: int) -> None:
    for offset in range(0, 24, 5):
        data = jpeg(trailer=bytes(before + offset) + brand + bytes(100))
        assert read_picture(io.BytesIO(data)).notes == ("not carried: motion photo",)


def test_images_that_pillow_has_loaded() -> None:
    image = Image.open(io.BytesIO(jpeg(photoshop_segment((0x0404, IPTC)), segment(4, b"vendor"))))
    image.load()
    picture = read_picture(image)
    assert (picture.iptc, picture.notes) == (IPTC, ("not carried: segment APP4",))
    assert read_picture(image.copy()).notes == ()


# Other formats


def test_chunks_of_webp() -> None:
    data = images.file(IMAGE, "WEBP", lossless=True, exif=EXIF, xmp=XMP)
    assert read_picture(data).notes == ()
    odd = with_webp_chunk(with_webp_chunk(data, b"C2PA", b"abc"), b"abcd", b"x")
    picture = read_picture(odd)
    assert picture.notes == ("not carried: content credentials (C2PA), chunk 'abcd'",)
    assert (picture.exif, picture.xmp) == (EXIF, XMP)


def test_credentials_of_png_and_tiff() -> None:
    expected = ("not carried: content credentials (C2PA)",)
    assert read_picture(png((b"caBX", b"jumb"))).notes == expected
    assert read_picture(tiff(RGB, more={52545: (1, (1, 2))})).notes == expected


def gif(*extensions: bytes) -> bytes:
    data = images.file(IMAGE.quantize(), "GIF")
    at = 13 + (3 << (data[10] & 7) + 1)
    return data[:at] + b"".join(extensions) + data[at:]


def application(name: bytes, data: bytes) -> bytes:
    parts = (data[at : at + 255] for at in range(0, len(data), 255))
    blocks = b"".join(bytes([len(part)]) + part for part in parts)
    return b"\x21\xff\x0b" + name + blocks + b"\0"


def test_extensions_of_gif() -> None:
    trailer = b"\1" + bytes(range(255, -1, -1)) + b"\0"
    packets = [XMP[:60] + b" " * n + XMP[60:] for n in range(9)]
    for packet in packets:
        picture = read_picture(gif(b"\x21\xff\x0bXMP DataXMP" + packet + trailer))
        assert (picture.xmp, picture.notes) == (packet, ())
    profile = images.srgb_profile()
    assert read_picture(gif(application(b"ICCRGBG1012", profile))).icc == profile
    other = read_picture(gif(application(b"C2PA_GIF\1\0\0", b"abc")))
    assert other.notes == (r"not carried: GIF extension 'C2PA_GIF\x01\x00\x00'",)
    assert read_picture(gif(application(b"NETSCAPE2.0", b"\1\0\0"))).notes == ()
    assert "comment" in read(IMAGE.quantize(), "GIF", comment=b"hi").notes[0]
    long = read_picture(gif(application(b"ICCRGBG1012", profile)), Limits(metadata=300))
    assert long.icc is None and "too long and left out" in long.notes[0]


@pytest.mark.skipif(not features.check_codec("jpg_2000"), reason="Pillow without OpenJPEG")
def test_boxes_of_jpeg_2000() -> None:
    data = images.file(IMAGE, "JPEG2000")
    at = data.index(b"jp2c") - 4
    uuids = {
        "be7acfcb97a942e89c71999491e3afac": XMP,
        "4a706754696666457869662d3e4a5032": EXIF,
        "33c7a4d2b81d4723a0baf1a3e097ad38": IPTC,
    }
    made = b"".join(box(b"uuid", bytes.fromhex(name) + content) for name, content in uuids.items())
    picture = read_picture(data[:at] + made + data[at:])
    assert (picture.xmp, picture.exif, picture.iptc, picture.notes) == (XMP, EXIF, IPTC, ())
    geo = box(b"uuid", bytes.fromhex("b14bf8bd083d4b43a5ae8cd7d5a6ce03") + b"x")
    odd = data[:at] + geo + box(b"xml ", b"<a/>") + data[at:]
    assert read_picture(odd).notes == ("not carried: georeference, XML box",)


@pytest.mark.skipif(not features.check("avif"), reason="Pillow without AVIF")
def test_exif_of_turned_avif_keeps_its_bytes() -> None:
    text = "© Café 東京".encode() + b"\0"
    block = b"II*\0" + struct.pack("<IHHHII", 8, 1, 0x8298, 2, len(text), 26) + bytes(4) + text
    turned = block[:8] + struct.pack("<HHHIIHHIII", 2, 0x0112, 3, 1, 6, 0x8298, 2, len(text), 38, 0)
    data = images.file(Image.fromarray(images.pixels(32, 48)), "AVIF", exif=turned + text)
    ruined = b"?? Caf?? ??????\0"  # by Pillow
    assert ruined in data
    picture = read_picture(data.replace(ruined, text))
    assert text in picture.exif and picture.pixels.shape == (48, 32, 3)
    upright = images.file(Image.fromarray(images.pixels(32, 48)), "AVIF", exif=block, xmp=XMP)
    picture = read_picture(upright)
    assert (picture.exif, picture.xmp, picture.notes) == (block, XMP, ())


@pytest.mark.skipif(not features.check("avif"), reason="Pillow without AVIF")
def test_credentials_and_gain_maps_of_avif() -> None:
    data = images.file(Image.fromarray(images.pixels(32, 48)), "AVIF")
    uuid = box(b"uuid", bytes.fromhex("d8fec3d61b0e483c92975828877ec481") + b"c2pa")
    assert read_picture(data + uuid).notes == ("not carried: content credentials (C2PA)",)
    second = box(b"meta", bytes(4) + b"aux:hdrgainmap\0")  # which no decoder looks at
    assert read_picture(data + second).notes == ()


def test_many_names_are_counted() -> None:
    texts = [(b"tEXt", b"%02d" % n + b"x" * 500 + b"\0y") for n in range(25)]
    (note,) = read_picture(png(*texts)).notes
    assert note.endswith("x' and 5 more") and len(note) < 2000


@pytest.mark.filterwarnings("default")  # Pillow warns of damage
@pytest.mark.parametrize("format", ["GIF", "WEBP", "AVIF", "JPEG2000"])
def test_damage_is_no_crash(format: str) -> None:
    from stfcodec.imageio.by_format import boxes, gif, webp

    data = {
        "GIF": gif_with_everything,
        "WEBP": lambda: images.file(IMAGE, "WEBP", exif=EXIF, xmp=XMP),
        "AVIF": lambda: images.file(IMAGE.resize((32, 32)), "AVIF", exif=EXIF, xmp=XMP),
        "JPEG2000": lambda: images.file(IMAGE, "JPEG2000"),
    }[format]()
    readers = {
        "GIF": lambda fp: gif.blocks_in(fp, 1000),
        "WEBP": webp.blocks_in,
        "AVIF": lambda fp: boxes.avif_blocks(fp, 1000),
        "JPEG2000": lambda fp: boxes.jpeg_2000_blocks(fp, 1000),
    }
    random = np.random.default_rng(4)
    for n in range(400):
        damaged = bytearray(data[: random.integers(len(data))] if n % 4 == 0 else data)
        for _ in range(min(len(damaged), 4)):
            damaged[random.integers(min(len(damaged), 500))] = random.integers(256)
        readers[format](io.BytesIO(damaged))


def gif_with_everything() -> bytes:
    return gif(application(b"ICCRGBG1012", images.srgb_profile()), application(b"XMP DataXMP", XMP))
