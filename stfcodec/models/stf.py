"""STF: the paper's symmetrical transformer (Fig. 5)."""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn

from stfcodec.models.entropy_model import CompressionModel
from stfcodec.models.layers import PatchEmbed, PatchMerge, PatchSplit, SwinStage
from stfcodec.models.registry import StfWidths


class STF(CompressionModel):
    """Swin stages with patch merging in analysis and patch splitting in synthesis."""

    def __init__(self, widths: StfWidths, variable_rate: bool = False) -> None:
        super().__init__(widths.entropy, variable_rate)
        dims = widths.dims
        # Every block sees to the far side of its window; end_conv sees 5×5 and then 3×3.
        strides = [widths.patch * 2**i for i in range(len(dims))]
        reach = sum(d * widths.window * s for d, s in zip(widths.depths, strides, strict=True))
        self.margin = 64 * -(-(reach + 8) // 64)

        def stage(i: int, resample: nn.Module | None) -> SwinStage:
            return SwinStage(
                dims[i],
                widths.depths[i],
                widths.heads[i],
                widths.window,
                widths.mlp_ratio,
                resample,
            )

        self.patch_embed = PatchEmbed(widths.patch, dims[0])
        merges = [PatchMerge(a, b) for a, b in pairwise(dims)]
        splits = [PatchSplit(b, a) for a, b in pairwise(dims)]
        self.layers = nn.ModuleList(stage(i, m) for i, m in enumerate([*merges, None]))
        self.syn_layers = nn.ModuleList(
            stage(i, s) for i, s in reversed(list(enumerate([None, *splits])))
        )
        self.end_conv = nn.Sequential(
            nn.Conv2d(dims[0], widths.end_width * widths.patch**2, 5, padding=2),
            nn.PixelShuffle(widths.patch),
            nn.Conv2d(widths.end_width, 3, 3, padding=1),
        )

    def analysis(self, x: Tensor) -> Tensor:
        x = self.patch_embed(x)
        for layer in self.layers:
            x = layer(x)
        return x.permute(0, 3, 1, 2)

    def synthesis(self, y_hat: Tensor) -> Tensor:
        x = y_hat.permute(0, 2, 3, 1)
        for layer in self.syn_layers:
            x = layer(x)
        return self.end_conv(x.permute(0, 3, 1, 2))
