"""stfcodec heatmap: where in a picture the bits of its .stf file go."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from stfcodec import batch, container, files
from stfcodec.batch import model_name
from stfcodec.cli import coding, commands, messages, paths, rate, reading, values
from stfcodec.errors import ImageError, UsageError, printable
from stfcodec.formats import STREAM_SUFFIX, STREAM_SUFFIXES
from stfcodec.limits import Limits
from stfcodec.settings import EncodeSettings

_NAMING = batch.Naming(STREAM_SUFFIXES, ".png")
_NO_OUTPUT = os.devnull
"""Stands for the output where --json alone is asked for."""

if TYPE_CHECKING:
    import numpy as np

    from stfcodec.bits import BitAllocation
    from stfcodec.imageio import Picture


class _Found(NamedTuple):
    """A bit allocation, and what it is of."""

    name: str
    allocation: BitAllocation

    @property
    def title(self) -> str:
        info = self.allocation.info
        return f"{self._model}, {info.total_bytes} bytes, {info.bpp:.3f} bpp"

    @property
    def size(self) -> tuple[int, int]:
        return self.allocation.info.width, self.allocation.info.height

    @property
    def _model(self) -> str:
        info = self.allocation.info
        return f"{model_name(info.model_id)} quality {info.quality:g}"

    def describe(self) -> str:
        """One line of text for people."""
        a = self.allocation
        top = f"a tenth of the positions takes {a.concentration:.0%}"
        other = f"other {a.info.overhead_bytes} bytes"
        bits = f"y {a.y.sum() / 8:.0f} + z {a.z.sum() / 8:.0f} bytes of bits, {other}"
        return f"{printable(self.name)}: {self.title}: {bits}; {top}"

    def to_json(self) -> dict[str, Any]:
        model = model_name(self.allocation.info.model_id)
        return {"input": self.name, "model": model, **self.allocation.to_json()}


@click.command("heatmap", cls=commands.Command)
@click.argument("source", metavar="INPUT", shell_complete=values.complete_inputs)
@click.option(
    "-o",
    "--output",
    metavar="OUT",
    shell_complete=values.complete_files,
    help="Picture or folder to write, such as heat.png; - for stdout.",
)
@rate.options
@click.option(
    "--beside",
    metavar="MODEL|FILE",
    shell_complete=values.complete_inputs,
    help="Draw a second map beside the first: of the same picture coded with this model, without "
    "--weights, or of another .stf file of the same size.",
)
@click.option("--overlay", is_flag=True, help="Draw the map over the picture in grey.")
@coding.running_options
@click.option("-f", "--force", is_flag=True, help="Replace an existing output.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a map on stdout.")
@click.option("--quiet", is_flag=True, help="Print nothing but errors.")
@click.pass_context
def command(
    context: click.Context,
    /,
    source: str,
    output: str | None,
    beside: str | None,
    overlay: bool,
    weights: Path | None,
    device: str,
    max_pixels: int,
    threads: int | None,
    force: bool,
    as_json: bool,
    quiet: bool,
    **parameters: Any,
) -> int:
    """Draw where in a picture the bits of its .stf file go.

    INPUT is a picture, which is coded first, or an .stf file. A latent position stands for 16x16
    pixels. Its bits are those of its latents y, and its share of the bits of the hyper-latents z.
    Everything else in the file (header, metadata, alpha) has no place in the picture.
    """
    if output is None and not as_json:
        raise UsageError("give -o FILE for the picture, or --json for the numbers")
    plan = paths.plan([source], output or _NO_OUTPUT, _NAMING, recursive=False)
    if plan.refused:
        failure = plan.refused[0].failure
        assert failure is not None
        messages.fail(source, failure, as_json)
        return failure.exit_code
    (job,) = plan.jobs
    coding.check_streams(plan.jobs, as_json)
    format_name = _check_output(job, beside, force) if output else ""
    named = rate.given(context)
    maker = _Maker(rate.settings(parameters), weights, device, Limits(pixels=max_pixels))
    coding.prepare(threads)
    with messages.recorded(source, as_json):
        data = reading.read_bytes(job.source, maker.limits)
        picture: Picture | None = None
        if container.has_signature(data):
            if named:
                raise UsageError(f"{source} is coded already: leave out {', '.join(named)}")
            found = [maker.of_stream(source, data)]
        else:
            picture = _read(source, data, maker)
            for note in () if quiet else picture.notes:
                messages.warn(source, note)
            found = [maker.of_picture(source, picture)]
        if beside is not None:
            found.append(_beside(beside, source, picture, maker))
            _check_sizes(found)
        if output is not None:
            pixels = None
            if overlay:
                from stfcodec.imageio import to_8_bits

                shown = maker.decode(data) if picture is None else picture
                pixels = to_8_bits(shown.pixels)
            _write(found, pixels, job, format_name, force)
    for each in found:
        if as_json:
            written = {} if output is None else {"output": job.output_name}
            messages.record(each.to_json() | written)
        elif not quiet:
            messages.say(each.describe())
    return 0


@dataclass(frozen=True)
class _Maker:
    """Makes bit allocations, with the options of one command."""

    settings: dict[str, Any]
    """Fields of `EncodeSettings`, for pictures."""
    weights: Path | None
    device: str
    limits: Limits

    def of_stream(self, name: str, data: bytes) -> _Found:
        from stfcodec import api

        with reading.named(name):
            allocation = api.bit_allocation(
                data, device=self.device, weights=self.weights, limits=self.limits
            )
        return _Found(name, allocation)

    def of_picture(self, name: str, picture: Picture) -> _Found:
        from stfcodec import api

        with reading.named(name):
            data = api.encode_with(picture, self.encode_settings())
        return self.of_stream(name, data)

    def encode_settings(self) -> EncodeSettings:
        return EncodeSettings(
            **self.settings, weights=self.weights, device=self.device, limits=self.limits
        )

    def decode(self, data: bytes) -> Picture:
        from stfcodec import api

        return api.decode_picture(
            data, device=self.device, weights=self.weights, limits=self.limits
        )


def _read(name: str, data: bytes, maker: _Maker) -> Picture:
    with reading.named(name):
        return reading.read_picture(data, maker.encode_settings())


def _check_output(job: batch.Job, beside: str | None, force: bool) -> str:
    """Pillow's name of the output's format. Raises UsageError before any work."""
    from stfcodec.imageio import output_format

    if job.output is None:
        return "PNG"
    files.check_output(job.output, force)
    if _names_stream(beside) and files.identity(job.output) == files.identity(Path(beside or "")):
        raise UsageError(f"-o {job.output} is an input; use another -o")
    try:
        return output_format(job.output)
    except ImageError as error:
        raise UsageError(f"-o {job.output}: {error}") from error


def _names_stream(beside: str | None) -> bool:
    return beside is not None and beside.lower().endswith(STREAM_SUFFIX)


def _beside(beside: str, source: str, picture: Picture | None, maker: _Maker) -> _Found:
    """The second map: of an .stf file, or of the picture coded with another model."""
    other = replace(maker, weights=None)
    if _names_stream(beside):
        return other.of_stream(beside, reading.read_bytes(Path(beside), other.limits))
    if picture is None:
        raise UsageError(
            f"--beside {beside}: {source} is coded already; give its picture, or another "
            f"{STREAM_SUFFIX} file after --beside"
        )
    other = replace(other, settings={**maker.settings, "model": beside.lower()})
    return other.of_picture(source, picture)


def _check_sizes(found: list[_Found]) -> None:
    first, second = found
    if first.size != second.size:
        sizes = ("{}x{}".format(*f.size) for f in found)
        raise UsageError(
            f"{first.name} and {second.name} are {' and '.join(sizes)}: two maps need one size"
        )


def _write(
    found: list[_Found], pixels: np.ndarray | None, job: batch.Job, format_name: str, force: bool
) -> None:
    """Draw the maps, over the pixels where there are some."""
    from io import BytesIO

    from stfcodec import heatmap, imageio

    image = heatmap.draw(
        [heatmap.Panel(f.title, f.allocation.positions, f.size, pixels) for f in found]
    )
    buffer = BytesIO()
    imageio.write_picture(imageio.read_picture(image), buffer, format_name)
    if job.output is None:
        files.write_standard_output(buffer.getvalue())
    else:
        # An overlay shows the picture, so the map is as private as its source.
        files.write_bytes(job.output, buffer.getvalue(), overwrite=force, like=[job.source])
