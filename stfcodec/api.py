"""The Python API: pictures to bytes and back. Importing this module imports torch."""

from __future__ import annotations

import io
from fractions import Fraction
from pathlib import Path
from typing import BinaryIO

import numpy as np
import PIL.Image
from torch import nn

from stfcodec import container, files, imageio
from stfcodec.bits import BitAllocation
from stfcodec.codec import Codec, codec_for
from stfcodec.container import Stream, StreamInfo
from stfcodec.errors import ImageError, StfError, StreamError, UsageError
from stfcodec.imageio import Picture
from stfcodec.limits import DEFAULT_LIMITS, MAX_METADATA, Limits
from stfcodec.models import locate, registry
from stfcodec.models.build import build
from stfcodec.models.registry import DEFAULT_MODEL, DEFAULT_QUALITY, ModelInfo
from stfcodec.models.weights import load
from stfcodec.rate_control import Target, encode_to_target
from stfcodec.settings import EncodeSettings
from stfcodec.view import WHOLE, View

ImageSource = Picture | imageio.Source
"""A picture: the path of a file (str or Path), a binary file object, which is read from its start
where it can seek, the bytes of a picture file, a PIL image, a `Picture`, or a uint8 or uint16 array
of shape (H, W, 3) for RGB, (H, W, 4) for RGB and alpha or (H, W) for grey."""

StreamSource = bytes | bytearray | memoryview | str | Path | BinaryIO
"""An .stf stream: its bytes, the path of a file (str or Path), or a binary file object, which is
read from its start where it can seek."""


def encode(
    image: ImageSource,
    *,
    model: str = DEFAULT_MODEL,
    quality: float = DEFAULT_QUALITY,
    device: str = "auto",
    weights: str | Path | None = None,
    effort: int = 0,
    target: Target | None = None,
    limits: Limits = DEFAULT_LIMITS,
    verify: bool = False,
    strip: bool = False,
) -> bytes:
    """Code a picture as an .stf stream, and return the bytes of the file.

    image: the picture to code, see `ImageSource`.
    model: the name of a model, one of `list_models`.
    quality: 1 (smallest file) to 6 (best picture). `wacnn-lite` and `stf-lite` take fractions
    too, down to thousandths.
    device: where the transforms run: "cpu", "cuda", or "auto", which is the CPU.
    weights: the path of a weights file to use in place of the embedded or installed one.
    effort: iterations of the refinement, 0 to 100: a better file for more time (docs/effort.md).
    target: a size or a PSNR to aim at, in place of `quality`. Takes several encodes.
    limits: the largest picture that is accepted.
    verify: whether to decode the symbols of the stream before it is returned.
    strip: whether to leave out ICC profile, EXIF, XMP and IPTC.

    Transparency and metadata are kept. An alpha plane that is 255 everywhere is left out. Where
    alpha is 0, colours are not kept. Files and arrays of 16 bits a channel are coded from all their
    bits.

    Raises ImageError (no picture, one of an unsupported kind, or one over a limit), UsageError
    (unknown model or device, quality or effort out of range), WeightsError (no weights for this
    model and quality) and StfError (target out of reach, or not verified).
    """
    settings = EncodeSettings(
        model=model,
        quality=quality,
        device=device,
        weights=_path(weights),
        effort=effort,
        target=target,
        limits=limits,
        verify=verify,
        strip=strip,
    )
    return encode_with(image, settings)


def encode_with(image: ImageSource, settings: EncodeSettings) -> bytes:
    """As `encode`, with settings that are checked already."""
    limits, target = settings.limits, settings.target
    picture = image if isinstance(image, Picture) else imageio.read_picture(image, limits)
    if settings.strip:
        picture = imageio.without_metadata(picture)
    _check(picture, limits)
    picture = imageio.without_hidden_colours(picture)
    codec = encoding_codec(settings)
    if target is None:
        stream = codec.encode(picture, settings.quality, settings.effort)
    else:
        stream = encode_to_target(codec, picture, target, settings.effort)
    data = container.write(stream)
    if settings.verify:
        try:
            codec.verify(container.read(data, limits))
        except StreamError as error:
            raise StfError(
                f"the coded picture does not decode ({error}): nothing was written; this is a bug "
                f"or faulty hardware, please report it"
            ) from error
    return data


def encoding_codec(settings: EncodeSettings) -> Codec:
    """The codec that these settings encode with, loaded once. Raises UsageError, WeightsError."""
    return codec_for(
        settings.model_info,
        settings.quality,
        settings.device,
        settings.weights,
        refines=settings.effort > 0,
    )


def _check(picture: Picture, limits: Limits) -> None:
    """Raises ImageError for planes or metadata that cannot be coded: a Picture may be hand-made."""
    pixels, alpha = picture.pixels, picture.alpha
    is_known = pixels.dtype in (np.uint8, np.uint16) and pixels.ndim == 3 and pixels.shape[2] == 3
    if not is_known or not pixels.size:
        wanted = "give uint8 or uint16 (H, W, 3)"
        raise ImageError(f"pixels are {pixels.dtype} {pixels.shape}: {wanted}")
    if alpha is not None and (alpha.dtype != np.uint8 or alpha.shape != pixels.shape[:2]):
        raise ImageError(f"alpha is {alpha.dtype} {alpha.shape}: give uint8 {pixels.shape[:2]}")
    height, width = pixels.shape[:2]
    if (refusal := limits.refuses(width, height)) is not None:
        raise ImageError(refusal)
    for name in ("icc", "exif", "xmp", "iptc"):
        block = getattr(picture, name)
        if block is not None and len(block) > MAX_METADATA:
            raise ImageError(
                f"{name} has {len(block)} bytes, the format holds {MAX_METADATA}: leave it out"
            )


def decode(
    data: StreamSource,
    *,
    device: str = "auto",
    weights: str | Path | None = None,
    limits: Limits = DEFAULT_LIMITS,
    background: str | None = None,
    strip: bool = False,
    crop: tuple[int, int, int, int] | None = None,
    scale: Fraction | float = 1,
) -> PIL.Image.Image:
    """Decode an .stf stream to a PIL image of 8 bits a channel.

    data: the stream to decode, see `StreamSource`.
    device: where the transforms run: "cpu", "cuda", or "auto", which is the CPU.
    weights: the path of a weights file to use in place of the one that the stream names.
    limits: the largest stream and picture that are accepted.
    background: a colour to put a transparent picture on: a CSS name, #rgb or #rrggbb, in sRGB.
    strip: whether to leave out ICC profile, EXIF, XMP and IPTC.
    crop: left, top, width and height in pixels of what is decoded; None for the whole picture. Time
    and memory of the synthesis follow it.
    scale: 1/2, 1/4, 1/8 or 1/16 for a smaller picture, each of whose pixels is a mean.
    `wacnn-lite` takes much less time for 1/8 and 1/16.

    The mode is L, LA, RGB or RGBA, as the source had it, without A if it was opaque everywhere.
    `image.info` has "icc_profile", "exif", "xmp" and "dpi" where the stream has them. Of these
    Pillow's `save` writes the profile, into PNG and TIFF; the rest has to be passed to it, as in
    `image.save(path, exif=image.info["exif"])`.

    Raises StreamError (not a stream, damaged, or over a limit), WeightsError (the weights that the
    stream needs are not here), UsageError (unknown device or colour, another scale, a crop beyond
    the picture) and StfError (a file that cannot be read).
    """
    picture = decode_picture(
        data,
        device=device,
        weights=weights,
        limits=limits,
        background=background,
        strip=strip,
        crop=crop,
        scale=scale,
        depth=8,
    )
    return imageio.to_image(picture)


def decode_picture(
    data: StreamSource,
    *,
    device: str = "auto",
    weights: str | Path | None = None,
    limits: Limits = DEFAULT_LIMITS,
    background: str | None = None,
    strip: bool = False,
    crop: tuple[int, int, int, int] | None = None,
    scale: Fraction | float = 1,
    depth: int | None = None,
) -> Picture:
    """Decode an .stf stream to a `Picture`, whose planes and metadata are apart.

    depth: bits a channel, 8 or 16; None for those that the source had. 16 bits hold what the
    synthesis computes, of any source.

    The other arguments and the errors are those of `decode`.
    """
    view = View(crop, scale)
    if depth not in (None, 8, 16):
        raise UsageError(f"depth {depth!r}: choose 8 or 16")
    if background is not None:
        imageio.parse_colour(background)  # refused before the work of decoding
    stream = read_stream(data, limits)
    view.spans(stream.header.width, stream.header.height)  # refused before weights are loaded
    picture = decoding_codec(stream, device, weights).decode(stream, view, depth)
    if view != WHOLE:
        picture = imageio.with_true_size(picture)
    picture = imageio.with_fitted_profile(picture)
    if background is not None:
        picture = imageio.on_background(picture, background)
    return imageio.without_metadata(picture) if strip else picture


def verify_stream(
    data: StreamSource,
    *,
    weights: str | Path | None = None,
    limits: Limits = DEFAULT_LIMITS,
) -> None:
    """Decode all of an .stf stream but the pixels: the symbols, against their checksum, and alpha.

    Arguments and errors are those of `decode`.
    """
    stream = read_stream(data, limits)
    decoding_codec(stream, "cpu", weights).verify(stream)


def bit_allocation(
    data: StreamSource,
    *,
    device: str = "auto",
    weights: str | Path | None = None,
    limits: Limits = DEFAULT_LIMITS,
) -> BitAllocation:
    """Say where in the picture the bits of an .stf stream go. Decodes the symbols, but no pixels.

    Arguments and errors are those of `decode`.
    """
    content = _bytes(data, limits)
    stream = container.read(content, limits)
    codec = decoding_codec(stream, device, weights)
    return BitAllocation(*codec.bits_per_position(stream), container.inspect(content))


def info(data: StreamSource) -> StreamInfo:
    """Return what an .stf stream says about itself, after checking that it is intact.

    data: the stream, see `StreamSource`.

    Needs no weights. Raises StreamError (not a stream, or damaged) and StfError (a file that cannot
    be read).
    """
    return container.inspect(_bytes(data, DEFAULT_LIMITS))


def build_model(name: str) -> nn.Module:
    """Build a model with initial weights, ready to train.

    name: the name of a model, one of `list_models`.

    The model is a `torch.nn.Module`. `model(x, quality=6.0)` takes pictures x, float (B, 3, H, W)
    in 0…1, whose sides are multiples of 64. It returns a dictionary: "x_hat" is the decoded
    pictures, (B, 3, H, W), "likelihoods" a dictionary with the probabilities of "y" and of "z". The
    bits that coding would take are the sum of their −log2. Raises UsageError for an unknown name.
    """
    return build(registry.by_name(name))


def load_model(
    name: str = DEFAULT_MODEL,
    *,
    weights: str | Path | None = None,
    quality: float = DEFAULT_QUALITY,
) -> nn.Module:
    """Build a model with its trained weights, in evaluation mode on the CPU.

    name: the name of a model, one of `list_models`.
    weights: the path of a weights file; None takes the embedded or installed one.
    quality: 1 to 6. It chooses the weights of `wacnn` and `stf`, which have a file for each.

    The model is called as that of `build_model`. Raises UsageError (unknown name, or no such
    quality) and WeightsError (weights missing or damaged).
    """
    model = registry.by_name(name)
    path = _path(weights) or locate.find(model, registry.check_quality(quality, model))
    return load(model, path)


def list_models() -> list[ModelInfo]:
    """Return every model, whether its weights are here or not."""
    return list(registry.MODELS)


def read_stream(data: StreamSource, limits: Limits = DEFAULT_LIMITS) -> Stream:
    """What a stream holds, its latents still coded. Raises StreamError, UsageError, StfError."""
    return container.read(_bytes(data, limits), limits)


def decoding_codec(stream: Stream, device: str, weights: str | Path | None) -> Codec:
    """The codec that a stream needs, loaded once. Raises StreamError, UsageError, WeightsError."""
    header, path = stream.header, _path(weights)
    needed = None if path else header.fingerprint
    model = registry.by_id(header.model_id)
    quality = registry.check_stored_quality(header.quality, model)
    return codec_for(model, quality, device, path, fingerprint=needed)


def _path(weights: str | Path | None) -> Path | None:
    return None if weights is None else Path(weights)


def _bytes(data: StreamSource, limits: Limits) -> bytes:
    """The stream's bytes. Raises StreamError, UsageError, and StfError for unreadable files."""
    if isinstance(data, bytes | bytearray | memoryview):
        return bytes(data)
    if isinstance(data, io.TextIOBase):
        raise UsageError("opened as text: open the file in binary mode")
    try:
        if isinstance(data, str | Path):
            return files.read_bytes(data, limits.bytes, container.check_signature)
        if hasattr(data, "read"):
            return files.read_file_object(data, limits.bytes, container.check_signature)
    except files.TooLongError as error:
        raise StreamError(str(error)) from error
    kind = type(data).__name__
    raise UsageError(f"a {kind} is no stream: give bytes, a path or a binary file object")
