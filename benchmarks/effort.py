"""Gain and cost of `encode --effort`: rewrites the table in docs/effort.md."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import median

import click

from benchmarks import ROOT, points
from benchmarks.coders import model_coder
from benchmarks.markdown import replace_block, signed, table
from benchmarks.options import crop_option, folder_argument
from benchmarks.pictures import read_folder
from benchmarks.points import Point, psnr_curve
from stfcodec.metrics import bd_rate
from stfcodec.models import locate, registry

_PAGE = ROOT / "docs" / "effort.md"


@click.command()
@folder_argument
@click.option(
    "-e",
    "--effort",
    "efforts",
    type=click.IntRange(1, registry.MAX_EFFORT),
    multiple=True,
    default=(1, 3, 10),
    show_default=True,
    help="Effort of encode; may be repeated.",
)
@crop_option(256)
def main(folder: Path, efforts: tuple[int, ...], crop: int) -> None:
    """Code crops of the pictures in FOLDER at each effort; rewrite the table in docs/effort.md."""
    images = read_folder(folder, crop=crop)
    rows: list[list[str]] = []
    for info in registry.MODELS:
        if info.variable_rate and locate.status(info) != "missing":
            coders = {effort: model_coder(info, effort) for effort in (0, *efforts)}
            found = points.measure(list(coders.values()), images, with_ms_ssim=False)
            by_effort = {effort: found[coder.name] for effort, coder in coders.items()}
            rows += ([f"`{info.name}`", *row] for row in _rows(by_effort))
    head = ["model", "effort", "BD-rate against effort 0", "bpp, dB at quality 1"]
    lines = list(table([*head, "quality 3", "quality 6", "encode, s/MP"], rows))
    replace_block(_PAGE, "effort", lines)
    click.echo("\n".join(lines))


def _rows(by_effort: Mapping[int, Sequence[Point]]) -> Iterator[list[str]]:
    plain = psnr_curve(by_effort[0])
    for effort, found in by_effort.items():
        yield [
            str(effort),
            f"{signed(bd_rate(plain, psnr_curve(found)) if effort else 0.0, 1)} %",
            *(f"{found[i].bpp:.3f}, {found[i].psnr:.2f}" for i in (0, 2, 5)),
            f"{median(p.encode_s_per_mp for p in found):.2f}",
        ]


if __name__ == "__main__":
    main()
