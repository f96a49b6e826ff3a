"""Faster forms of layers on CPUs. Each equals its layer up to float rounding.

`layers.py` and `attention.py` define the layers and decide when these functions replace them: most
of the functions have no gradient, or a slow one.
"""

from __future__ import annotations

from itertools import product

import torch
import torch.nn.functional as F
from torch import Tensor


def without_gradients(x: Tensor) -> bool:
    """Whether x is on a CPU and no gradient is recorded."""
    return x.device.type == "cpu" and not torch.is_grad_enabled()


def linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """`F.linear` of bfloat16 as a 1×1 convolution: (…, m, n, in_features) -> (…, m, n,
    out_features).

    The convolution adds the bias on its way, and its gradients take less time.
    """
    maps = x.reshape(-1, *x.shape[-3:]).permute(0, 3, 1, 2)
    mapped = F.conv2d(maps, weight[:, :, None, None], bias)
    return mapped.permute(0, 2, 3, 1).reshape(*x.shape[:-1], weight.shape[0])


def softmax(logits: Tensor) -> Tensor:
    """`logits.softmax(-1)` for rows of bfloat16 that are shorter than a vector register."""
    return logits.softmax(-1, dtype=torch.float32).to(logits.dtype)


def drop_denormals(weights: Tensor) -> None:
    """Set attention weights below 10⁻³⁰ to 0, in place.

    exp(−100), the weight of a masked pair, is a denormal number. Products of denormals take CPUs up
    to a hundred times as long.
    """
    torch.threshold_(weights, 1e-30, 0)


def roll(x: Tensor, shift: int) -> Tensor:
    """`torch.roll(x, (-shift, -shift), (1, 2))` of x (B, H, W, C), without gradients.

    Every element is written once; torch.roll makes two copies.
    """
    rolled = torch.empty_like(x)
    pieces = (slice(-shift), slice(shift, None)), (slice(-shift, None), slice(shift))
    for (rows, from_rows), (cols, from_cols) in product(pieces, repeat=2):
        rolled[:, rows, cols] = x[:, from_rows, from_cols]
    return rolled


def deconv5x5_up(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Transposed 5×5 convolution of stride 2 with few output channels.

    x: (B, c_in, H, W), weight: (c_in, c_out, 5, 5) -> (B, c_out, 2·H, 2·W). It runs as a 3×3
    convolution to the four phases of each 2×2 block of outputs: 4·c_out channels fill the vector
    registers better than c_out.
    """
    # Output 2m + r reads input m + t − 1 through tap 2·(2 − t) + r. The padded tap 5 is 0.
    taps = F.pad(weight, (0, 1, 0, 1)).unflatten(3, (3, 2)).unflatten(2, (3, 2))
    return _by_phases(x, taps.flip(2, 4).permute(1, 3, 5, 0, 2, 4).flatten(0, 2), bias)


def conv3x3_of_shuffled(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """3×3 convolution of pixel-shuffled x, with few output channels.

    x: (B, 4·c_in, H, W), weight: (c_out, c_in, 3, 3) -> (B, c_out, 2·H, 2·W). It runs at the lower
    resolution, to four phases as in `deconv5x5_up`.
    """
    return _by_phases(x, _pair_kernel(_pair_kernel(weight, 2), 3), bias)


def _by_phases(x: Tensor, phases: Tensor, bias: Tensor) -> Tensor:
    """3×3 convolution to the four phases of each 2×2 block of outputs, interleaved.

    x: (B, c_in, H, W), phases: (c_out·4, c_in, 3, 3), bias: (c_out,) -> (B, c_out, 2·H, 2·W),
    channels last in memory.
    """
    c_out = len(bias)
    # With the colours innermost, a whole row of a block is copied at once.
    phases = phases.unflatten(0, (c_out, 4)).transpose(0, 1).flatten(0, 1)
    phases = phases.contiguous(memory_format=torch.channels_last)
    y = F.conv2d(x, phases, bias.repeat(4), padding=1).permute(0, 2, 3, 1)
    B, H, W, _ = y.shape
    blocks = y.reshape(B, H, W, 2, 2 * c_out).transpose(2, 3)
    return blocks.reshape(B, 2 * H, 2 * W, c_out).permute(0, 3, 1, 2)


def _pair_kernel(weight: Tensor, dim: int) -> Tensor:
    """A kernel along `dim` as a kernel between pairs of positions.

    (c_out, c_in, 3, 3) -> (2·c_out, 2·c_in, 3, 3). Output 2m + r reads input 2m + r + i through tap
    i + 1: the element (r + i) % 2 of the pair m + (r + i) // 2.
    """
    c_out, c_in, *taps = weight.shape
    pairs = weight.new_zeros(c_out, 2, c_in, 2, *taps)
    for r in range(2):
        for i in (-1, 0, 1):
            pair, element = divmod(r + i, 2)
            target = pairs[:, r, :, element].select(dim, pair + 1)
            target.copy_(weight.select(dim, i + 1))
    return pairs.flatten(2, 3).flatten(0, 1)
