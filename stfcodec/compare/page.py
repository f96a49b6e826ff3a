"""The comparison as one HTML file that holds all it needs: pictures, styles and scripts."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from PIL import Image

from stfcodec import __version__, heatmap, machine
from stfcodec.compare import charts, others, summary
from stfcodec.compare.results import Comparison, ImageFile, Point
from stfcodec.errors import printable
from stfcodec.geometry import DOWNSAMPLING_Y
from stfcodec.models import registry


def render(comparisons: Sequence[Comparison]) -> str:
    """The page. comparisons: at least one, all with the same operating points."""
    environment = Environment(
        loader=PackageLoader("stfcodec.compare", "report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    means = summary.means(comparisons)
    return environment.get_template("page.html").render(
        comparisons=comparisons,
        titles=_titles(comparisons),
        models=[r.codec for r in comparisons[0].points[0].results if r.ours],
        pictures=[_picture(comparison) for comparison in comparisons],
        state=_state(comparisons),
        summary=summary,
        curves=[charts.charts([summary.rows(p) for p in c.points]) for c in comparisons],
        means=means,
        mean_curves=charts.charts([mean.rows for mean in means]),
        qualities=[point.quality for point in comparisons[0].points],
        others=others.available()[0],
        absent=others.available()[1],
        about={"stfcodec": __version__, **machine.describe()},
        data_uri=_data_uri,
        style=_file("style.css"),
        script=_file("viewer.js"),
        position=DOWNSAMPLING_Y,
        start=_start(comparisons[0]),
    )


def _titles(comparisons: Sequence[Comparison]) -> list[str]:
    """Names of files without their folders, which are nobody's business; equal ones numbered."""
    names = ["standard input" if c.name == "-" else Path(c.name).name for c in comparisons]
    names = [printable(name) for name in names]
    return [
        name if names.count(name) == 1 else f"{name} ({names[: i + 1].count(name)})"
        for i, name in enumerate(names)
    ]


def _start(comparison: Comparison) -> int:
    """The operating point that is shown first: the one that is nearest to encode's default."""
    away = [abs(point.quality - registry.DEFAULT_QUALITY) for point in comparison.points]
    return away.index(min(away))


def _file(name: str) -> str:
    return (resources.files("stfcodec.compare") / "report" / name).read_text(encoding="utf-8")


def _data_uri(file: ImageFile) -> str:
    return f"data:{file.mime};base64,{base64.b64encode(file.data).decode('ascii')}"


def _picture(comparison: Comparison) -> list[dict[str, Any]]:
    """What the template needs of each operating point beside the numbers: maps and their scale."""
    maps = [r.bits for point in comparison.points for r in point.results if r.bits is not None]
    top = heatmap.scale_end(maps)
    return [
        {
            "top": f"{top:g}",
            "maps": [None if r.bits is None else _map(r.bits, top) for r in point.results],
        }
        for point in comparison.points
    ]


def _map(bits: np.ndarray, top: float) -> ImageFile:
    """Bits per latent position as a picture with one pixel for each position."""
    buffer = io.BytesIO()
    Image.fromarray(heatmap.colours(bits / top)).save(buffer, "PNG")
    return ImageFile("image/png", buffer.getvalue())


def _state(comparisons: Sequence[Comparison]) -> list[dict[str, Any]]:
    """What the script needs: sizes, and a caption for every picture that can be shown."""
    return [
        {
            "width": c.width,
            "height": c.height,
            "caption": f"source, {c.width}×{c.height}, {c.source_bytes} bytes",
            "points": [{"results": _captions(point)} for point in c.points],
        }
        for c in comparisons
    ]


def _captions(point: Point) -> list[dict[str, str]]:
    names = {"PSNR": " dB", "MS-SSIM": "", "SSIMULACRA2": ""}
    found = []
    for result, row in zip(point.results, summary.rows(point), strict=True):
        cells = dict(zip(summary.HEADINGS, summary.cells(row), strict=True))
        scores = [
            f"{name} {cells[name]}{unit}" for name, unit in names.items() if cells[name] != "–"
        ]
        size = f"{result.size} bytes"
        if not point.is_matched(result):
            size += f" ({row.relative_size:.2f} × the size)"
        caption = ", ".join([result.codec, size, f"{result.bpp:.3f} bpp", *scores])
        found.append({"codec": result.codec, "caption": caption})
    return found
