"""How much faster paper-size models code here than by the published algorithm, in one run."""

from __future__ import annotations

import time
from collections.abc import Callable
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

import stfcodec
from benchmarks.coders import WAYS, environment
from benchmarks.reference_networks import Published
from stfcodec.allocator import keep_freed_memory
from stfcodec.models import registry, weights
from stfcodec.models.base import CompressionModel
from stfcodec.models.build import build
from stfcodec.models.calibrate import quantise
from stfcodec.models.channelwise import ENTROPY_PARTS, ChannelwiseModel
from stfcodec.models.registry import ModelInfo
from stfcodec.models.stf import STF
from stfcodec.models.wacnn import WACNN

PAPER = tuple(i for i in registry.MODELS if not i.variable_rate)

_LARGEST, _RATIO = 16.0, 0.893
"""Spread of the first channel of y, and of each channel to the one before it: about 0.7
bits a pixel, most channels empty, as in a trained model at middle quality."""


class Seconds(NamedTuple):
    """Medians, seconds a megapixel."""

    encode: float
    decode: float


class Speedup(NamedTuple):
    """One paper-size model by the published algorithm and by each of WAYS."""

    bpp: float
    published: Seconds
    ours: dict[str, Seconds]


def measure(
    info: ModelInfo, picture: np.ndarray, rounds: int, step: Callable[[], object] = lambda: None
) -> Speedup:
    """Codes a picture (H, W, 3), sides multiples of 64, every way in turns, after a warm-up."""
    keep_freed_memory()  # as the commands do
    megapixels = picture.shape[0] * picture.shape[1] / 1e6
    with TemporaryDirectory() as folder:
        path = Path(folder, "stand-in.safetensors")
        weights.save(stand_in(info, picture), path)

        def encode(picture: np.ndarray) -> bytes:
            return stfcodec.encode(picture, info.name, 1, "cpu", path)

        def decode(data: bytes) -> np.ndarray:
            return np.asarray(stfcodec.decode(data, "cpu", path))

        times: dict[str, list[Seconds]] = {}
        # In a process of its own: what coding asks of malloc (`allocator.py`) is for all of one.
        with get_context("spawn").Pool(1, _load_published, (info, path)) as elsewhere:
            for round_ in range(rounds + 1):
                taken = {"published": elsewhere.apply(_time_published, (picture,))}
                for way in WAYS:
                    with environment(way):
                        taken[way] = _time(encode, decode, picture)
                for name, seconds in taken.items():
                    if round_:
                        times.setdefault(name, []).append(seconds)
                    step()
        bits = 8 * len(encode(picture))
    medians = {
        name: Seconds(*(round(median(t) / megapixels, 3) for t in zip(*found, strict=True)))
        for name, found in times.items()
    }
    bpp = round(bits / megapixels / 1e6, 3)
    return Speedup(bpp, medians.pop("published"), medians)


_published: Published
"""In the process that `_load_published` has prepared."""


def _load_published(info: ModelInfo, path: Path) -> None:
    global _published
    _published = Published(weights.load(info, path), info.widths)


def _time_published(picture: np.ndarray) -> Seconds:
    return _time(_published.encode, _published.decode, picture)


def _time(
    encode: Callable[[np.ndarray], Any], decode: Callable[[Any], object], picture: np.ndarray
) -> Seconds:
    start = time.perf_counter()
    data = encode(picture)
    coded = time.perf_counter()
    decode(data)
    return Seconds(coded - start, time.perf_counter() - coded)


@torch.no_grad()
def stand_in(info: ModelInfo, picture: np.ndarray) -> CompressionModel:
    """A paper-size model with tables and integer form whose latents are spread like a trained
    one's. It codes this picture in about as many bits; what it decodes only has its range."""
    x = torch.tensor(picture).permute(2, 0, 1)[None].float() / 255
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = build(info).eval()
        _spread(model, x)
        _start_entropy_model(model, model.analysis(x))
    model.update()
    model.integer = quantise(model, [x])
    return model


def _spread(model: CompressionModel, x: Tensor) -> None:
    """Gives y its spread, and what is decoded from it the range of a picture."""
    wanted = _LARGEST * _RATIO ** torch.arange(model.widths.latents)
    for _ in range(4):
        y = model.analysis(x)
        for rows in _last_rows(model):
            rows.mul_((wanted / y.std((0, 2, 3))).view(-1, *[1] * (rows.dim() - 1)))
    last = model.g_s[-1] if isinstance(model, WACNN) else model.end_conv[-1]
    last.weight.mul_(0.2 / model.synthesis(model.analysis(x)).std())
    last.bias.fill_(0.5)


def _last_rows(model: CompressionModel) -> list[Tensor]:
    """The parameters whose rows are what y's channels are made of."""
    if isinstance(model, WACNN):
        return list(model.g_a[-2].parameters())
    assert isinstance(model, STF)
    merge, last = model.layers[-2].downsample, model.layers[-1]
    parts = [m for block in last.blocks for m in (block.attn.proj, block.mlp.fc2)]
    return [p for m in (merge.reduction, *parts) for p in m.parameters()]


def _start_entropy_model(model: ChannelwiseModel, y: Tensor) -> None:
    """Inputs at unit scale, first guesses of each channel's mean and scale, z worth coding.

    y: (B, M, h, w), after the gain.
    """
    # The default start loses half the signal at every layer, and what h_s says of a mean is lost.
    for name, m in model.named_modules():
        if name.split(".")[0] in ENTROPY_PARTS and isinstance(m, nn.Conv2d):
            nn.init.kaiming_normal_(m.weight, nonlinearity="relu")
            nn.init.zeros_(m.bias)
    spread = y.std((0, 2, 3))
    unit = 1 / (spread + 1)
    M = spread.numel()
    model.h_a[0].weight.mul_(unit[None, :, None, None])
    for c in range(model.slices):
        own = slice(c * M // model.slices, (c + 1) * M // model.slices)
        for transforms, guess in (
            (model.cc_mean_transforms, y.mean((0, 2, 3))),
            (model.cc_scale_transforms, spread),
            (model.lrp_transforms, torch.zeros(M)),
        ):
            first, last = transforms[c][0], transforms[c][-1]
            decoded = first.in_channels - M
            first.weight[:, M:].mul_(unit[None, :decoded, None, None])
            last.weight.zero_()
            last.bias.copy_(guess[own])
    model.h_a[-1].weight.mul_(3 / model.h_a(y).std())
