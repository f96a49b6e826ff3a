"""Codes a picture with our models and with other codecs at the same size, and measures both."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch
from PIL import Image

from stfcodec import api, imageio, metrics
from stfcodec.compare import others
from stfcodec.compare.others import SizeMatcher
from stfcodec.compare.results import Comparison, ImageFile, Point, Result, Scores
from stfcodec.errors import StfError
from stfcodec.imageio import Picture
from stfcodec.limits import DEFAULT_LIMITS, Limits
from stfcodec.models import registry
from stfcodec.rate_control import Target
from stfcodec.settings import EncodeSettings

_PACKAGES = ("pytorch-msssim", "ssimulacra2")
_SMALL_SIDE = 64
_WEBP_MAX_SIDE = 16383
_OF_METADATA = "not carried"
"""How notes begin on what a stream has no place for. No pixel depends on that."""
_SSIMULACRA2_MAX_PIXELS = 2**23
"""Larger pictures would take minutes and more than 4 GB for each score."""


@dataclass(frozen=True)
class Options:
    """What is compared, and on what the models run."""

    models: tuple[str, ...]
    qualities: tuple[float, ...]
    effort: int = 0
    device: str = "auto"
    weights: Path | None = None
    limits: Limits = DEFAULT_LIMITS

    def settings(self, model: str, quality: float) -> EncodeSettings:
        """Raises UsageError for a model or quality that does not exist."""
        return EncodeSettings(
            model=model,
            quality=quality,
            device=self.device,
            weights=self.weights,
            effort=self.effort,
            limits=self.limits,
        )

    @property
    def decoding(self) -> dict[str, Any]:
        """The arguments of `api.decode_picture` and `api.bit_allocation`."""
        return {"device": self.device, "weights": self.weights, "limits": self.limits}


_Unscored = tuple[Callable[..., Result], np.ndarray]
"""A Result that waits for its scores, and the decoded pixels."""


def check(options: Options) -> None:
    """Raise UsageError or WeightsError for what the options ask for and is not here."""
    for model in options.models:
        for quality in options.qualities:
            _load(options.settings(model, quality), options)


def _load(settings: EncodeSettings, options: Options) -> None:
    """Code a small picture, so that what follows loads nothing."""
    pixels = np.zeros((_SMALL_SIDE, _SMALL_SIDE, 3), np.uint8)
    api.decode_picture(api.encode_with(pixels, settings), **options.decoding)


def missing_packages() -> list[str]:
    """The packages, by their names for pip, without which a metric is not measured."""
    return [name for name in _PACKAGES if find_spec(name.replace("-", "_")) is None]


def steps(options: Options) -> int:
    """How often `compare` calls `advance` where every codec can code the picture."""
    return len(options.qualities) * 2 * (len(options.models) + len(others.available()[0]))


def compare(
    name: str,
    picture: Picture,
    source_bytes: int,
    options: Options,
    advance: Callable[[], object] = lambda: None,
) -> Comparison:
    """Code and measure a picture at every operating point.

    A transparent picture is compared on white. The files hold pixels and the ICC profile, no other
    metadata. Raises StfError where a model cannot code the picture, WeightsError, UsageError.
    """
    notes = [note for note in picture.notes if not note.startswith(_OF_METADATA)]
    if picture.alpha is not None:
        picture = imageio.on_background(picture, "white")
        notes.append("transparency is compared on white")
    # WebP and AVIF have RGB only, which a profile of grey does not fit.
    profile = None if picture.gray else picture.icc
    if picture.pixels.dtype != np.uint8:
        picture = replace(picture, pixels=imageio.to_8_bits(picture.pixels))
        notes.append("16 bits a channel are compared in 8")
    picture = replace(picture, icc=profile, exif=None, xmp=None, iptc=None, notes=())
    image = imageio.to_image(picture)
    matchers = [SizeMatcher(codec, image) for codec in others.available()[0]]
    for model in options.models:  # memory and kernels for pictures of this size
        settings = options.settings(model, options.qualities[0])
        api.decode_picture(api.encode_with(picture, settings), **options.decoding)
    points = []
    for quality in options.qualities:
        unscored: list[_Unscored] = []
        size = 0
        for model in options.models:
            settings = _settings(picture, options.settings(model, quality), size)
            _load(settings, options)
            data, seconds = _timed(partial(api.encode_with, picture, settings))
            unscored.append(_ours(picture, data, seconds, settings, options))
            size = size or len(data)
            advance()
        for matcher in list(matchers):
            try:
                unscored.append(_other(picture, matcher, size))
            except StfError as error:
                notes.append(str(error))
                matchers.remove(matcher)
            advance()
        points.append(Point(quality, _scored(picture.pixels, unscored, advance)))
    height, width = picture.pixels.shape[:2]
    notes += _unmatched(points)
    source = _lossless(image)
    return Comparison(name, width, height, source_bytes, source, tuple(points), tuple(notes))


def _settings(picture: Picture, settings: EncodeSettings, size: int) -> EncodeSettings:
    """The settings, with the quality that gives about `size` bytes, unless that is 0 or the model
    has whole qualities only."""
    if not size or not settings.model_info.variable_rate:
        return settings
    try:
        data = api.encode_with(picture, replace(settings, target=Target("size", size)))
    except StfError:  # even the lowest quality takes more bytes
        return replace(settings, quality=registry.MIN_QUALITY)
    return replace(settings, quality=api.info(data).quality)


def _ours(
    picture: Picture, data: bytes, seconds: float, settings: EncodeSettings, options: Options
) -> _Unscored:
    decoded, decode_seconds = _timed(lambda: api.decode_picture(data, **options.decoding))
    asked = f"-q {settings.quality:g}" + (f" -e {settings.effort}" if settings.effort else "")
    result = partial(
        Result,
        codec=settings.model,
        ours=True,
        settings=asked,
        size=len(data),
        bpp=_bpp(data, picture),
        encode_seconds=seconds,
        decode_seconds=decode_seconds,
        image=_lossless(imageio.to_image(decoded)),
        bits=api.bit_allocation(data, **options.decoding).positions,
    )
    return result, decoded.pixels


def _other(picture: Picture, matcher: SizeMatcher, size: int) -> _Unscored:
    codec = matcher.codec
    level, data = matcher.match(size)
    _, encode_seconds = _timed(lambda: codec.encode(matcher.image, level))
    pixels, decode_seconds = _timed(lambda: others.decode(data))
    result = partial(
        Result,
        codec=codec.name,
        ours=False,
        settings=codec.describe(level),
        size=len(data),
        bpp=_bpp(data, picture),
        encode_seconds=encode_seconds,
        decode_seconds=decode_seconds,
        image=ImageFile(codec.mime, data),
        bits=None,
    )
    return result, pixels


def _timed(run: Callable[[], Any]) -> tuple[Any, float]:
    start = perf_counter()
    return run(), perf_counter() - start


def _bpp(data: bytes, picture: Picture) -> float:
    height, width = picture.pixels.shape[:2]
    return 8 * len(data) / float(height * width)


def _scored(
    source: np.ndarray, unscored: Sequence[_Unscored], advance: Callable[[], object]
) -> tuple[Result, ...]:
    """The results with their scores, several at a time: SSIMULACRA2 takes seconds a megapixel."""
    results = []
    at_once = min(torch.get_num_threads(), _SSIMULACRA2_MAX_PIXELS // (source.size // 3))
    with ThreadPoolExecutor(max(at_once, 1)) as pool:
        scores = pool.map(partial(_scores, source), [pixels for _, pixels in unscored])
        for (result, _), found in zip(unscored, scores, strict=True):
            results.append(result(scores=found))
            advance()
    return tuple(results)


def _scores(source: np.ndarray, decoded: np.ndarray) -> Scores:
    is_large = source.size // 3 > _SSIMULACRA2_MAX_PIXELS
    return Scores(
        psnr=metrics.psnr(source, decoded),
        ms_ssim=_optional(metrics.ms_ssim, source, decoded),
        ssimulacra2=None if is_large else _optional(metrics.ssimulacra2, source, decoded),
    )


def _optional(
    metric: Callable[[np.ndarray, np.ndarray], float | None], a: np.ndarray, b: np.ndarray
) -> float | None:
    """None where the metric's package is not installed."""
    try:
        return metric(a, b)
    except ModuleNotFoundError:
        return None


def _lossless(image: Image.Image) -> ImageFile:
    """The pixels exactly, with the ICC profile: WebP, or PNG where WebP cannot."""
    buffer = io.BytesIO()
    profile = image.info.get("icc_profile")
    if image.mode == "RGB" and max(image.size) <= _WEBP_MAX_SIDE:
        image.save(buffer, "WEBP", lossless=True, quality=0, method=0, icc_profile=profile)
        return ImageFile("image/webp", buffer.getvalue())
    image.save(buffer, "PNG", icc_profile=profile)
    return ImageFile("image/png", buffer.getvalue())


def _unmatched(points: Sequence[Point]) -> list[str]:
    """One line for each codec that has no file of the size of some operating points."""
    found: dict[str, list[str]] = {}
    for point in points:
        for result in point.results:
            if not point.is_matched(result):
                share = result.size / point.results[0].size
                text = f"{share:.2f} times the size at quality {point.quality:g}"
                found.setdefault(result.codec, []).append(text)
    return [f"{codec} comes no nearer than {', '.join(texts)}" for codec, texts in found.items()]
