"""WACNN: the paper's CNN with window attention modules (Fig. 2)."""

from __future__ import annotations

from torch import Tensor, nn

from stfcodec.models.entropy_model import CompressionModel
from stfcodec.models.layers import GDN, WindowAttentionModule, conv5x5_down, deconv5x5_up
from stfcodec.models.registry import WacnnWidths


class WACNN(CompressionModel):
    """Stride-2 convolutions with GDN; attention in windows at ¼ and 1⁄16 resolution."""

    def __init__(self, widths: WacnnWidths, variable_rate: bool = False) -> None:
        super().__init__(widths.entropy, variable_rate)
        a, b, c, m = widths.channels

        def attention(dim: int, window: int) -> nn.Module:
            return WindowAttentionModule(dim, window, widths.heads, widths.units)

        def gdn(dim: int, inverse: bool = False) -> nn.Module:
            return GDN(dim, inverse, widths.gdn_root)

        fine, coarse = widths.windows
        # Four 5×5 convolutions; a window's far side, and the residual units, at ¼ and at 1⁄16.
        reach = 2 * (2 + 4 + 8 + 16) + 4 * (fine + widths.units) + 16 * (coarse + widths.units)
        self.margin = 64 * -(-reach // 64)
        self.g_a = nn.Sequential(
            conv5x5_down(3, a), gdn(a),
            conv5x5_down(a, b), gdn(b), attention(b, fine),
            conv5x5_down(b, c), gdn(c),
            conv5x5_down(c, m), attention(m, coarse),
        )  # fmt: skip
        self.g_s = nn.Sequential(
            attention(m, coarse), deconv5x5_up(m, c), gdn(c, inverse=True),
            deconv5x5_up(c, b), gdn(b, inverse=True),
            attention(b, fine), deconv5x5_up(b, a), gdn(a, inverse=True),
            deconv5x5_up(a, 3),
        )  # fmt: skip

    def analysis(self, x: Tensor) -> Tensor:
        return self.g_a(x)

    def synthesis(self, y_hat: Tensor) -> Tensor:
        return self.g_s(y_hat)
