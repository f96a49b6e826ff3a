"""Models without training whose streams resemble those of trained ones, to test and time with."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from stfcodec.models.base import CompressionModel
from stfcodec.models.build import build
from stfcodec.models.calibrate import quantise
from stfcodec.models.channelwise import ENTROPY_PARTS, ChannelwiseModel
from stfcodec.models.lite import LiteModel
from stfcodec.models.registry import ModelInfo
from stfcodec.models.stf import STF
from stfcodec.models.wacnn import WACNN

_FIRST_SPREAD, _SPREAD_RATIO = 16.0, 0.893
"""Standard deviation of the first channel of y, and its ratio from each channel to the next: about
0.7 bits per pixel and mostly empty channels, as in a trained model at middle quality."""


def random_model(info: ModelInfo, crops: Sequence[Tensor]) -> CompressionModel:
    """A model with random weights and an integer form, whose entropy networks predict something.

    Initial weights predict almost constant means and scales, which would test little. crops:
    (B, 3, H, W) in 0…1, sides multiples of 64; the integer form is calibrated on them.
    """
    torch.manual_seed(3)
    model = build(info).eval()
    with torch.no_grad():
        if isinstance(model, LiteModel):
            for m in model.modules():
                if isinstance(m, nn.Conv2d | nn.Linear):
                    m.weight.normal_(std=(1 / m.weight[0].numel()) ** 0.5)
            model.log_gain.fill_(2.5)
            model.log_inverse.fill_(-2.5)
            model.scales.offset.normal_(2, 1)
        elif isinstance(model, ChannelwiseModel):
            for network in model.integer_replaces:
                for m in model.get_submodule(network).modules():
                    if isinstance(m, nn.Conv2d):
                        nn.init.normal_(m.weight, std=(2 / m.weight[0].numel()) ** 0.5)
            for transform in model.cc_scale_transforms:
                *_, last_bias = transform.parameters()
                last_bias.add_(2)
    model.update()
    model.integer = quantise(model, crops)
    return model


@torch.no_grad()
def stand_in(info: ModelInfo, picture: np.ndarray) -> CompressionModel:
    """A paper-size model with tables and integer form whose latents spread like a trained one's.

    It codes `picture` (H, W, 3) uint8 in about as many bits as a trained model. What it decodes has
    the range of a picture, and nothing else in common with it.
    """
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
    """Scales the last layers: of g_a so that y has its spread, of g_s to a picture's range."""
    wanted = _FIRST_SPREAD * _SPREAD_RATIO ** torch.arange(model.widths.latents)
    for _ in range(4):
        y = model.analysis(x)
        for parameter in _output_parameters(model):
            shape = -1, *[1] * (parameter.dim() - 1)
            parameter.mul_((wanted / y.std((0, 2, 3))).view(shape))
    last = model.g_s[-1] if isinstance(model, WACNN) else model.end_conv[-1]
    last.weight.mul_(0.2 / model.synthesis(model.analysis(x)).std())
    last.bias.fill_(0.5)


def _output_parameters(model: CompressionModel) -> list[Tensor]:
    """The parameters whose first dimension is the channels of y."""
    if isinstance(model, WACNN):
        return list(model.g_a[-2].parameters())
    assert isinstance(model, STF)
    merge, last = model.layers[-2].downsample, model.layers[-1]
    parts = [m for block in last.blocks for m in (block.attn.proj, block.mlp.fc2)]
    return [p for m in (merge.reduction, *parts) for p in m.parameters()]


def _start_entropy_model(model: ChannelwiseModel, y: Tensor) -> None:
    """Initialise the entropy networks for y (B, M, h, w): inputs have unit scale, each channel's
    mean and scale are its statistics, and z has a spread that takes bits."""
    # torch's default initialisation halves the signal at every layer, and h_s would have no effect.
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
