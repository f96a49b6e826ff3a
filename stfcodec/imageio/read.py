"""Reads a `Picture` from a file, its bytes, a Pillow image or an array."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack

import numpy as np
from PIL import Image, ImageFile

from stfcodec.errors import ImageError
from stfcodec.imageio import deep, modes
from stfcodec.imageio.by_format import avif, jpeg2000, tiff
from stfcodec.imageio.colours import descriptions, profiles
from stfcodec.imageio.metadata import reading
from stfcodec.imageio.picture import Picture, to_8_bits
from stfcodec.imageio.pillow import errors_as_image_errors, undecoded_file
from stfcodec.imageio.sources import Source, open_source, planes_of
from stfcodec.limits import DEFAULT_LIMITS, Limits

_LOADS_TRUNCATED = (
    "the file may be cut short unnoticed: the host program has set "
    "PIL.ImageFile.LOAD_TRUNCATED_IMAGES"
)

_TRANSPOSED: dict[Image.Transpose, Callable[[np.ndarray], np.ndarray]] = {
    Image.Transpose.FLIP_LEFT_RIGHT: lambda planes: planes[:, ::-1],
    Image.Transpose.FLIP_TOP_BOTTOM: lambda planes: planes[::-1],
    Image.Transpose.ROTATE_90: lambda planes: np.rot90(planes, 1),
    Image.Transpose.ROTATE_180: lambda planes: np.rot90(planes, 2),
    Image.Transpose.ROTATE_270: lambda planes: np.rot90(planes, 3),
    Image.Transpose.TRANSPOSE: lambda planes: planes.swapaxes(0, 1),
    Image.Transpose.TRANSVERSE: lambda planes: np.rot90(planes, 2).swapaxes(0, 1),
}


def read_picture(source: Source, limits: Limits = DEFAULT_LIMITS) -> Picture:
    """Read a file (a path, bytes or an open file), a Pillow image or an array.

    Arrays are uint8 or uint16, (H, W) or (H, W, 1 to 4), or bool (H, W). `limits` are checked
    before anything is decoded. Raises ImageError if the source is not one still picture within
    `limits`. Neither Pillow's settings nor the warning filters of the host program are changed.
    """
    notes: list[str] = []
    if isinstance(source, np.ndarray):
        planes = planes_of(source)
        if reason := limits.refuses(planes.shape[1], planes.shape[0]):
            raise ImageError(reason)
        return _picture(planes, notes)
    with ExitStack() as stack:
        stack.enter_context(errors_as_image_errors())
        image = open_source(source, limits, stack, notes)
        _check_header(image, limits, notes)
        # The file's depth, modes, crop and colour description are lost once pixels are decoded.
        bits, is_grey_with_alpha = modes.bits_per_channel(image), modes.is_grey_with_alpha(image)
        file = undecoded_file(image) if image.format == "AVIF" else None
        crop = avif.crop(file, image.size, notes) if file else None
        description = descriptions.description_in(image)
        found = reading.blocks_in(image, limits.metadata)
        if ImageFile.LOAD_TRUNCATED_IMAGES and undecoded_file(image):
            notes.append(_LOADS_TRUNCATED)
        deep_planes = deep.samples(image, bits, image is not source, notes)
        if deep_planes is None:
            image.load()
        profile = description.profile if description else None
        size = (crop[2] - crop[0], crop[3] - crop[1]) if crop else image.size
        blocks = reading.read_metadata(image, found, size, limits.metadata, notes, profile)
        if deep_planes is None:
            image = modes.to_8_bits(image, bits, notes)
            if is_grey_with_alpha:
                image = image.convert("LA")
            if crop is not None:
                image = image.crop(crop)
            planes = np.array(image).reshape(image.height, image.width, -1)
        else:
            planes = deep_planes
        if blocks.transpose is not None:
            planes = _TRANSPOSED[blocks.transpose](planes)
    icc = descriptions.profile_for(description, blocks.icc, planes.shape[2] < 3, notes)
    return _picture(planes, notes, icc, blocks)


def _picture(
    planes: np.ndarray,
    notes: list[str],
    icc: bytes | None = None,
    blocks: reading.Metadata | None = None,
) -> Picture:
    """planes: uint8 or uint16 (H, W, 1 to 4), grey or RGB, with alpha or without."""
    gray, alpha = planes.shape[2] < 3, _alpha(planes, notes)
    return Picture(
        pixels=planes[..., :1].repeat(3, axis=2) if gray else np.ascontiguousarray(planes[..., :3]),
        gray=gray,
        alpha=alpha,
        icc=profiles.fitted(icc, gray, notes),
        exif=blocks.exif if blocks else None,
        xmp=blocks.xmp if blocks else None,
        iptc=blocks.iptc if blocks else None,
        notes=tuple(notes),
    )


def _alpha(planes: np.ndarray, notes: list[str]) -> np.ndarray | None:
    """The alpha plane in 8 bits, if there is one."""
    if planes.shape[2] in (1, 3):
        return None
    alpha = np.ascontiguousarray(planes[..., -1])
    if not alpha.any():
        notes.append("transparent everywhere: nothing of it can be seen, colours are not kept")
    if alpha.dtype != np.uint8 and (alpha % 257).any():
        notes.append("16 bits of alpha reduced to 8")
    return to_8_bits(alpha)


def _check_header(image: Image.Image, limits: Limits, notes: list[str]) -> None:
    """Raise ImageError if the size is over the limits or the file holds several pictures."""
    width, height = image.size
    if not width or not height:
        raise ImageError(f"empty picture ({width}x{height})")
    if reason := limits.refuses(width, height):
        raise ImageError(reason)
    file = undecoded_file(image)
    if image.format == "JPEG2000" and file:
        jpeg2000.check_tiles(file, image.size)
    frames = getattr(image, "n_frames", 1)
    if image.format == "MPO":  # a camera's photograph, followed by previews or a second view
        notes.append(f"first of the {frames} pictures in a multi-picture JPEG taken")
    elif frames > 1 and image.format == "TIFF" and file and tiff.pages(file) <= 1:
        notes.append(f"not carried: {frames - 1} reduced copies or masks in the TIFF")
    elif frames > 1:
        kind = "pages" if image.format == "TIFF" else "frames"
        raise ImageError(f"holds {frames} {kind}: extract one, only still pictures are coded")
