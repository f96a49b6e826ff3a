"""Initial parameters of the study's codecs, layer by layer in closed form, from photographs.

From random parameters minutes of training lead nowhere. Here each convolution of g_a starts as the
Karhunen-Loève transform of 2×2 blocks of its input, and each deconvolution of g_s as the least
squares inverse. Attention modules start as the identity. So every codec starts as the same
block-transform codec.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.ablation.networks import StudyHyperprior, StudyWacnn
from stfcodec.models.layers import GDN
from stfcodec.models.registry import LAMBDAS

_START_QUALITY = 3.5
_SCALE = 0.5
"""Factor of every transform but the last, without which the means of blocks, twice as large at each
scale, would leave the range where GDN is almost linear."""
_RIDGE = 1e-4
_WIDER = 1.6
"""From one probe of the hyperprior without attention, 350 steps: the held-out loss was 0.448
instead of 0.472."""


@torch.no_grad()
def initialise(model: StudyWacnn | StudyHyperprior, crops: Tensor) -> None:
    """Set the parameters of an untrained model on the CPU, in place.

    crops: (B, 3, S, S) in 0…1, S a multiple of 64.
    """
    targets = _initialise_analysis(model.g_a, crops)
    y = model.g_a(crops)
    rate = model.variable_rate
    # The step size that is optimal at high rate, see `train/initialise.py`; wider, as most
    # latents are small at these rates.
    deltas = [_WIDER * math.sqrt(18 / (lmbda * 255**2 * math.log(2))) for lmbda in LAMBDAS]
    rate.set(-torch.tensor(deltas).log())
    _, inverse = rate(_START_QUALITY, y)
    noisy = y + (torch.rand_like(y) - 0.5) * inverse
    _initialise_synthesis(model.g_s, noisy, targets)
    _initialise_entropy_model(model, y)


def _initialise_analysis(g_a: nn.Sequential, x: Tensor) -> list[Tensor]:
    """Set the convolutions of g_a. Returns what the deconvolutions of g_s are to give, in their
    order."""
    targets = [x]
    convolutions = [m for m in g_a if isinstance(m, nn.Conv2d)]
    for m in g_a:
        if isinstance(m, nn.Conv2d):
            _set_block_transform(m, x, 1.0 if m is convolutions[-1] else _SCALE)
            if m is convolutions[-1]:
                for parameter in m.parameters():
                    parameter.div_(_SCALE ** (len(convolutions) - 1))
        x = m(x)
        if isinstance(m, GDN):
            targets.insert(0, x)
    return targets


def _set_block_transform(layer: nn.Conv2d, x: Tensor, scale: float) -> None:
    """Set a 5×5 convolution of stride 2 to the leading principal axes of 2×2 blocks of x
    (B, C, H, W), times `scale`. Channels beyond the block's dimensions stay random."""
    assert layer.bias is not None
    blocks = F.pixel_unshuffle(x, 2).transpose(0, 1).flatten(1).double()
    mean = blocks.mean(1, keepdim=True)
    _, axes = torch.linalg.eigh((blocks - mean) @ (blocks - mean).T)
    axes = axes.flip(1).T[: layer.out_channels]
    count = len(axes)
    layer.weight[:count] = 0
    # Kernel positions 2 and 3 see the two positions of a block in each direction.
    layer.weight[:count, :, 2:4, 2:4] = scale * axes.view(count, -1, 2, 2).float()
    layer.bias[:count] = -scale * (axes @ mean)[:, 0].float()


def _initialise_synthesis(g_s: nn.Sequential, x: Tensor, targets: list[Tensor]) -> None:
    remaining = iter(targets)
    for m in g_s:
        if isinstance(m, nn.ConvTranspose2d):
            _set_least_squares(m, x, next(remaining))
        x = m(x)


def _set_least_squares(layer: nn.ConvTranspose2d, x: Tensor, target: Tensor) -> None:
    """Set a 5×5 deconvolution of stride 2 to the one that maps x (B, C, h, w) closest to target
    (B, C', 2·h, 2·w)."""
    assert layer.bias is not None
    channels = x.shape[1]
    pictures = max(1, min(len(x), 40_000 // x[0, 0].numel()))
    x, target = x[:pictures], target[:pictures]
    taps = F.unfold(x, 3, padding=1).view(len(x), channels, 3, 3, -1)
    biases = []
    for row in range(2):
        for col in range(2):
            # Output 2·j sees inputs j − 1, j, j + 1, output 2·j + 1 sees j, j + 1.
            seen = taps[:, :, row:, col:].permute(1, 2, 3, 0, 4).flatten(0, 2).flatten(1)
            inputs = torch.cat([seen, torch.ones_like(seen[:1])]).double()
            wanted = target[:, :, row::2, col::2].transpose(0, 1).flatten(1).double()
            gram = inputs @ inputs.T
            gram += _RIDGE * gram.diagonal().mean() * torch.eye(len(gram), dtype=gram.dtype)
            solution = torch.linalg.solve(gram, inputs @ wanted.T).float()
            biases.append(solution[-1])
            kernel = solution[:-1].view(channels, 3 - row, 3 - col, -1).permute(0, 3, 1, 2)
            # Input j + 1 has kernel position 0 for even and 1 for odd outputs, and so on.
            layer.weight[:, :, row::2, col::2] = kernel.flip(2, 3)
    layer.bias.copy_(torch.stack(biases).mean(0))


def _initialise_entropy_model(model: StudyWacnn | StudyHyperprior, y: Tensor) -> None:
    """Predict each channel's mean and spread in y (B, M, h, w)."""
    mean, spread = y.mean((0, 2, 3)), y.std((0, 2, 3))
    predictions = _predictions(model, mean, spread)
    # PyTorch's default initialisation halves the signal at every layer.
    for network in (model.h_a, *_hyper_syntheses(model), *(network for network, _ in predictions)):
        for m in network:
            if isinstance(m, nn.Conv2d | nn.ConvTranspose2d):
                nn.init.kaiming_normal_(m.weight, nonlinearity="relu")
                assert m.bias is not None
                nn.init.zeros_(m.bias)
    # The networks see every channel at one scale.
    unit = 1 / spread.clamp(min=1e-3)
    gained = y * model.gains(_START_QUALITY, y)[0]
    _weight(model.h_a[0]).mul_((y.std((0, 2, 3)) / gained.std((0, 2, 3)) * unit)[:, None, None])
    _weight(model.h_a[-1]).mul_(3 / model.h_a(gained).std())
    for network, values in predictions:
        if isinstance(model, StudyWacnn):
            weight = _weight(network[0])
            M = len(mean)
            weight[:, M:] *= unit[: weight.shape[1] - M, None, None]
        # The last layer gives its values, and next to nothing else.
        _weight(network[-1]).mul_(0.01)
        network[-1].bias.copy_(values)


def _hyper_syntheses(model: StudyWacnn | StudyHyperprior) -> list[nn.Sequential]:
    return [model.h_mean_s, model.h_scale_s] if isinstance(model, StudyWacnn) else [model.h_s]


def _predictions(
    model: StudyWacnn | StudyHyperprior, mean: Tensor, spread: Tensor
) -> list[tuple[Any, Tensor]]:
    """The networks whose outputs are means, scales and residuals, each with its first output."""
    if isinstance(model, StudyHyperprior):
        return [(model.h_s, torch.cat([mean, spread]))]
    found: list[tuple[Any, Tensor]] = []
    for transforms, values in (
        (model.cc_mean_transforms, mean),
        (model.cc_scale_transforms, spread),
        (model.lrp_transforms, torch.zeros_like(mean)),
    ):
        found += zip(transforms, values.chunk(model.slices), strict=True)
    return found


def _weight(layer: nn.Module) -> Tensor:
    weight = layer.weight
    assert isinstance(weight, Tensor)
    return weight
