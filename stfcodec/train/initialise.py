"""A start near a good linear codec, computed from photographs.

From a random start the first hours of training go into finding the mean colour and a basis. Here
g_a starts as a Karhunen-Loève transform, built stage by stage: each down-sampling layer takes the
principal components of the 2×2 blocks it sees. g_s starts as its least-squares inverse under the
noise of quantisation, fitted stage by stage in the order the decoder runs. Attention, MLPs and
normalisation start close to the identity, so both networks begin as 16×16 block-transform codecs
with a learned de-blocking filter, and training spends its time on going beyond that.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stfcodec.models.attention import WindowAttentionModule
from stfcodec.models.entropy_model import ENTROPY_PARTS, CompressionModel, Gain
from stfcodec.models.layers import GDN, NonNegative
from stfcodec.models.registry import LAMBDAS
from stfcodec.models.stf import STF
from stfcodec.models.swin import PatchMerge, PatchSplit, SwinBlock
from stfcodec.models.wacnn import WACNN

_POSITIONS = 20_000
"""Sample positions per fit: ample for the widest regression (2 016 unknowns a channel)."""


@torch.no_grad()
def initialise(model: CompressionModel, crops: Tensor) -> None:
    """Sets a variable-rate model's weights from photographs. crops: (B, 3, S, S), 0…1."""
    if model.gain is None:
        raise ValueError("only variable-rate models are initialised from data")
    _calm(model)
    _start_gain(model.gain)
    if isinstance(model, WACNN):
        y, targets = _fit_wacnn_analysis(model, crops)
    elif isinstance(model, STF):
        y, targets = _fit_stf_analysis(model, crops)
    else:
        raise TypeError(f"no initialisation is known for {type(model).__name__}")
    gain, inverse = model.gain(torch.tensor([4.0]))
    noisy = (y * gain + torch.rand_like(y) - 0.5) * inverse
    if isinstance(model, WACNN):
        _fit_wacnn_synthesis(model, noisy, targets)
    else:
        _fit_stf_synthesis(model, noisy, targets)
    start_entropy_model(model, y * model.gain(torch.tensor([3.5]))[0])


def _calm(model: nn.Module) -> None:
    """Every residual branch and normalisation starts close to the identity."""
    for m in model.modules():
        if isinstance(m, GDN):
            C = m.beta.numel()
            m.gamma.copy_(NonNegative.store(0.02 * torch.eye(C) + 1e-4))
        elif isinstance(m, WindowAttentionModule):
            gate = m.conv_b[-1]
            gate.weight.mul_(0.2)
            gate.bias.fill_(-4.0)
        elif isinstance(m, SwinBlock):
            for last in (m.attn.proj, m.mlp.fc2):
                last.weight.mul_(0.1)
                last.bias.zero_()
            for norm in (m.norm1, m.norm2):
                norm.weight[-2:] = 0.1  # the carriers, see below


def _start_gain(gain: Gain) -> None:
    """The uniform step that is optimal at high rate for an orthonormal transform.

    Per pixel d/dΔ of λ·255²·Δ²/(12·3) − log2 Δ vanishes at Δ² = 18 / (λ·255²·ln 2).
    """
    step = torch.tensor([math.sqrt(18 / (lmbda * 255**2 * math.log(2))) for lmbda in LAMBDAS])
    gain.log_gain.copy_(-step.log()[:, None].expand_as(gain.log_gain))
    gain.log_inverse.copy_(-gain.log_gain)


# ------------------------------------------------------------------------ linear algebra


def _principal_axes(vectors: Tensor, count: int) -> Tensor:
    """(count, D) orthonormal rows: the leading principal axes of (n, D) vectors."""
    centred = (vectors - vectors.mean(0)).double()
    _, axes = torch.linalg.eigh(centred.T @ centred)
    axes = axes.flip(1).T[:count]
    # An axis and its negative are equally good; a fixed sign keeps the start reproducible.
    sign = torch.sign(axes.gather(1, axes.abs().argmax(1, keepdim=True)))
    return (axes * sign).float()


def _least_squares(inputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Ridge regression (n, D) -> (n, T): weight (T, D) and bias (T,)."""
    mean_in, mean_out = inputs.mean(0), targets.mean(0)
    x, t = (inputs - mean_in).double(), (targets - mean_out).double()
    gram = x.T @ x
    gram.diagonal().add_(1e-4 * gram.diagonal().mean() + 1e-9)
    weight = torch.linalg.solve(gram, x.T @ t).T.float()
    return weight, mean_out - weight @ mean_in


def _sample(*tensors: Tensor) -> tuple[Tensor, ...]:
    """The same random rows of every (n, …) tensor, at most `_POSITIONS` of them."""
    n = tensors[0].shape[0]
    if n <= _POSITIONS:
        return tensors
    rows = torch.randperm(n, generator=torch.Generator().manual_seed(0))[:_POSITIONS]
    return tuple(t[rows] for t in tensors)


def _blocks(x: Tensor) -> Tensor:
    """(B, C, H, W) -> (B·H/2·W/2, C·4): every 2×2 block, position fastest."""
    return F.pixel_unshuffle(x, 2).permute(0, 2, 3, 1).flatten(0, 2)


def _neighbourhoods(x: Tensor, size: int) -> Tensor:
    """(B, C, H, W) -> (B·H·W, C·size²): what a size×size convolution sees at each position."""
    return F.unfold(x, size, padding=size // 2).transpose(1, 2).flatten(0, 1)


# --------------------------------------------------------------------------------- WACNN


def _fit_wacnn_analysis(model: WACNN, x: Tensor) -> tuple[Tensor, list[Tensor]]:
    """y, and what each deconvolution of g_s should give: three activations and the picture."""
    targets = [x]
    for layer in model.g_a:
        if isinstance(layer, nn.Conv2d):
            _fit_down(layer, x)
        x = layer(x)
        if isinstance(layer, GDN):
            targets.append(x)
    return x, targets[::-1]


def _fit_down(conv: nn.Conv2d, x: Tensor) -> None:
    """Principal axes of the 2×2 blocks in the middle taps; spare channels keep a faint start."""
    (vectors,) = _sample(_blocks(x))
    count = min(conv.out_channels, vectors.shape[1])
    axes = _principal_axes(vectors, count)
    conv.weight.mul_(0.1)
    conv.weight[:count] = 0
    conv.weight[:count, :, 2:4, 2:4] = axes.view(count, -1, 2, 2)
    conv.bias.zero_()
    conv.bias[:count] = -axes @ vectors.mean(0)


def _fit_wacnn_synthesis(model: WACNN, x: Tensor, targets: list[Tensor]) -> None:
    targets = list(targets)
    for layer in model.g_s:
        if isinstance(layer, nn.ConvTranspose2d):
            _fit_up(layer, x, targets.pop(0))
        x = layer(x)


def _fit_up(deconv: nn.ConvTranspose2d, x: Tensor, target: Tensor) -> None:
    """Least squares for each of the four output phases over the inputs its taps reach."""
    C = x.shape[1]
    inputs, outputs = _sample(_neighbourhoods(x, 3), _blocks(target))
    inputs = inputs.view(-1, C, 3, 3)
    outputs = outputs.view(-1, target.shape[1], 2, 2)
    # Output 2m reads inputs m-1, m, m+1 through taps 4, 2, 0; 2m+1 reads m, m+1 through 3, 1.
    reach = ((slice(0, 3), (4, 2, 0)), (slice(1, 3), (3, 1)))
    biases = []
    for row, (rows, row_taps) in enumerate(reach):
        for col, (cols, col_taps) in enumerate(reach):
            weight, bias = _least_squares(
                inputs[:, :, rows, cols].flatten(1), outputs[:, :, row, col]
            )
            weight = weight.view(-1, C, len(row_taps), len(col_taps))
            for i, kr in enumerate(row_taps):
                for j, kc in enumerate(col_taps):
                    deconv.weight[:, :, kr, kc] = weight[:, :, i, j].T
            biases.append(bias)
    deconv.bias.copy_(torch.stack(biases).mean(0))


# ----------------------------------------------------------------------------------- STF
#
# LayerNorm divides by the size of each position's vector and so forgets contrast. Two channels that
# always hold +K and −K, K large, make that divisor nearly constant: the normalisation becomes
# linear, and the transform can be fitted like any other. What multiplies a large constant moves
# far with every step of the optimiser: the norms shrink the carriers, none reach y or end_conv.

_CARRIER = 4.0


def _fit_norm(norm: nn.LayerNorm, tokens: Tensor, carriers: Tensor, size: float = 1.0) -> None:
    """A weight that undoes the normalisation's typical divisor, and leaves carriers at ±size."""
    divisor = tokens.var(-1, unbiased=False).mean().sqrt().item()
    norm.weight.fill_(divisor)
    norm.weight[carriers] = size * divisor / tokens[..., carriers].abs().mean()


def _fit_stf_analysis(model: STF, x: Tensor) -> tuple[Tensor, list[Tensor]]:
    """y, and what g_s should have after each patch splitting, then the picture."""
    targets = [x]
    embed = model.patch_embed
    (vectors,) = _sample(_blocks(x))
    axes = _principal_axes(vectors, vectors.shape[1])
    count = axes.shape[0]
    embed.proj.weight.mul_(0.1)
    embed.proj.weight[:count] = axes.view(count, 3, 2, 2)
    embed.proj.weight[-2:] = 0
    embed.proj.bias.zero_()
    embed.proj.bias[:count] = -axes @ vectors.mean(0)
    embed.proj.bias[-2:] = torch.tensor([_CARRIER, -_CARRIER])
    carriers = torch.arange(embed.proj.out_channels) >= embed.proj.out_channels - 2
    _fit_norm(embed.norm, embed.proj(x).permute(0, 2, 3, 1), carriers, _CARRIER)
    x = embed(x)
    for stage in model.layers:
        for block in stage.blocks:
            x = block(x)
        if stage.downsample is not None:
            targets.append(x.permute(0, 3, 1, 2))
            _fit_merge(stage.downsample, x, carriers=stage is not model.layers[2])
            x = stage.downsample(x)
    return x.permute(0, 3, 1, 2), targets[::-1]


def _fit_merge(merge: PatchMerge, x: Tensor, carriers: bool) -> None:
    tokens = merge.concatenate(x)
    C, out = x.shape[-1], merge.reduction.out_features
    place = torch.arange(4 * C) % C
    signal, plus = place < C - 2, place == C - 2
    _fit_norm(merge.norm, tokens, ~signal)
    (vectors,) = _sample(merge.norm(tokens).flatten(0, 2))
    count = min(out - 2 * carriers, int(signal.sum()))
    weight = merge.reduction.weight
    weight.mul_(0.1)
    weight[:count] = 0
    weight[:count, signal] = _principal_axes(vectors[:, signal], count)
    # Without a bias, the carriers are the constant that centres each component.
    constant = vectors[:, plus].sum(1).mean()
    weight[:count, plus] = -(weight[:count] @ vectors.mean(0) / constant)[:, None]
    if carriers:
        weight[-2:] = 0
        # Twice as large from stage to stage, as the mean of a growing block is.
        size = 2 * x[..., -2].mean() / constant
        weight[-2, plus] = size
        weight[-1, plus] = -size


def _fit_stf_synthesis(model: STF, y_hat: Tensor, targets: list[Tensor]) -> None:
    targets = list(targets)
    targets[-2] = F.pad(targets[-2][:, :-2], (0, 0, 0, 0, 0, 2))  # no carriers for end_conv
    x = y_hat.permute(0, 2, 3, 1)
    carrier = 4 * x.square().sum(-1).mean().sqrt().item()
    model.syn_layers[0].blocks[-1].mlp.fc2.bias[-2:] = torch.tensor([carrier, -carrier])
    for stage in model.syn_layers:
        for block in stage.blocks:
            x = block(x)
        if stage.downsample is not None:
            _fit_split(stage.downsample, x, targets.pop(0))
            x = stage.downsample(x)
    up, _, last = model.end_conv
    x = x.permute(0, 3, 1, 2)
    last.weight.mul_(0.1)
    last.weight[:, :3] = 0
    last.weight[:, :3, 1, 1] = torch.eye(3)
    last.bias.zero_()
    phases = model.end_conv[0].out_channels // last.in_channels
    inputs, outputs = _sample(_neighbourhoods(x, 5), _blocks(targets.pop(0)))
    weight, bias = _least_squares(inputs, outputs)
    up.weight.mul_(0.1)
    up.bias.zero_()
    up.weight[: 3 * phases] = weight.view(3 * phases, -1, 5, 5)
    up.bias[: 3 * phases] = bias


def _fit_split(split: PatchSplit, x: Tensor, target: Tensor) -> None:
    carriers = torch.arange(x.shape[-1]) >= x.shape[-1] - 2
    _fit_norm(split.norm, x, carriers)
    inputs, outputs = _sample(split.norm(x).flatten(0, 2), _blocks(target))
    # No bias in this layer either: the carriers among the inputs stand in for it.
    gram = inputs.double().T @ inputs.double()
    gram.diagonal().add_(1e-6 * gram.diagonal().mean())
    solution = torch.linalg.solve(gram, inputs.double().T @ outputs.double())
    split.reduction.weight.copy_(solution.T)


# ------------------------------------------------------------------------- entropy model


@torch.no_grad()
def start_entropy_model(model: CompressionModel, y: Tensor) -> None:
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
