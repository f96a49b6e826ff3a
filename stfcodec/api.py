"""The Python API: pictures to bytes and back. Importing this module imports torch."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import PIL.Image

from stfcodec import container, imageio
from stfcodec.codec import codec_for
from stfcodec.container import StreamInfo
from stfcodec.errors import ImageError
from stfcodec.files import read_bytes
from stfcodec.imageio import Picture
from stfcodec.models import registry, store
from stfcodec.models.build import build
from stfcodec.models.registry import DEFAULT_MODEL, DEFAULT_QUALITY, ModelInfo
from stfcodec.models.weights import load
from stfcodec.target import Target
from stfcodec.target import encode as encode_to

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
) -> bytes:
    """Codes a picture as an .stf stream.

    image: a PIL image, a path, a uint8 array (H, W, 3), or a `Picture` from `stfcodec.imageio`.
    quality: 1 (smallest) to 6 (best); fractions for the variable-rate models.
    device: "auto", "cpu" or "cuda". weights: a file to use instead of the embedded one.
    effort: 0 to 100 steps of a search for latents that code better, see docs/effort.md.
    target: a size or a PSNR to aim at; `quality` then does not count.

    Raises ImageError (the picture cannot be read or coded), UsageError (unknown model, quality,
    device or effort), WeightsError (none for this model) and StfError (target out of reach).
    """
    info = registry.by_name(model)
    quality = registry.check_quality(quality, info)
    effort = registry.check_effort(effort)
    picture = image if isinstance(image, Picture) else imageio.read_picture(image)
    try:
        codec = codec_for(info, quality, device, _path(weights), searches=effort > 0)
        if target is not None:
            return container.write(encode_to(codec, picture, target, effort))
        return container.write(codec.encode(picture, quality, effort))
    except ValueError as error:
        raise ImageError(f"this picture does not fit the format: {error}") from error


def decode(
    data: bytes | str | Path, device: str = "auto", weights: str | Path | None = None
) -> PIL.Image.Image:
    """The picture in an .stf stream (bytes, or the path of a file), as a PIL image.

    Mode L, LA, RGB or RGBA as the source had it; ICC profile, EXIF and XMP are in `.info`.
    Raises StreamError (not a stream, or damaged) and WeightsError (weights missing or others).
    """
    return imageio.to_image(decode_picture(data, device, weights))


def decode_picture(
    data: bytes | str | Path, device: str = "auto", weights: str | Path | None = None
) -> Picture:
    """As `decode`, with the picture's planes and metadata as they were coded."""
    stream = container.read(_bytes(data))
    info = registry.by_id(stream.header.model_id)
    return codec_for(info, stream.header.quality, device, _path(weights)).decode(stream)


def info(data: bytes | str | Path) -> StreamInfo:
    """What an .stf stream says about itself; needs no weights. Raises StreamError."""
    return container.inspect(_bytes(data))


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
    path = _path(weights) or store.find(info, registry.check_quality(quality, info))
    return load(info, path)


def list_models() -> list[ModelInfo]:
    """Every registered model."""
    return list(registry.MODELS)


def _path(weights: str | Path | None) -> Path | None:
    return None if weights is None else Path(weights)


def _bytes(data: bytes | str | Path) -> bytes:
    return read_bytes(data) if isinstance(data, str | Path) else bytes(data)
