"""What `encode --effort` gains and takes: docs/effort.md.

python -m benchmarks.effort PICTURES
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from statistics import median

import click
import numpy as np
from PIL import Image

from benchmarks import rates
from benchmarks.coders import ours
from benchmarks.page import fill, table
from benchmarks.pictures import middle
from benchmarks.rates import Point
from benchmarks.summary import signed
from stfcodec.metrics import bd_rate
from stfcodec.models import locate, registry

_PAGE = Path("docs/effort.md")


@click.command()
@click.argument("pictures", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option(
    "-e", "--effort", "efforts", type=int, multiple=True, default=(1, 3, 10),
    show_default=True,
)  # fmt: skip
@click.option("--crop", type=int, default=256, show_default=True, help="Their middle only.")
def main(pictures: Path, efforts: tuple[int, ...], crop: int) -> None:
    """Code the middle of PICTURES with each effort; rewrite the table in docs/effort.md."""
    images = [
        middle(np.asarray(Image.open(path).convert("RGB")), crop)
        for path in sorted(pictures.glob("*.png"))
    ]
    rows: list[list[str]] = []
    for info in registry.MODELS:
        if info.variable_rate and locate.status(info) != "missing":
            coders = [ours(info, effort) for effort in (0, *efforts)]
            points = rates.measure(coders, images, similarity=False)
            found = [points[coder.name] for coder in coders]
            rows += ([f"`{info.name}`", *row] for row in _rows(efforts, *found))
    head = ["model", "effort", "BD-rate against effort 0", "bpp, dB at quality 1"]
    lines = list(table([*head, "quality 3", "quality 6", "encode, s/MP"], rows))
    fill(_PAGE, "effort", lines)
    click.echo("\n".join(lines))


def _rows(
    efforts: tuple[int, ...], plain: list[Point], *searched: list[Point]
) -> Iterator[list[str]]:
    for effort, points in zip((0, *efforts), (plain, *searched), strict=True):
        gain = bd_rate(rates.curve(plain), rates.curve(points)) if effort else 0.0
        yield [
            str(effort),
            f"{signed(gain, 1)} %",
            *(f"{points[i].bpp:.3f}, {points[i].psnr:.2f}" for i in (0, 2, 5)),
            f"{median(p.encode_s_per_mp for p in points):.2f}",
        ]


if __name__ == "__main__":
    main()
