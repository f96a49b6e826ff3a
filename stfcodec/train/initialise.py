"""Initial parameters of a model: from photographs, or from an earlier training.

Without earlier weights, the linear paths of g_a and g_s become the Karhunen-Loève transform of
16×16 blocks and its transpose, and their branches start at zero. The model is then a
block-transform codec before the first step, and training only has to improve on that.
"""

from __future__ import annotations

import math
from pathlib import Path

import torch
from torch import Tensor, nn

from stfcodec.errors import WeightsError, one_line
from stfcodec.models import weights
from stfcodec.models.base import CompressionModel
from stfcodec.models.blocks import Convolution, unshuffle
from stfcodec.models.lite import BLOCK, PATCH, LiteModel
from stfcodec.models.lite_integer import LEVELS_PER_UNIT
from stfcodec.models.priors import LOG_SCALE_STEP, SCALE_MIN
from stfcodec.models.registry import LAMBDAS, ModelInfo


@torch.no_grad()
def initialise_from_photographs(model: LiteModel, crops: Tensor) -> None:
    """Set the parameters of an untrained model on the CPU, in place.

    The transforms become the Karhunen-Loève transform, the gains match the quantisation step sizes
    that are optimal at high rate, the scales match the standard deviation of each channel.
    crops: (B, 3, S, S) in 0…1, S a multiple of 64.
    """
    x = crops.permute(0, 2, 3, 1) - 0.5
    blocks = unshuffle(unshuffle(x, PATCH), BLOCK // PATCH).flatten(0, 2)
    M = model.g_a.linear.out_features
    axes = _principal_axes(blocks, M)
    # The checkerboard codes each half of the channels alike, so each half gets every second axis.
    axes = torch.cat([axes[0::2], axes[1::2]])
    model.g_a.linear.set(axes)
    # g_a sees a block as 2×2 patches of 8×8 pixels, g_s as 4×4 patches of 4×4 pixels.
    order = torch.arange(3.0 * BLOCK**2).view(1, BLOCK, BLOCK, 3)
    analysis_order = unshuffle(unshuffle(order, PATCH), BLOCK // PATCH).flatten().long()
    synthesis_order = unshuffle(unshuffle(order, 4), 4).flatten().long()
    analysis_index = torch.empty_like(analysis_order)
    analysis_index[analysis_order] = torch.arange(len(analysis_index))
    model.g_s.linear.set(axes[:, analysis_index[synthesis_order]].T)

    # An orthonormal transform with step size Δ has MSE Δ²/12 at high rate. The loss of one pixel,
    # λ·255²·Δ²/12 − 3·log2 Δ, is minimal where Δ² = 18 / (λ·255²·ln 2).
    deltas = torch.tensor([math.sqrt(18 / (lmbda * 255**2 * math.log(2))) for lmbda in LAMBDAS])
    model.log_gain.copy_(-deltas.log()[:, None].expand_as(model.log_gain))
    model.log_inverse.copy_(-model.log_gain)
    spread = (blocks @ axes.T).square().mean(0).sqrt().clamp(min=1e-3)
    for log_spread in (model.log_spread, model.g_a.log_spread, model.g_s.log_spread):
        log_spread.copy_(spread.log())
    scales = (spread * model.log_gain.exp()).clamp(min=SCALE_MIN)
    model.scales.offset.copy_((scales / SCALE_MIN).log() / (LOG_SCALE_STEP * LEVELS_PER_UNIT))

    # PyTorch's default initialisation halves the signal at every layer.
    for hyper in (model.means.hyper, model.scales.hyper):
        for layer in hyper:
            _he_initialise(layer)
    for network in (*model.h_a, model.means.context, model.scales.context):
        _he_initialise(network)
    y = model.analysis(crops, 3.5)
    last = model.h_a[-1].get_parameter("weight")
    last.mul_(3 / model.hyper_analysis(y * model.gains(3.5, y)[0]).std())


def initialise_from_file(model: CompressionModel, info: ModelInfo, path: Path) -> None:
    """Copy all parameters from a weights file or checkpoint that match in name and shape.

    So a model can start from one of another family, which differs only in the blocks of its
    transforms. A checkpoint gives the parameters as trained, not their average. Raises WeightsError
    if the file is damaged or nothing in it matches.
    """
    state = _trained_parameters(info, path)
    own = dict(model.named_parameters())
    matching = {k: v for k, v in state.items() if k in own and v.shape == own[k].shape}
    if not matching:
        raise WeightsError(f"{path}: nothing in it fits this model")
    for name, value in matching.items():
        if not torch.isfinite(value).all():
            raise WeightsError(f"{path}: damaged ({name} is not finite)")
    model.load_state_dict(matching, strict=False)


def _trained_parameters(info: ModelInfo, path: Path) -> dict[str, Tensor]:
    if path.suffix != ".pt":
        return dict(weights.load(info, path).named_parameters())
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)["model"]
        return {k: v for k, v in state.items() if isinstance(v, Tensor)}
    except Exception as error:  # unpickling garbage raises almost anything
        raise WeightsError(f"{path}: not a training checkpoint ({one_line(error)})") from None


def _he_initialise(layer: nn.Module) -> None:
    """Weights after He et al. (2015), for inputs of a ReLU; biases zero."""
    assert isinstance(layer, Convolution)
    nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
    assert layer.bias is not None
    nn.init.zeros_(layer.bias)


def _principal_axes(vectors: Tensor, count: int) -> Tensor:
    """The leading principal axes of vectors (n, D) about zero: (count, D), orthonormal rows."""
    vectors = vectors.double()
    _, axes = torch.linalg.eigh(vectors.T @ vectors)
    axes = axes.flip(1).T[:count]
    # An axis and its negative are equally good; a fixed sign makes the result reproducible.
    sign = torch.sign(axes.gather(1, axes.abs().argmax(1, keepdim=True)))
    return (axes * sign).float()
