"""Picture files as bytes, with those blocks of metadata that each format has a place for."""

from __future__ import annotations

import io
from dataclasses import replace
from typing import Any

import numpy as np
from PIL import Image, PngImagePlugin

from stfcodec.imageio.by_format import jpeg_metadata, png, png_profiles, png_write, tiff_write
from stfcodec.imageio.by_format.tiff_write import Parts
from stfcodec.imageio.metadata import exif, extended_xmp, iptc, resolution
from stfcodec.imageio.metadata.blocks import Blocks
from stfcodec.imageio.metadata.directories import DirectoryError

WITH_PROFILE = ("PNG", "WEBP", "TIFF", "JPEG", "AVIF")
"""Formats that hold ICC profile, EXIF and XMP."""

_RESOLUTION_IN_EXIF = ("WEBP", "AVIF", "TIFF")
"""Formats without other fields for it."""

_JPEG_OPTIONS: dict[str, Any] = {"quality": 95, "subsampling": 0}
_OTHER_OPTIONS: dict[str, dict[str, Any]] = {"WEBP": {"lossless": True, "exact": True}}


def encode(image: Image.Image, name: str, blocks: Blocks) -> tuple[Parts, list[str]]:
    """The parts of a file, and the names of blocks that it cannot hold.

    image: of mode L, LA, RGB or RGBA. name: Pillow's name of a format. blocks: ICC profile, EXIF,
    XMP and IPTC. Raises ImageError, and what Pillow raises, if the format cannot hold the picture.
    """
    blocks = _with_resolution(blocks, name)
    encoders = {"PNG": _png, "JPEG": _jpeg, "TIFF": _tiff, "BMP": _bmp}
    if name in encoders:
        return encoders[name](image, blocks)
    options = _OTHER_OPTIONS.get(name, {})
    if name in WITH_PROFILE:
        options = options | _options(blocks.icc, blocks.exif, blocks.xmp)
        missing = _present(iptc=blocks.iptc)
    else:
        missing = _all_but_pixels(blocks)
    return [_saved(image, name, options)], missing


def encode_deep(samples: np.ndarray, name: str, blocks: Blocks) -> tuple[Parts, list[str]]:
    """As `encode`, of 16 bits a channel.

    samples: uint16 (H, W, 1 to 4), grey or RGB, with alpha or without. name: one of `formats.DEEP`.
    """
    blocks = _with_resolution(blocks, name)
    if name == "TIFF":
        if samples.shape[2] == 2:  # which Pillow does not read from TIFF
            samples = samples[..., [0, 0, 0, 1]]
        return tiff_write.encode(samples, blocks)
    if name == "PNG":
        pixel = Image.new(("L", "LA", "RGB", "RGBA")[samples.shape[2] - 1], (1, 1))
        parts, missing = _png(pixel, blocks)
        return [*png_write.with_samples(b"".join(parts), samples)], missing
    height, width, channels = samples.shape
    head = f"P{5 if channels == 1 else 6}\n{width} {height}\n65535\n".encode()
    return [head, samples.astype(">u2").tobytes()], _all_but_pixels(blocks)


def _with_resolution(blocks: Blocks, name: str) -> Blocks:
    """The blocks, with the resolution that EXIF states. name: Pillow's name of the format.

    EXIF is left out if it states nothing else and the format has another place for that.
    """
    if blocks.exif is None:
        return blocks
    try:
        stated = exif.resolution(blocks.exif)
        is_needed = name in _RESOLUTION_IN_EXIF or not exif.holds_only_resolution(blocks.exif)
    except DirectoryError:  # the host program may have put anything there
        return blocks
    return replace(blocks, resolution=stated, exif=blocks.exif if is_needed else None)


def _options(icc: bytes | None, exif_block: bytes | None, packet: bytes | None) -> dict[str, Any]:
    """Arguments for Pillow's `save`."""
    block = exif_block and exif.PREFIX + exif_block
    options = {"icc_profile": icc, "exif": block, "xmp": packet}
    return {name: block for name, block in options.items() if block}


def _present(**blocks: object) -> list[str]:
    """The names of blocks that are there."""
    return [name for name, block in blocks.items() if block]


def _all_but_resolution(blocks: Blocks) -> list[str]:
    return _present(icc_profile=blocks.icc, exif=blocks.exif, xmp=blocks.xmp, iptc=blocks.iptc)


def _all_but_pixels(blocks: Blocks) -> list[str]:
    stated = None if blocks.exif else blocks.resolution  # which EXIF states, too
    return _all_but_resolution(blocks) + _present(resolution=stated)


def _saved(image: Image.Image, name: str, options: dict[str, Any]) -> memoryview:
    buffer = io.BytesIO()
    image.save(buffer, name, **options)
    return buffer.getbuffer()


def _png(image: Image.Image, blocks: Blocks) -> tuple[Parts, list[str]]:
    text = PngImagePlugin.PngInfo()
    if blocks.xmp:
        text.add_itxt("XML:com.adobe.xmp", blocks.xmp)
    if blocks.iptc:
        content = png_profiles.text("iptc", iptc.resources(blocks.iptc))
        text.add_text(png_profiles.KEYWORD + "iptc", content, zip=True)
    data = _saved(image, "PNG", {"pnginfo": text} | _options(blocks.icc, blocks.exif, None))
    if blocks.resolution is None:
        return [data], []
    field = resolution.png_field(blocks.resolution)
    return (png.with_chunk(data, b"pHYs", field), []) if field else ([data], ["resolution"])


def _tiff(image: Image.Image, blocks: Blocks) -> tuple[Parts, list[str]]:
    return tiff_write.encode(np.asarray(image), blocks)


def _jpeg(image: Image.Image, blocks: Blocks) -> tuple[Parts, list[str]]:
    missing, packet, further = [], blocks.xmp, b""
    exif_block, icc, record = blocks.exif, blocks.icc, blocks.iptc
    if icc and len(icc) > jpeg_metadata.MAX_ICC:
        missing.append("icc_profile")
        icc = None
    if exif_block and len(exif.PREFIX + exif_block) > jpeg_metadata.MAX_EXIF:
        missing.append("exif")
        exif_block = None
    if packet and len(packet) > jpeg_metadata.MAX_XMP:
        halves = extended_xmp.split(packet, jpeg_metadata.MAX_XMP)
        packet, extension = halves or (None, b"")
        missing += [] if halves else ["xmp"]
        further += b"".join(map(jpeg_metadata.xmp_segment, extended_xmp.segments(extension)))
    if record and len(record) > jpeg_metadata.MAX_IPTC:
        missing.append("iptc")
    elif record:
        further += jpeg_metadata.iptc_segment(record)
    options = _JPEG_OPTIONS | _options(icc, exif_block, packet)
    data = _saved(image, "JPEG", options | ({"extra": further} if further else {}))
    if blocks.resolution and not jpeg_metadata.with_resolution(data, blocks.resolution):
        missing += _present(resolution=exif_block is None)
    return [data], missing


def _bmp(image: Image.Image, blocks: Blocks) -> tuple[Parts, list[str]]:
    option = resolution.bmp_option(blocks.resolution) if blocks.resolution else None
    missing = _all_but_resolution(blocks) + _present(resolution=blocks.resolution and not option)
    return [_saved(image, "BMP", {"dpi": option} if option else {})], missing
