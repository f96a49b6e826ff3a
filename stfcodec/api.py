"""The Python API: pictures to bytes and back. Importing this module imports torch."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import PIL.Image

from stfcodec import container, imageio
from stfcodec.codec import codec_for
from stfcodec.container import StreamInfo
from stfcodec.errors import ImageError, UsageError
from stfcodec.files import read_bytes
from stfcodec.imageio import Picture
from stfcodec.limits import DEFAULT_LIMITS, Limits
from stfcodec.models import locate, registry
from stfcodec.models.build import build
from stfcodec.models.registry import DEFAULT_MODEL, DEFAULT_QUALITY, ModelInfo
from stfcodec.models.weights import load
from stfcodec.rate_control import Target
from stfcodec.rate_control import encode as encode_to

if TYPE_CHECKING:
    from torch import nn

Source = PIL.Image.Image | str | Path | np.ndarray | Picture


def encode(
    image: Source,
    model: str = DEFAULT_MODEL,
    quality: float = DEFAULT_QUALITY,
    device: str = "auto",
    weights: str | Path | None = None,
    effort: int = 0,
    target: Target | None = None,
    limits: Limits = DEFAULT_LIMITS,
    verify: bool = False,
) -> bytes:
    """Codes a picture as an .stf stream.

    image: a PIL image, a path, a uint8 array (H, W, 3), or a `Picture` from `stfcodec.imageio`.
    quality: 1 (smallest) to 6 (best); fractions for the variable-rate models.
    device: "auto", "cpu" or "cuda". weights: a file to use instead of the embedded one.
    effort: 0 to 100 steps of a search for latents that code better, see docs/effort.md.
    target: a size or a PSNR to aim at; `quality` then does not count.
    limits: what is accepted of the picture. verify: decode the symbols again before returning.

    Raises ImageError (the picture cannot be read, or is over a limit), UsageError (unknown model,
    quality, device or effort), WeightsError (none for this model) and StfError (target out of
    reach, or not verified).
    """
    info = registry.by_name(model)
    quality = registry.check_quality(quality, info)
    effort = registry.check_effort(effort)
    if not isinstance(target, Target | None):
        raise UsageError(f"{target!r} is no target: give stfcodec.Target(kind, value)")
    picture = image if isinstance(image, Picture) else imageio.read_picture(image, limits)
    _check(picture, limits)
    codec = codec_for(info, quality, device, _path(weights), searches=effort > 0)
    if target is None:
        stream = codec.encode(picture, quality, effort)
    else:
        stream = encode_to(codec, picture, target, effort)
    data = container.write(stream)
    if verify:
        codec.verify(container.read(data, limits))
    return data


def _check(picture: Picture, limits: Limits) -> None:
    """A picture may have been made by hand. Raises ImageError."""
    pixels, alpha = picture.pixels, picture.alpha
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3 or not pixels.size:
        raise ImageError(f"pixels are {pixels.dtype} {pixels.shape}: give uint8 (H, W, 3)")
    if alpha is not None and (alpha.dtype != np.uint8 or alpha.shape != pixels.shape[:2]):
        raise ImageError(f"alpha is {alpha.dtype} {alpha.shape}: give uint8 {pixels.shape[:2]}")
    height, width = pixels.shape[:2]
    if (refusal := limits.refuses(width, height)) is not None:
        raise ImageError(refusal)
    for name in ("icc", "exif", "xmp"):
        block = getattr(picture, name)
        if block is not None and len(block) > container.MAX_METADATA:
            raise ImageError(
                f"{name} has {len(block)} bytes, the format holds {container.MAX_METADATA}: "
                f"leave it out"
            )


def decode(
    data: bytes | str | Path,
    device: str = "auto",
    weights: str | Path | None = None,
    limits: Limits = DEFAULT_LIMITS,
) -> PIL.Image.Image:
    """The picture in an .stf stream (bytes, or the path of a file), as a PIL image.

    Mode L, LA, RGB or RGBA as the source had it; ICC profile, EXIF and XMP are in `.info`.
    Raises StreamError (not a stream, damaged, or over a limit) and WeightsError (weights missing
    or others).
    """
    return imageio.to_image(decode_picture(data, device, weights, limits))


def decode_picture(
    data: bytes | str | Path,
    device: str = "auto",
    weights: str | Path | None = None,
    limits: Limits = DEFAULT_LIMITS,
) -> Picture:
    """As `decode`, with the picture's planes and metadata as they were coded."""
    stream = container.read(_bytes(data, limits), limits)
    header, path = stream.header, _path(weights)
    needed = None if path else header.fingerprint
    model = registry.by_id(header.model_id)
    quality = registry.check_stored_quality(header.quality, model)
    return codec_for(model, quality, device, path, fingerprint=needed).decode(stream)


def info(data: bytes | str | Path) -> StreamInfo:
    """What an .stf stream says about itself; needs no weights. Raises StreamError."""
    return container.inspect(_bytes(data, DEFAULT_LIMITS))


def build_model(name: str) -> nn.Module:
    """The architecture of a registered model with initial weights, ready to train.

    `forward(x, quality=None)` takes (B, 3, H, W) in 0…1, sides multiples of 64, and returns
    {"x_hat": (B, 3, H, W), "likelihoods": {"y": …, "z": …}}. Raises UsageError.
    """
    return build(registry.by_name(name))


def load_model(
    name: str = DEFAULT_MODEL,
    weights: str | Path | None = None,
    quality: float = DEFAULT_QUALITY,
) -> nn.Module:
    """A registered model with weights, in evaluation mode on the CPU.

    weights: a file; None takes the embedded or installed one (for models with one file per
    quality, that of `quality`). Raises UsageError and WeightsError.
    """
    info = registry.by_name(name)
    path = _path(weights) or locate.find(info, registry.check_quality(quality, info))
    return load(info, path)


def list_models() -> list[ModelInfo]:
    """Every registered model."""
    return list(registry.MODELS)


def _path(weights: str | Path | None) -> Path | None:
    return None if weights is None else Path(weights)


def _bytes(data: bytes | str | Path, limits: Limits) -> bytes:
    if isinstance(data, bytes | bytearray | memoryview):
        return bytes(data)
    if not isinstance(data, str | Path):
        raise UsageError(f"a {type(data).__name__} is no stream: give bytes or a path")
    return read_bytes(data, limits.bytes, container.check_signature)
