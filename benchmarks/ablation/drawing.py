"""The pictures of the study: rate-distortion curves, and heat maps of the bits of one picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import torch

from benchmarks.ablation.measure import ALLOCATION_QUALITY
from benchmarks.ablation.page import Record
from benchmarks.ablation.runs import BASES, KINDS, Run
from benchmarks.ablation.study import trained
from benchmarks.plots import STYLE
from stfcodec.bits import per_position
from stfcodec.geometry import DOWNSAMPLING_Z
from stfcodec.heatmap import Panel, draw

_COLORS = {"window": "#0b5fc0", "nonlocal": "#d2491f", "none": "#6f6f6f"}


def curves(records: Sequence[Record], path: Path) -> None:
    """PSNR against bits per pixel, one panel a codec, one line a run."""
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(1, len(BASES), figsize=(11, 4.6), sharey=True)
        for axis, (base, title) in zip(axes, BASES.items(), strict=True):
            for record in records:
                if record["base"] != base:
                    continue
                attention = record["attention"]
                axis.plot(
                    [p["bpp"] for p in record["points"]],
                    [p["psnr"] for p in record["points"]],
                    marker="o",
                    markersize=3,
                    linewidth=1.2,
                    alpha=0.8,
                    color=_COLORS[attention],
                    label=KINDS[attention] if record["seed"] == 0 else None,
                )
            axis.set_title(title)
            axis.set_xlabel("bits per pixel")
        axes[0].set_ylabel("PSNR, dB")
        axes[0].legend(title="attention", frameon=False, loc="lower right")
        figure.tight_layout()
        figure.savefig(path)
        plt.close(figure)


@torch.inference_mode()
def heat_maps(out: Path, base: str, seed: int, pixels: np.ndarray, path: Path) -> None:
    """Heat maps of one picture, uint8 (H, W, 3) with sides multiples of 64, for every kind."""
    x = torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 255
    height, width = pixels.shape[:2]
    panels = []
    for attention, title in KINDS.items():
        run = Run(base, attention, seed)
        model = trained(out / run.name, run)
        coded = model.compress(model.analysis(x), ALLOCATION_QUALITY)
        size = height // DOWNSAMPLING_Z, width // DOWNSAMPLING_Z
        bits = per_position(*model.bits_per_position(coded, size, ALLOCATION_QUALITY))
        bpp = bits.sum() / (height * width)
        panels.append(Panel(f"{title}, {bpp:.3f} bpp", bits, (width, height)))
    draw(panels).save(path)
