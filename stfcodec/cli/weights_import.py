"""stfcodec weights import: makes weights of checkpoints, and installs them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from stfcodec import files
from stfcodec.cli import commands, messages, reading, values
from stfcodec.cli.models import table
from stfcodec.errors import UsageError, WeightsError, printable
from stfcodec.models import locate, registry
from stfcodec.temporary import remove_stale

if TYPE_CHECKING:
    from torch import Tensor

    from stfcodec.checkpoints.convert import Conversion
    from stfcodec.models.integer_cost import Point

_CROP, _PICTURES = 256, 100
"""Side of the crops from the pictures of --calibrate, and how many of these are read."""


@click.command("import", cls=commands.Command)
@click.argument(
    "checkpoints",
    nargs=-1,
    required=True,
    metavar="CHECKPOINT...",
    shell_complete=values.complete_files,
)
@click.option(
    "-m",
    "--model",
    type=values.ModelName(),
    metavar="MODEL",
    help="The model.  [default: by its parameters]",
)
@click.option(
    "--lambda", "lmbda", type=float, metavar="L", help="λ.  [default: as in the file's name]"
)
@click.option(
    "--calibrate",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Measure value ranges on the pictures below DIR.  [default: on 20 that are built in]",
)
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), metavar="FILE", help="Write here instead."
)
@click.option("-f", "--force", is_flag=True, help="Replace an existing FILE.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a checkpoint on stdout.")
def command(
    checkpoints: tuple[str, ...],
    model: str | None,
    lmbda: float | None,
    calibrate: Path | None,
    output: Path | None,
    force: bool,
    as_json: bool,
) -> int:
    """Make weights that code of each CHECKPOINT, and install them.

    CHECKPOINT is one of the authors' (cnn_0067_best.pth.tar), one of 'stfcodec train' (last.pt), or
    a weights file of somebody else. On built-in pictures, every machine makes the same weights of a
    published checkpoint. Printed are bits per pixel and PSNR on four other pictures, of the float
    networks and of the integers that code. At paper size this takes a minute or two.
    """
    _check_request(checkpoints, model, lmbda, calibrate, output, force)
    if output is None:
        folder = locate.installed_folder()
        files.make_folder(folder)
        remove_stale(folder)
    batches = None if calibrate is None else _crops_below(calibrate)

    def act(name: str) -> None:
        _import(Path(name), model, lmbda, batches, output, force, as_json)

    return reading.each(checkpoints, act, as_json)


def _check_request(
    checkpoints: Sequence[str],
    model: str | None,
    lmbda: float | None,
    calibrate: Path | None,
    output: Path | None,
    force: bool,
) -> None:
    """Raise UsageError before anything is read."""
    if len(checkpoints) > 1 and (lmbda is not None or output is not None):
        option = "--lambda" if lmbda is not None else "-o"
        raise UsageError(f"{option} is for one checkpoint; import them one by one")
    if model is not None:
        registry.by_name(model)
    if calibrate is not None and not calibrate.is_dir():
        raise UsageError(f"--calibrate {calibrate}: no folder of pictures")
    if output is not None:
        if output.suffix != ".safetensors":
            raise UsageError(f"-o {output}: the name must end in .safetensors")
        if not output.parent.is_dir():
            raise UsageError(f"-o {output}: there is no folder {output.parent}")
        files.check_output(output, force)


def _crops_below(folder: Path) -> list[Tensor]:
    """48 batches of one crop: as many as calibration takes in a few minutes at paper size."""
    from stfcodec.models.coding_tables import CALIBRATION_BATCHES
    from stfcodec.train.data import calibration_crops, load_photographs

    photographs = load_photographs(folder, _CROP, _PICTURES)
    return [batch[:1] for batch in calibration_crops(photographs, _CROP, CALIBRATION_BATCHES)]


def _import(
    path: Path,
    model: str | None,
    lmbda: float | None,
    batches: list[Tensor] | None,
    output: Path | None,
    force: bool,
    as_json: bool,
) -> None:
    """Import one checkpoint and print what became of it."""
    from stfcodec.checkpoints import samples
    from stfcodec.checkpoints.convert import convert
    from stfcodec.checkpoints.recognise import check_model, recognise_model, recognise_quality
    from stfcodec.models.state_dicts import read_state_file
    from stfcodec.models.weights import has_integer_form

    file = read_state_file(path)
    if model is None:
        info = recognise_model(file.tensors, path)
    else:
        info = check_model(registry.by_name(model), file.tensors, path)
    if batches is not None and has_integer_form(file.tensors):
        raise UsageError(f"{path} is calibrated already: leave --calibrate out")
    quality = recognise_quality(file, path, info, lmbda)
    messages.say(f"stfcodec: {printable(str(path))}: {_title(info, quality)}")
    done = convert(
        file,
        path,
        info,
        quality,
        samples.calibration_batches() if batches is None else batches,
        samples.measured_pictures(),
    )
    installed = output is None
    if output is None:
        one = 1 if quality is None else quality
        name = locate.installed_name(info, one, done.fingerprint)
        output = locate.installed_folder() / name
        force = force or not _is_other_analysis(output, done)
    files.write_bytes(output, done.data, overwrite=force)
    if as_json:
        messages.record(_record(path, output, info, quality, done))
    else:
        for line in _report(done):
            messages.result(line)
        messages.result(f"weights {done.fingerprint.hex()}: {printable(str(output))}")
    if installed:
        _note_if_unused(output, info, quality)


def _is_other_analysis(path: Path, done: Conversion) -> bool:
    """Whether a whole file of this name has another g_a or h_a, which its fingerprint leaves out.

    Then the two can decode the same streams, and which one to keep is the user's choice.
    """
    from stfcodec.models import weights

    existing = locate.describe_file(path)
    if existing is None or existing.model is None or existing.digest == done.digest:
        return False
    try:
        weights.verify(registry.by_name(existing.model), path)
    except WeightsError:
        return False
    return True


def _note_if_unused(path: Path, info: registry.ModelInfo, quality: float | None) -> None:
    used = locate.find(info, registry.DEFAULT_QUALITY if quality is None else quality)
    if not used.samefile(path):
        messages.note(
            f"encode goes on taking {used} for {info.name}; --weights {path} names these weights"
        )


def _title(info: registry.ModelInfo, quality: float | None) -> str:
    if quality is None:
        return info.name
    return f"{info.name}, λ {registry.lambda_from_quality(quality):g} (quality {quality:g})"


def _points(done: Conversion) -> Iterator[tuple[float, str, Point]]:
    """Quality, kind of networks, and what was measured."""
    for i, quality in enumerate(done.qualities):
        for name, points in (("float", done.floating), ("integers", done.integer)):
            if points:
                yield quality, name, points[i]


def _report(done: Conversion) -> Iterator[str]:
    rows: list[tuple[str, ...]] = [("quality", "", "bpp", "PSNR (dB)")]
    for quality, name, (bpp, psnr) in _points(done):
        rows.append((f"{quality:g}", name, f"{bpp:.4f}", f"{psnr:.3f}"))
    return table(rows)


def _record(
    path: Path,
    output: Path,
    info: registry.ModelInfo,
    quality: float | None,
    done: Conversion,
) -> dict[str, Any]:
    measured = [
        {"quality": q, "networks": name, "bpp": round(bpp, 4), "psnr": round(psnr, 3)}
        for q, name, (bpp, psnr) in _points(done)
    ]
    return {
        "input": str(path),
        "output": str(output),
        "model": info.name,
        "quality": quality,
        "fingerprint": done.fingerprint.hex(),
        "bytes": len(done.data),
        "measured": measured,
    }
