"""Pictures in and out: one kind of pixels inside, and nothing dropped silently.

Whatever a file holds becomes 8-bit RGB planes (equal ones for grey), an optional alpha plane and
the ICC, EXIF and XMP blocks. Colours that are described otherwise become an ICC profile. What had
to change is told in `Picture.notes`; what cannot be carried is refused with an ImageError.
Resolution is carried only where it is part of EXIF.
"""

from __future__ import annotations

import io
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from PIL import Image, ImageFile

from stfcodec.errors import ImageError, StreamError
from stfcodec.imageio import colour, jpeg2000, metadata, modes, png
from stfcodec.imageio.pillow import first_line, is_pillows, open_image, reading, undecoded
from stfcodec.imageio.sources import Source, open_source
from stfcodec.limits import DEFAULT_LIMITS, Limits

# Extensions and Pillow's names. PGM and PNM are Pillow's PPM.
WRITABLE = {
    **{".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP", ".tif": "TIFF"},
    **{".tiff": "TIFF", ".bmp": "BMP", ".ppm": "PPM", ".pgm": "PPM", ".pnm": "PPM"},
}
_WITH_ALPHA = ("PNG", "WEBP", "TIFF")
_WITH_METADATA = ("PNG", "WEBP", "TIFF", "JPEG")
# TIFF stays uncompressed: through libtiff Pillow cannot write the EXIF directory.
_SAVE: dict[str, dict[str, Any]] = {
    "JPEG": {"quality": 95, "subsampling": 0},
    "WEBP": {"lossless": True, "exact": True},
}
_LENIENT = (
    "the file may be cut short unnoticed: the host program has set "
    "PIL.ImageFile.LOAD_TRUNCATED_IMAGES"
)


@dataclass(frozen=True, eq=False)
class Picture:
    """A still picture, upright.

    pixels: uint8 (H, W, 3), RGB. gray: the file was grey and the planes are equal.
    alpha: uint8 (H, W), 0 is transparent. icc, exif, xmp: raw blocks; exif begins with its TIFF
    header and holds no orientation. notes: one line for each thing changed or left out.
    """

    pixels: np.ndarray
    gray: bool = False
    alpha: np.ndarray | None = None
    icc: bytes | None = None
    exif: bytes | None = None
    xmp: bytes | None = None
    notes: tuple[str, ...] = ()


def read_picture(source: Source, limits: Limits = DEFAULT_LIMITS) -> Picture:
    """Read a file, its bytes, a Pillow image or an array.

    Arrays are uint8 (H, W) or (H, W, 1 to 4), uint16 (H, W) or bool (H, W). Raises ImageError for
    all that is not one still picture within `limits`, which are checked before anything is
    decoded. The host program's settings of Pillow and its warning filters are left alone.
    """
    notes: list[str] = []
    with ExitStack() as stack:
        stack.enter_context(reading())
        image = open_source(source, limits, stack, notes)
        _check_header(image, limits, notes)
        bits, grey_alpha = modes.bits_per_channel(image), modes.is_grey_with_alpha(image)
        colours = colour.stated(image)
        if ImageFile.LOAD_TRUNCATED_IMAGES and undecoded(image):
            notes.append(_LENIENT)
        image.load()
        unshown = colours.icc if colours else None
        blocks = metadata.read(image, limits.metadata, notes, unshown)
        image = modes.to_8_bits(image, bits, notes)
        if grey_alpha:
            image = image.convert("LA")
        if blocks.upright is not None:
            image = image.transpose(blocks.upright)
        planes = np.array(image).reshape(image.height, image.width, -1)
    gray, has_alpha = image.mode in ("L", "LA"), image.mode in ("LA", "RGBA")
    return Picture(
        pixels=planes[..., :1].repeat(3, axis=2) if gray else np.ascontiguousarray(planes[..., :3]),
        gray=gray,
        alpha=np.ascontiguousarray(planes[..., -1]) if has_alpha else None,
        icc=colour.profile(colours, blocks.icc, gray, notes),
        exif=blocks.exif,
        xmp=blocks.xmp,
        notes=tuple(notes),
    )


def _check_header(image: Image.Image, limits: Limits, notes: list[str]) -> None:
    width, height = image.size
    if not width or not height:
        raise ImageError(f"empty picture ({width}x{height})")
    if why := limits.refuses(width, height):
        raise ImageError(why)
    fp = undecoded(image)
    if image.format == "JPEG2000" and fp:
        jpeg2000.check(fp, image.size)
    frames = getattr(image, "n_frames", 1)
    if image.format == "MPO":  # a camera's photograph, with previews or a second view behind it
        notes.append(f"first of the {frames} pictures in a multi-picture JPEG taken")
    elif frames > 1:
        kind = "pages" if image.format == "TIFF" else "frames"
        raise ImageError(f"holds {frames} {kind}: extract one, only still pictures are coded")


def to_image(picture: Picture) -> Image.Image:
    """Mode L, LA, RGB or RGBA, with the metadata in `info` under Pillow's names.

    Pillow's `save` keeps the ICC profile from there in PNG and TIFF; the rest has to be handed
    to it (`image.save(path, exif=image.info["exif"])`), as `write_picture` does.
    """
    pixels = picture.pixels
    if picture.gray:
        pixels = ((pixels.sum(axis=2, dtype=np.uint16) + 1) // 3).astype(np.uint8)
    image = Image.fromarray(pixels)
    if picture.alpha is not None:
        image.putalpha(Image.fromarray(picture.alpha))
    image.info.update(metadata.pillow_info(picture.icc, picture.exif, picture.xmp))
    return image


def write_picture(picture: Picture, fp: BinaryIO, format: str = "PNG") -> tuple[str, ...]:
    """Write in one of the formats of `WRITABLE`; return notes on metadata it cannot hold.

    Raises ImageError if the format cannot hold the alpha plane, or the picture for another reason.
    `fp` need not be seekable.
    """
    name = format.upper()
    if name not in WRITABLE.values():
        known = ", ".join(dict.fromkeys(WRITABLE.values()))
        raise ImageError(f"cannot write {format}: use one of {known}")
    if picture.alpha is not None and name not in _WITH_ALPHA:
        raise ImageError(f"{name} has no transparency: write {' or '.join(_WITH_ALPHA)} instead")
    notes: tuple[str, ...] = ()
    blocks = metadata.pillow_info(picture.icc, picture.exif, picture.xmp)
    if blocks and name not in _WITH_METADATA:
        notes = (f"{name} cannot hold: {', '.join(blocks)}",)
        blocks = {}
    image, buffer = to_image(replace(picture, icc=None, exif=None, xmp=None)), io.BytesIO()
    try:
        image.save(buffer, name, **_SAVE.get(name, {}), **metadata.save_options(blocks, name))
    except Exception as error:  # whatever a plugin raises, the picture does not fit the format
        if not is_pillows(error):
            raise
        raise ImageError(f"cannot be written as {name}: {first_line(error)}") from error
    fp.write(buffer.getbuffer())  # outside: a full disk is not the picture's fault
    return notes


def output_format(path: str | Path) -> str:
    """Pillow's name of the format that an output's extension stands for."""
    suffix = Path(path).suffix.lower()
    if suffix not in WRITABLE:
        raise ImageError(f"unknown output extension {suffix!r}: use one of {', '.join(WRITABLE)}")
    return WRITABLE[suffix]


def encode_alpha(alpha: np.ndarray) -> bytes:
    """A uint8 (H, W) plane as a grey PNG."""
    buffer = io.BytesIO()
    Image.fromarray(alpha).save(buffer, "PNG", compress_level=9)
    return buffer.getvalue()


def decode_alpha(data: bytes, width: int, height: int) -> np.ndarray:
    """Undo `encode_alpha`; no more pixels are decoded than the picture's.

    Raises StreamError, as the data comes from a stream.
    """
    try:
        with reading():
            png.check_plain(data)
            image = open_image(io.BytesIO(data), ["PNG"])
            if image.mode != "L" or image.size != (width, height):
                raise ImageError(f"{image.width}x{image.height} {image.mode}, not as its picture")
            return np.array(image)
    except ImageError as error:
        raise StreamError(f"alpha plane: {error}") from error
