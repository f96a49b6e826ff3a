"""WACNN, the paper's CNN with window attention modules (Fig. 2): the transforms.

`channelwise.py` has its entropy model.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from stfcodec.geometry import round_up
from stfcodec.models.attention import WindowAttentionModule
from stfcodec.models.base import Stage
from stfcodec.models.channelwise import ChannelwiseModel
from stfcodec.models.layers import GDN, PixelDeconv, conv5x5_down, deconv5x5_up
from stfcodec.models.registry import WacnnWidths

AttentionMaker = Callable[[int, int], nn.Module]
"""(channels, window) -> a module of (B, channels, H, W) that keeps the shape."""


def window_attention(widths: WacnnWidths) -> AttentionMaker:
    """What makes the window attention modules of these widths."""

    def make(dim: int, window: int) -> nn.Module:
        return WindowAttentionModule(dim, window, widths.heads, widths.units)

    return make


class WACNN(ChannelwiseModel):
    """Stride-2 convolutions with GDN, and window attention at ¼ and 1⁄16 resolution."""

    def __init__(self, widths: WacnnWidths, attention: AttentionMaker | None = None) -> None:
        """attention: makes each attention module; None: window attention modules."""
        super().__init__(widths.entropy)
        a, b, c, m = widths.channels
        attention = attention or window_attention(widths)
        fine, coarse = widths.windows
        # Receptive field: the 5×5 convolutions, half a window and the residual units at ¼, then the
        # same at 1⁄16.
        self._margins = (
            round_up(2 + 4 + 4 * (fine // 2 + widths.units), 4 * fine),
            round_up(8 + 16 + 16 * (coarse // 2 + widths.units), 16 * coarse),
        )
        self.g_a = nn.Sequential(
            conv5x5_down(3, a), GDN(a),
            conv5x5_down(a, b), GDN(b), attention(b, fine),
            conv5x5_down(b, c), GDN(c),
            conv5x5_down(c, m), attention(m, coarse),
        )  # fmt: skip
        self.g_s = nn.Sequential(
            attention(m, coarse), deconv5x5_up(m, c), GDN(c, inverse=True),
            deconv5x5_up(c, b), GDN(b, inverse=True),
            attention(b, fine), deconv5x5_up(b, a), GDN(a, inverse=True),
            PixelDeconv(a, 3),
        )  # fmt: skip

    def analysis_stages(self, quality: Tensor | float) -> tuple[Stage, ...]:
        return (
            Stage(self._fine_analysis, (1, 4), self._margins[0]),
            Stage(self._coarse_analysis, (4, 16), self._margins[1], tile_scale=3),
        )

    def synthesis_stages(self, quality: Tensor | float) -> tuple[Stage, ...]:
        return (
            Stage(self._coarse_synthesis, (16, 4), self._margins[1], tile_scale=3),
            Stage(self._fine_synthesis, (4, 1), self._margins[0]),
        )

    def precise_layers(self) -> tuple[nn.Module, ...]:
        return self.g_a[0], self.g_s[-1]

    def _fine_analysis(self, x: Tensor) -> Tensor:
        return self.g_a[1:5](self.cast_inner(self.g_a[0](x)))

    def _coarse_analysis(self, x: Tensor) -> Tensor:
        return self.g_a[5:](x)

    def _coarse_synthesis(self, y_hat: Tensor) -> Tensor:
        return self.g_s[:4](self.cast_inner(y_hat))

    def _fine_synthesis(self, x: Tensor) -> Tensor:
        return self.g_s[-1](self.cast_precise(self.g_s[4:-1](x)))
