"""Writes the tables of docs/formats.md anew: `python -m tests.make_formats --write`.

Every cell is what happens to a file that is made for it. A cell that is empty stands for a format
without a place for the feature, or for one that no library at hand writes.
"""

from __future__ import annotations

import argparse
import io
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).parent))  # as pytest has it

import images
import metadata_files as files
import numpy as np
from PIL import ExifTags, Image

from benchmarks.markdown import replace_block, table
from stfcodec.errors import ImageError
from stfcodec.formats import READABLE, WRITABLE
from stfcodec.imageio import Picture, on_background, read_picture, write_picture

PAGE = Path(__file__).resolve().parents[1] / "docs" / "formats.md"
KEPT, CONVERTED, WARNED, REFUSED = "kept", "converted", "warned", "refused"
SILENT = "LOST WITHOUT A WORD"
"""No cell may say this; a test looks."""

_Y, _X, _C = np.mgrid[:40, :56, :3]
RGB = (3 * _Y + _X + 30 * _C).astype(np.uint8)  # smooth, so that lossy formats keep it
GREY = RGB[..., 0]
DEEP = (GREY.astype(np.uint16) << 8) | 7
CLEAR = (4 * _Y[..., 0] + 40).astype(np.uint8)
PROFILE, GREY_PROFILE = images.rgb_profile(2.2), images.grey_profile(2.2)
XMP = (
    files.RDF % 'rdf:about="" xmlns:dc="http://purl.org/dc/elements/1.1/" dc:format="a">'
).encode()
_GAIN_MAP = files.RDF % (
    'rdf:about="" xmlns:hdrgm="http://ns.adobe.com/hdr-gain-map/1.0/" hdrgm:Version="1.0">'
)
_MOTION = files.RDF % (
    'rdf:about="" xmlns:GCamera="http://ns.google.com/photos/1.0/camera/" GCamera:MotionPhoto="1">'
)
_MOVIE = files.box(b"ftyp", b"mp42" + bytes(4) + b"mp42") + files.box(b"mdat", bytes(99))
_MANIFEST = files.box(b"jumb", files.box(b"jumd", b"c2pa" + bytes(12) + b"\3c2pa\0"))


@dataclass(frozen=True)
class Feature:
    """One row of the table of inputs."""

    name: str
    make: Callable[[str], bytes | None]
    """A file of this format, by Pillow's name; None if the format has no place for the feature."""
    is_kept: Callable[[Picture], bool]
    is_converted: Callable[[Picture], bool] = lambda picture: False


def saved(image: Image.Image, formats: str, **options: Any) -> Callable[[str], bytes | None]:
    """Makes files of the formats that are named, in words."""

    def make(name: str) -> bytes | None:
        if name not in formats.split():
            return None
        data = images.file(image, name, **options)
        # Pillow states linear light, which no camera or screen means.
        return data[:13] + b"\0" + data[14:] if name == "QOI" else data

    return make


def by_format(**made: Callable[[], bytes]) -> Callable[[str], bytes | None]:
    return lambda name: made[name]() if name in made else None


def either(*makers: Callable[[str], bytes | None]) -> Callable[[str], bytes | None]:
    return lambda name: next((made for maker in makers if (made := maker(name))), None)


def _close(picture: Picture, pixels: np.ndarray, tolerance: int) -> bool:
    return bool(np.abs(picture.pixels.astype(int) - pixels).max() <= tolerance)


def _tags(picture: Picture) -> Image.Exif:
    tags = Image.Exif()
    tags.load(picture.exif or b"")
    return tags


def _exif(orientation: int = 1) -> Image.Exif:
    tags = Image.Exif()
    tags[ExifTags.Base.Make] = "Cam"
    if orientation > 1:
        tags[ExifTags.Base.Orientation] = orientation
    return tags


_RGB_IMAGE, _GREY_IMAGE = Image.fromarray(RGB), Image.fromarray(GREY)
_RGBA_IMAGE = Image.fromarray(np.dstack([RGB, CLEAR]))
_PALETTE = Image.fromarray(RGB // 64 * 64).quantize(64)

INPUT: tuple[Feature, ...] = (
    Feature(
        "RGB",
        saved(_RGB_IMAGE, "PNG JPEG WEBP TIFF AVIF BMP PPM JPEG2000 QOI TGA", quality=95),
        lambda p: not p.gray and _close(p, RGB, 12),
    ),
    Feature(
        "grey",
        saved(_GREY_IMAGE, "PNG JPEG TIFF AVIF GIF BMP PPM JPEG2000 TGA", quality=95),
        lambda p: p.gray,
        lambda p: _close(p, GREY[..., None], 4),
    ),
    Feature(
        "palette",
        saved(_PALETTE, "PNG TIFF GIF BMP TGA"),
        lambda p: _close(p, np.asarray(_PALETTE.convert("RGB")), 0),
    ),
    Feature(
        "transparency",
        either(
            saved(_RGBA_IMAGE, "PNG WEBP TIFF AVIF JPEG2000 QOI TGA", lossless=True),
            by_format(GIF=lambda: images.file(_PALETTE, "GIF", transparency=0)),
        ),
        lambda p: p.alpha is not None and int(p.alpha.min()) < 200,
    ),
    Feature(
        "16 bits a channel",
        either(
            by_format(PNG=lambda: images.png(np.dstack([DEEP] * 3), 16)),
            by_format(TIFF=lambda: images.tiff16(np.dstack([DEEP] * 3))),
            saved(Image.fromarray(DEEP), "PPM JPEG2000"),
        ),
        lambda p: np.array_equal(p.pixels[..., 0], DEEP),
    ),
    Feature(
        "CMYK",
        saved(_RGB_IMAGE.convert("CMYK"), "JPEG TIFF"),
        lambda p: False,
    ),
    Feature(
        "several frames or pages",
        either(
            lambda name: images.animation(name) if name in ("PNG", "GIF", "WEBP", "TIFF") else None,
            by_format(JPEG=lambda: images.animation("MPO"), AVIF=lambda: _animated_avif()),
        ),
        lambda p: False,
    ),
    Feature(
        "ICC profile",
        saved(_RGB_IMAGE, "PNG JPEG WEBP TIFF AVIF", icc_profile=PROFILE),
        lambda p: p.icc == PROFILE,
    ),
    Feature(
        "grey ICC profile",
        saved(_GREY_IMAGE, "PNG JPEG TIFF", icc_profile=GREY_PROFILE),
        lambda p: p.icc == GREY_PROFILE,
    ),
    Feature(
        "EXIF",
        saved(_RGB_IMAGE, "PNG JPEG WEBP TIFF AVIF", exif=_exif()),
        lambda p: _tags(p).get(ExifTags.Base.Make) == "Cam",
    ),
    Feature(
        "orientation",
        saved(_RGB_IMAGE, "PNG JPEG WEBP TIFF", exif=_exif(6), quality=95),
        lambda p: False,
        lambda p: p.pixels.shape[:2] == (56, 40) and ExifTags.Base.Orientation not in _tags(p),
    ),
    Feature(
        "XMP",
        either(
            saved(_RGB_IMAGE, "JPEG WEBP AVIF", xmp=XMP),
            by_format(
                PNG=lambda: files.png((b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + XMP)),
                TIFF=lambda: images.file(_RGB_IMAGE, "TIFF", tiffinfo={700: XMP}),
                GIF=lambda: _gif_with_xmp(),
            ),
        ),
        lambda p: p.xmp is not None and b"dc:format" in p.xmp,
    ),
    Feature(
        "IPTC",
        by_format(
            PNG=lambda: files.png(files.raw_profile("iptc", files.photoshop((0x0404, files.IPTC)))),
            JPEG=lambda: files.jpeg(files.photoshop_segment((0x0404, files.IPTC))),
            TIFF=lambda: images.file(_RGB_IMAGE, "TIFF", tiffinfo={33723: files.IPTC}),
        ),
        lambda p: p.iptc == files.IPTC,
    ),
    Feature(
        "resolution",
        saved(_RGB_IMAGE, "PNG JPEG TIFF BMP", dpi=(300, 300)),
        lambda p: _tags(p).get(ExifTags.Base.XResolution) == 300,
    ),
    Feature(
        "comment or text",
        by_format(
            PNG=lambda: files.png((b"tEXt", b"Author\0Jane")),
            JPEG=lambda: files.jpeg(files.segment(30, b"by Jane")),
            GIF=lambda: images.file(_PALETTE, "GIF", comment=b"by Jane"),
        ),
        lambda p: False,
    ),
    Feature(
        "HDR gain map",
        by_format(JPEG=lambda: files.jpeg(files.xmp_segment(_GAIN_MAP.encode()))),
        lambda p: False,
    ),
    Feature(
        "motion photo",
        by_format(JPEG=lambda: files.jpeg(files.xmp_segment(_MOTION.encode()), trailer=_MOVIE)),
        lambda p: False,
    ),
    Feature(
        "content credentials (C2PA)",
        by_format(
            PNG=lambda: files.png((b"caBX", _MANIFEST)),
            JPEG=lambda: files.jpeg(files.segment(11, b"JP\0\1\0\0\0\1" + _MANIFEST)),
            WEBP=lambda: files.with_webp_chunk(
                images.file(_RGB_IMAGE, "WEBP", exif=_exif()), b"C2PA", _MANIFEST
            ),
        ),
        lambda p: False,
    ),
)


def _animated_avif() -> bytes:
    frames = [Image.fromarray(RGB + np.uint8(50 * n)) for n in range(3)]
    return images.file(frames[0], "AVIF", save_all=True, append_images=frames[1:])


def _gif_with_xmp() -> bytes:
    data = images.file(_PALETTE, "GIF")
    trailer = bytes((1, *range(255, -1, -1), 0))
    block = b"\x21\xff\x0bXMP DataXMP" + XMP + trailer
    at = 13 + 3 * 2 ** ((data[10] & 7) + 1)
    return data[:at] + block + data[at:]


def read_result(feature: Feature, name: str) -> str:
    """The cell of a feature and an input format."""
    data = feature.make(name)
    if data is None:
        return ""
    try:
        picture = read_picture(data)
    except ImageError:
        return REFUSED
    if feature.is_kept(picture):
        return f"{KEPT}, {WARNED}" if picture.notes else KEPT
    if feature.is_converted(picture):
        return CONVERTED
    return WARNED if picture.notes else SILENT


_SOURCE = Picture(RGB)
_TAGS = read_picture(images.file(_RGB_IMAGE, "JPEG", exif=_exif())).exif
_DPI = read_picture(images.file(_RGB_IMAGE, "PNG", dpi=(300, 300))).exif

OUTPUT: tuple[tuple[str, Picture, Callable[[Picture], bool]], ...] = (
    ("RGB", _SOURCE, lambda p: not p.gray and _close(p, RGB, 12)),
    ("grey", Picture(GREY[..., None].repeat(3, 2), gray=True), lambda p: p.gray),
    (
        "16 bits a channel",
        Picture(np.dstack([DEEP] * 3)),
        lambda p: np.array_equal(p.pixels[..., 0], DEEP),
    ),
    ("transparency", replace(_SOURCE, alpha=CLEAR), lambda p: p.alpha is not None),
    ("ICC profile", replace(_SOURCE, icc=PROFILE), lambda p: p.icc == PROFILE),
    ("EXIF", replace(_SOURCE, exif=_TAGS), lambda p: _tags(p).get(ExifTags.Base.Make) == "Cam"),
    ("XMP", replace(_SOURCE, xmp=XMP), lambda p: p.xmp is not None and b"dc:format" in p.xmp),
    ("IPTC", replace(_SOURCE, iptc=files.IPTC), lambda p: p.iptc == files.IPTC),
    (
        "resolution",
        replace(_SOURCE, exif=_DPI),
        lambda p: _tags(p).get(ExifTags.Base.XResolution) == 300,
    ),
)
"""Name, picture and what a reader must find of it: the rows of the table of outputs."""


def written_result(picture: Picture, is_kept: Callable[[Picture], bool], name: str) -> str:
    """The cell of a picture and an output format."""
    buffer = io.BytesIO()
    try:
        notes = write_picture(picture, buffer, name)
    except ImageError:
        write_picture(on_background(picture, "white"), buffer, name)
        return f"{REFUSED} without `--background`"
    if is_kept(read_picture(buffer.getvalue())):
        return KEPT
    if picture.gray or picture.pixels.dtype == np.uint16:
        return CONVERTED
    return WARNED if notes else SILENT


def tables() -> Iterator[tuple[str, list[str]]]:
    """The name of each table's place in the page, and its lines."""
    inputs = [*READABLE]
    rows = [[f.name, *(read_result(f, name) for name in inputs)] for f in INPUT]
    yield "input", list(table(["", *inputs], rows))
    outputs = [*dict.fromkeys(WRITABLE.values())]
    rows = [[n, *(written_result(p, kept, name) for name in outputs)] for n, p, kept in OUTPUT]
    yield "output", list(table(["", *outputs], rows))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true", help="rewrite docs/formats.md")
    write = parser.parse_args().write
    for name, lines in tables():
        print("\n".join(lines), end="\n\n")
        if write:
            replace_block(PAGE, name, lines)


if __name__ == "__main__":
    main()
