"""Streams that are sound, and hold what no picture gives: a hostile writer has the weights too."""

from __future__ import annotations

import random
from unittest.mock import patch

import torch
from torch import Tensor

from stfcodec import container
from stfcodec.codec import codec_for
from stfcodec.container import Header, Stream
from stfcodec.models import registry
from stfcodec.models.integer_layers import SYMBOL_BOUND

MODELS = ("wacnn-lite", "stf-lite")
SIZES = ((1, 1), (64, 64), (128, 64))


def hostile(rng: random.Random) -> bytes:
    """A stream of random symbols, from all alike to all as far out as can be coded."""
    info = registry.by_name(rng.choice(MODELS))
    assert isinstance(info.widths, registry.LiteWidths)
    quality = rng.choice((1.0, 3.5, 6.0, rng.randrange(1000, 6001) / 1000))
    model = codec_for(info, quality, "cpu").model
    width, height = rng.choice(SIZES)
    generator = torch.Generator().manual_seed(rng.getrandbits(32))
    latents = torch.zeros(1, info.widths.latents, -(-height // 64) * 4, -(-width // 64) * 4)
    z, passes = model.symbols_and_passes(latents, quality)
    chosen = (
        drawn(z, generator, rng).round(),
        [drawn(coded, generator, rng) for coded in passes],
    )
    with patch.object(model, "symbols_and_passes", lambda *_: chosen):
        coded = model.compress(latents, quality)
    channels = rng.choice((1, 3))
    header = Header(width, height, channels, 8, info.id, model.fingerprint, quality)
    return container.write(Stream(header, *coded))


def drawn(like: Tensor, generator: torch.Generator, rng: random.Random) -> Tensor:
    """Numbers within the range of symbols, in the shape of a tensor; most or few of them zero."""
    reach = rng.choice((0, 1, 16, 127, 128, 300, 40_000, 1 << 20, SYMBOL_BOUND))
    share = rng.choice((0.001, 0.1, 1.0))
    values = torch.rand(like.shape, generator=generator) * 2 - 1
    kept = torch.rand(like.shape, generator=generator) < share
    if rng.random() < 0.3:
        values = values.sign()
    return values * reach * kept
