"""STF, the paper's symmetrical transformer (Fig. 5): the transforms.

`channelwise.py` has its entropy model.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import pairwise

from torch import Tensor, nn

from stfcodec.geometry import round_up
from stfcodec.models.base import Stage
from stfcodec.models.channelwise import ChannelwiseModel
from stfcodec.models.layers import ShuffledConv
from stfcodec.models.registry import StfWidths
from stfcodec.models.swin import PatchEmbed, PatchMerge, PatchSplit, SwinStage


class STF(ChannelwiseModel):
    """Swin stages with patch merging in analysis and patch splitting in synthesis."""

    def __init__(self, widths: StfWidths) -> None:
        super().__init__(widths.entropy)
        dims = widths.dims
        # Each block adds half a window to the receptive field; end_conv is 5×5 at ½, then 3×3.
        strides = [widths.patch * 2**i for i in range(len(dims))]
        reach = [d * widths.window // 2 * s for d, s in zip(widths.depths, strides, strict=True)]
        self._margins = (
            round_up(5 + reach[0] + reach[1], widths.window * strides[1]),
            round_up(reach[2] + reach[3], widths.window * strides[3]),
        )

        def swin_stage(i: int, resample: nn.Module | None) -> SwinStage:
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
        self.layers = nn.ModuleList(swin_stage(i, m) for i, m in enumerate([*merges, None]))
        self.syn_layers = nn.ModuleList(
            swin_stage(i, s) for i, s in reversed(list(enumerate([None, *splits])))
        )
        self.end_conv = nn.Sequential(
            nn.Conv2d(dims[0], widths.end_width * widths.patch**2, 5, padding=2),
            nn.Identity(),  # keeps the published keys; ShuffledConv shuffles the pixels
            ShuffledConv(widths.end_width, 3),
        )

    def analysis_stages(self, quality: Tensor | float) -> tuple[Stage, ...]:
        return (
            Stage(self._fine_analysis, (1, 8), self._margins[0]),
            Stage(self._coarse_analysis, (8, 16), self._margins[1], tile_scale=3),
        )

    def synthesis_stages(self, quality: Tensor | float) -> tuple[Stage, ...]:
        return (
            Stage(self._coarse_synthesis, (16, 4), self._margins[1], tile_scale=3),
            Stage(self._fine_synthesis, (4, 1), self._margins[0]),
        )

    def precise_layers(self) -> tuple[nn.Module, ...]:
        return self.patch_embed.proj, self.end_conv[-1]

    def _fine_analysis(self, x: Tensor) -> Tensor:
        x = self.cast_inner(self.patch_embed(x).permute(0, 3, 1, 2))
        return _run(self.layers[:2], x)

    # At low resolution the residual sums are float32, as rounding errors there show most.

    def _coarse_analysis(self, x: Tensor) -> Tensor:
        return _run(self.layers[2:], x, self.cast_precise)

    def _coarse_synthesis(self, y_hat: Tensor) -> Tensor:
        return _run(self.syn_layers[:2], y_hat, self.cast_precise)

    def _fine_synthesis(self, x: Tensor) -> Tensor:
        x = self.end_conv[:-1](_run(self.syn_layers[2:], x))
        return self.end_conv[-1](self.cast_precise(x))


def _run(
    stages: Iterable[nn.Module], x: Tensor, cast: Callable[[Tensor], Tensor] = lambda x: x
) -> Tensor:
    """Swin stages, which take (B, H, W, C), on x (B, C, H, W); same out. `cast` sets the precision
    of each stage's input."""
    x = x.permute(0, 2, 3, 1)
    for stage in stages:
        x = stage(cast(x))
    return x.permute(0, 3, 1, 2)
