"""WACNN: the paper's CNN with window attention modules (Fig. 2)."""

from __future__ import annotations

from torch import Tensor, nn

from stfcodec.models.attention import WindowAttentionModule
from stfcodec.models.base import Step, round_up
from stfcodec.models.channelwise import ChannelwiseModel
from stfcodec.models.layers import GDN, PixelDeconv, conv5x5_down, deconv5x5_up
from stfcodec.models.registry import WacnnWidths


class WACNN(ChannelwiseModel):
    """Stride-2 convolutions with GDN; attention in windows at ¼ and 1⁄16 resolution."""

    def __init__(self, widths: WacnnWidths) -> None:
        super().__init__(widths.entropy)
        a, b, c, m = widths.channels

        def attention(dim: int, window: int) -> nn.Module:
            return WindowAttentionModule(dim, window, widths.heads, widths.units)

        fine, coarse = widths.windows
        # 5×5 convolutions; half a window and the residual units at ¼, then at 1⁄16.
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

    def analysis_steps(self, quality: Tensor | float) -> tuple[Step, ...]:
        return (
            Step(self._fine_analysis, (1, 4), self._margins[0]),
            Step(self._coarse_analysis, (4, 16), self._margins[1], tiles=3),
        )

    def synthesis_steps(self, quality: Tensor | float) -> tuple[Step, ...]:
        return (
            Step(self._coarse_synthesis, (16, 4), self._margins[1], tiles=3),
            Step(self._fine_synthesis, (4, 1), self._margins[0]),
        )

    def precise_layers(self) -> tuple[nn.Module, ...]:
        return self.g_a[0], self.g_s[-1]

    def _fine_analysis(self, x: Tensor) -> Tensor:
        return self.g_a[1:5](self._lower(self.g_a[0](x)))

    def _coarse_analysis(self, x: Tensor) -> Tensor:
        return self.g_a[5:](x)

    def _coarse_synthesis(self, y_hat: Tensor) -> Tensor:
        return self.g_s[:4](self._lower(y_hat))

    def _fine_synthesis(self, x: Tensor) -> Tensor:
        return self.g_s[-1](self._raise(self.g_s[4:-1](x)))
