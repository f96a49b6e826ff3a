"""The architectures: every model with its widths, the range of qualities, and λ of a quality.

Plain data, importable without torch. `releases.py` lists the weights that were released for these
models. A .stf file stores the `id` of its model. Ids are written by hand and never reused or
renumbered.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from stfcodec.errors import StreamError, UsageError

LAMBDAS = (0.0018, 0.0035, 0.0067, 0.0130, 0.0250, 0.0483)
"""Rate-distortion trade-off of quality 1…6; the loss is λ·255²·MSE + bpp (paper, eq. 1)."""

MIN_QUALITY, MAX_QUALITY = 1.0, float(len(LAMBDAS))
WHOLE_QUALITIES = tuple(range(1, len(LAMBDAS) + 1))
DEFAULT_MODEL = "wacnn-lite"
DEFAULT_QUALITY = 5.0
"""Comes nearest to what a user of cwebp, who gives no quality, gets (benchmarks/defaults.py)."""
MAX_EFFORT = 100
DEVICES = ("auto", "cpu", "cuda")
"""Where the transforms may run."""


@dataclass(frozen=True)
class EntropyWidths:
    """Channel counts of the hyper-prior and the channel-wise autoregressive context."""

    slices: int
    """y is coded in this many slices of equal width."""
    support: int
    """Each slice is predicted from at most this many decoded slices, the first ones."""
    h_a: tuple[int, int, int, int, int, int]
    """Hyper-analysis: channels of y, then of its five convolutions, the last of which gives z."""
    h_s: tuple[int, int, int, int, int, int]
    """Each hyper-synthesis: channels of z, then of its five convolutions. The last equals y's."""
    context: tuple[int, ...]
    """Hidden channels of every mean, scale and latent-residual-prediction transform."""

    def __post_init__(self) -> None:
        if self.h_a[0] != self.h_s[-1] or self.h_a[-1] != self.h_s[0]:
            raise ValueError("h_s must mirror h_a: z in, y out")
        if self.latents % self.slices:
            raise ValueError(f"{self.latents} latents do not cut into {self.slices} slices")

    @property
    def latents(self) -> int:
        return self.h_a[0]

    @property
    def hyper_latents(self) -> int:
        return self.h_a[-1]


@dataclass(frozen=True)
class WacnnWidths:
    """Channel counts of WACNN: convolutions with GDN and two window attention modules."""

    channels: tuple[int, int, int, int]
    """After each stride-2 convolution of g_a (g_s mirrors them); the last is y."""
    heads: int
    units: int
    """Residual units in each branch of a window attention module."""
    entropy: EntropyWidths
    windows: tuple[int, int] = (8, 4)
    """Attention window at ¼ and at 1⁄16 resolution."""


@dataclass(frozen=True)
class StfWidths:
    """Channel counts of STF: four Swin stages each way."""

    dims: tuple[int, int, int, int]
    """At ½, ¼, ⅛ and 1⁄16 resolution; the last is y."""
    depths: tuple[int, int, int, int]
    heads: tuple[int, int, int, int]
    mlp_ratio: float
    end_width: int
    """Channels at full resolution before the last 3×3 convolution."""
    entropy: EntropyWidths
    patch: int = 2
    window: int = 4


@dataclass(frozen=True)
class LiteWidths:
    """Channel counts of the lite skeleton, which WACNN and STF share."""

    channels: int = 160
    """At ⅛ resolution."""
    analysis_depth: int = 4
    synthesis_depth: int = 2
    """Blocks of the bodies of g_a and g_s."""
    latents: int = 224
    hyper_latents: int = 96
    context_channels: int = 128
    """Channels of the network that predicts the second pass's means from the first pass."""
    fine_channels: int = 48
    """At ¼ resolution, in g_s."""
    window: int = 8
    coarse_window: int = 4
    """Attention windows at ⅛ and at 1⁄16 resolution."""


@dataclass(frozen=True)
class ModelInfo:
    """A model, as `list_models` returns it."""

    name: str
    """As `encode` takes it, such as "wacnn-lite"."""
    id: int
    """As streams store it."""
    family: Literal["wacnn", "stf"]
    """The kind of blocks: convolutions with window attention (WACNN), or Swin blocks (STF)."""
    widths: WacnnWidths | StfWidths | LiteWidths
    """Channels and depths of the network."""
    variable_rate: bool
    """True: one weights file serves every quality, fractions included, by factors per channel.
    False: each whole quality has a weights file of its own."""
    parameters: int
    """How many numbers training finds."""


_CONTEXT = (224, 176, 128, 64)

RETIRED = {1: "wacnn-lite", 2: "stf-lite"}
"""Ids of removed models: the first generation of the lite models, whose files were previews."""

MODELS: tuple[ModelInfo, ...] = (
    ModelInfo(
        name="wacnn-lite",
        id=5,
        family="wacnn",
        widths=LiteWidths(),
        variable_rate=True,
        parameters=5_552_856,
    ),
    ModelInfo(
        name="stf-lite",
        id=6,
        family="stf",
        widths=LiteWidths(),
        variable_rate=True,
        parameters=5_650_476,
    ),
    ModelInfo(
        name="wacnn",
        id=3,
        family="wacnn",
        widths=WacnnWidths(
            channels=(192, 192, 192, 320),
            heads=8,
            units=3,
            entropy=EntropyWidths(
                slices=10,
                support=5,
                h_a=(320, 320, 288, 256, 224, 192),
                h_s=(192, 192, 224, 256, 288, 320),
                context=_CONTEXT,
            ),
        ),
        variable_rate=False,
        parameters=75_235_779,
    ),
    ModelInfo(
        name="stf",
        id=4,
        family="stf",
        widths=StfWidths(
            dims=(48, 96, 192, 384),
            depths=(2, 2, 6, 2),
            heads=(3, 6, 12, 24),
            mlp_ratio=4.0,
            end_width=48,
            entropy=EntropyWidths(
                slices=12,
                support=6,
                h_a=(384, 384, 336, 288, 240, 192),
                h_s=(192, 240, 288, 336, 384, 384),
                context=_CONTEXT,
            ),
        ),
        variable_rate=False,
        parameters=99_855_639,
    ),
)


def by_name(name: str) -> ModelInfo:
    """The model called `name`. Raises UsageError, which lists the known names."""
    for info in MODELS:
        if info.name == name:
            return info
    known = ", ".join(info.name for info in MODELS)
    raise UsageError(f"unknown model {name!r}; choose one of: {known}")


def by_id(model_id: int) -> ModelInfo:
    """The model with the id that a stream stores. Raises StreamError where it is not known."""
    for info in MODELS:
        if info.id == model_id:
            return info
    if model_id in RETIRED:
        raise StreamError(
            f"made by the first generation of {RETIRED[model_id]}, a preview that this version no "
            f"longer has: decode it with the version that made it"
        )
    raise StreamError(f"model id {model_id} is unknown to this version; upgrade stfcodec")


def check_quality(quality: float, info: ModelInfo) -> float:
    """`quality` rounded to a thousandth, the resolution of a stream. Raises UsageError where the
    model does not have it."""
    quality = round(_number("quality", quality), 3)
    if not MIN_QUALITY <= quality <= MAX_QUALITY:  # also refuses NaN
        scale = f"{MIN_QUALITY:g}…{MAX_QUALITY:g}"
        raise UsageError(f"quality {quality:g} is outside {scale}, from the smallest to the best")
    if not info.variable_rate and quality != round(quality):
        raise UsageError(f"{info.name} has whole qualities only; {quality:g} is a fraction")
    return quality


def check_stored_quality(quality: float, info: ModelInfo) -> float:
    """As `check_quality`, for the quality that a stream stores: raises StreamError."""
    try:
        return check_quality(quality, info)
    except UsageError as error:
        raise StreamError(f"damaged: {error}") from None


def check_device(device: str) -> str:
    """`device` itself. Raises UsageError unless it is one of `DEVICES`."""
    if device not in DEVICES:
        raise UsageError(f"unknown device {device!r}; choose {', '.join(DEVICES)}")
    return device


def check_effort(effort: int) -> int:
    """`effort` as an int. Raises UsageError unless it is a whole number in 0…100."""
    wanted = _number("effort", effort)
    if not 0 <= wanted <= MAX_EFFORT or wanted != int(wanted):  # also refuses NaN
        raise UsageError(f"effort {wanted:g} is not a whole number in 0…{MAX_EFFORT}")
    return int(wanted)


def _number(name: str, value: object) -> float:
    try:
        return float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        raise UsageError(f"{name} {value!r} is not a number") from None


def quality_from_lambda(lmbda: float, info: ModelInfo) -> float:
    """The quality of a model whose λ is `lmbda`: the inverse of `lambda_from_quality`.

    Raises UsageError where λ is outside the range of `LAMBDAS`, or between two of them and the
    model has whole qualities only.
    """
    if not info.variable_rate:
        for quality, known in enumerate(LAMBDAS, 1):
            if math.isclose(lmbda, known, rel_tol=1e-6):
                return float(quality)
        known_ones = ", ".join(f"{known:g}" for known in LAMBDAS)
        raise UsageError(f"lambda {lmbda:g} is none of those of {info.name}: {known_ones}")
    if not LAMBDAS[0] <= lmbda <= LAMBDAS[-1]:
        raise UsageError(f"lambda {lmbda:g} is outside {LAMBDAS[0]:g}…{LAMBDAS[-1]:g}")
    upper = next(i for i in range(1, len(LAMBDAS)) if lmbda <= LAMBDAS[i])
    low, high = LAMBDAS[upper - 1], LAMBDAS[upper]
    return upper + math.log(lmbda / low) / math.log(high / low)


def lambda_from_quality(quality: float) -> float:
    """λ at a quality in 1…6: `LAMBDAS` at whole qualities, geometrically interpolated between.

    `train.loss.lambda_at` computes the same for tensors.
    """
    lower = min(int(quality), len(LAMBDAS) - 1)
    low, high = LAMBDAS[lower - 1], LAMBDAS[lower]
    return low * (high / low) ** (quality - lower)
