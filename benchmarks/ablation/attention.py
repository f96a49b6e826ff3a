"""The attention modules that the study compares, by name."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stfcodec.models.attention import AttentionModule
from stfcodec.models.layers import conv1x1
from stfcodec.models.registry import WacnnWidths
from stfcodec.models.wacnn import AttentionMaker, window_attention


class NonLocalBlock(nn.Module):
    """x + W(softmax(θ(x)ᵀ φ(x)) g(x)), every position of the map attending to every other.

    The embedded Gaussian form with half the channels inside (Wang et al., "Non-local neural
    networks", CVPR 2018). x: (B, dim, H, W), same out.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.theta, self.phi, self.g = (conv1x1(dim, dim // 2) for _ in range(3))
        self.W = conv1x1(dim // 2, dim)

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = (m(x).flatten(2).mT[:, None] for m in (self.theta, self.phi, self.g))
        # Fused attention never holds all pairs of positions: on a 512×768 picture they are 600
        # million at ¼ resolution.
        y = F.scaled_dot_product_attention(query, key, value, scale=1.0)
        return x + self.W(y[:, 0].mT.unflatten(2, x.shape[2:]))


class NonLocalAttentionModule(AttentionModule):
    """The module that the paper replaces (NLAM; Liu et al., "Non-local attention optimized deep
    image compression", 2019), with the paper's residual units.

    x: (B, dim, H, W), same out.
    """

    def __init__(self, dim: int, units: int = 3) -> None:
        super().__init__(dim, NonLocalBlock(dim), units)


class Opening(nn.Module):
    """x + s·(module(x) − x), with a factor s for each channel that starts at 0.

    A codec with modules so starts as the one without, and they open as far as they help. With
    modules that act from the first step on, minutes of training do not make up for what they spoil
    at the start. x: (B, dim, H, W), same out.
    """

    def __init__(self, module: nn.Module, dim: int) -> None:
        super().__init__()
        self.module = module
        self.opening = nn.Parameter(torch.zeros(dim, 1, 1))
        """A small part of s, which so learns faster than the learning rate of weights allows."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.lerp(x, self.module(x), (_OPENING_UNIT * self.opening).to(x.dtype))


_OPENING_UNIT = 10.0


def attention_maker(kind: str, widths: WacnnWidths) -> AttentionMaker:
    """The one switch of the study. kind: a key of `runs.KINDS`. Raises KeyError for others."""
    window_module = window_attention(widths)
    makers: dict[str, AttentionMaker] = {
        "window": lambda dim, window: Opening(window_module(dim, window), dim),
        "nonlocal": lambda dim, _: Opening(NonLocalAttentionModule(dim, widths.units), dim),
        "none": lambda dim, window: nn.Identity(),
    }
    return makers[kind]
