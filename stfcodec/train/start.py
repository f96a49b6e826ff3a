"""A start that is a good linear codec already, computed from photographs.

The linear way of the lite models starts as the Karhunen-Loève transform of 16×16 blocks and as its
transpose, the gains at the step sizes that are optimal at high rate, the scales at each channel's
spread. The branches start at zero. So training spends its time on going beyond a block transform.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from stfcodec.models.blocks import Convolution, unshuffle
from stfcodec.models.lite import BLOCK, LOG_STEP, PATCH, LiteModel
from stfcodec.models.lite_integer import ROWS_A_UNIT
from stfcodec.models.priors import SCALE_MIN
from stfcodec.models.registry import LAMBDAS


@torch.no_grad()
def start(model: LiteModel, crops: Tensor) -> None:
    """Sets weights from photographs. crops: (B, 3, S, S) in 0…1, S a multiple of 64."""
    x = crops.permute(0, 2, 3, 1) - 0.5
    blocks = unshuffle(unshuffle(x, PATCH), BLOCK // PATCH).flatten(0, 2)
    M = model.g_a.linear.out_features
    axes = _principal_axes(blocks, M)
    # Each half of the channels gets every second axis: the checkerboard treats them alike.
    axes = torch.cat([axes[0::2], axes[1::2]])
    model.g_a.linear.set(axes)
    # g_s orders the pixels of a block by 4×4 places of 4×4 pixels, g_a by 2×2 of 8×8.
    order = torch.arange(3.0 * BLOCK**2).view(1, BLOCK, BLOCK, 3)
    as_analysis = unshuffle(unshuffle(order, PATCH), BLOCK // PATCH).flatten().long()
    as_synthesis = unshuffle(unshuffle(order, 4), 4).flatten().long()
    place = torch.empty_like(as_analysis)
    place[as_analysis] = torch.arange(len(place))
    model.g_s.linear.set(axes[:, place[as_synthesis]].T)

    # The step that is optimal at high rate for an orthonormal transform: per pixel d/dΔ of
    # λ·255²·Δ²/(12·3) − log2 Δ vanishes at Δ² = 18 / (λ·255²·ln 2).
    step = torch.tensor([math.sqrt(18 / (lmbda * 255**2 * math.log(2))) for lmbda in LAMBDAS])
    model.log_gain.copy_(-step.log()[:, None].expand_as(model.log_gain))
    model.log_inverse.copy_(-model.log_gain)
    spread = (blocks @ axes.T).square().mean(0).sqrt().clamp(min=1e-3)
    for log_spread in (model.log_spread, model.g_a.log_spread, model.g_s.log_spread):
        log_spread.copy_(spread.log())
    scales = (spread * model.log_gain.exp()).clamp(min=SCALE_MIN)
    model.scales.offset.copy_((scales / SCALE_MIN).log() / (LOG_STEP * ROWS_A_UNIT))

    # torch's own start loses half the signal at every layer.
    for hyper in (model.means.hyper, model.scales.hyper):
        for layer in hyper:
            _he(layer)
    for network in (*model.h_a, model.means.context, model.scales.context):
        _he(network)
    y = model.analysis(crops, 3.5)
    last = model.h_a[-1].get_parameter("weight")
    last.mul_(3 / model.hyper_analysis(y * model.gains(3.5, y)[0]).std())


def _he(layer: nn.Module) -> None:
    assert isinstance(layer, Convolution)
    nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
    assert layer.bias is not None
    nn.init.zeros_(layer.bias)


def _principal_axes(vectors: Tensor, count: int) -> Tensor:
    """(count, D) orthonormal rows: the leading principal axes of (n, D) vectors about 0."""
    vectors = vectors.double()
    _, axes = torch.linalg.eigh(vectors.T @ vectors)
    axes = axes.flip(1).T[:count]
    # An axis and its negative are equally good; a fixed sign keeps the start reproducible.
    sign = torch.sign(axes.gather(1, axes.abs().argmax(1, keepdim=True)))
    return (axes * sign).float()
