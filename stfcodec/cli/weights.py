"""stfcodec weights: makes weights of checkpoints, and looks after those that are here."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from stfcodec import files
from stfcodec.batch import explain
from stfcodec.cli import commands, messages, values
from stfcodec.cli.models import table
from stfcodec.errors import StfError, UsageError, WeightsError, printable
from stfcodec.models import locate, registry
from stfcodec.temporary import remove_stale

if TYPE_CHECKING:
    from torch import Tensor

    from stfcodec.checkpoints.convert import Conversion

_CROP, _PICTURES = 256, 100
"""Side of the crops from the pictures of --calibrate, and how many of these are read."""


@click.group("weights", cls=commands.Group, no_args_is_help=True)
def command() -> None:
    """Install weights for the published networks, and look after them.

    Weights are found in the program itself, and in the folder that `stfcodec weights path` prints.
    """


@command.command("import")
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
def import_checkpoints(
    checkpoints: tuple[str, ...],
    model: str | None,
    lmbda: float | None,
    calibrate: Path | None,
    output: Path | None,
    force: bool,
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
        _import(Path(name), model, lmbda, batches, output, force)

    return _each(checkpoints, act)


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


def _report(done: Conversion) -> Iterator[str]:
    rows: list[tuple[str, ...]] = [("quality", "", "bpp", "PSNR (dB)")]
    for i, quality in enumerate(done.qualities):
        for name, points in (("float", done.floating), ("integers", done.integer)):
            if points:
                bpp, psnr = points[i]
                rows.append((f"{quality:g}", name, f"{bpp:.4f}", f"{psnr:.3f}"))
    return table(rows)


@command.command("list")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a file on stdout.")
def list_weights(as_json: bool) -> int:
    """List all weights that are here.

    Of several installed for one model and quality, encode takes those marked with *.
    """
    records = [_record(file) for file in locate.files()]
    if as_json:
        for record in records:
            messages.result(json.dumps(record))
        return 0
    rows: list[tuple[str, ...]] = [("weights", "model", "quality", "MB", "", "file")]
    for r in records:
        quality = "all" if r["quality"] is None else f"{r['quality']:g}"
        used = "*" if r["default"] else ""
        path = "(embedded)" if r["embedded"] else printable(r["path"])
        megabytes = f"{r['bytes'] / 1e6:.1f}"
        known = (r["fingerprint"] or "?", r["model"] or "?")
        rows.append((*known, quality, megabytes, used, path))
    for line in table(rows):
        messages.result(line)
    return 0


def _record(file: locate.WeightsFile) -> dict[str, Any]:
    return {
        "fingerprint": file.fingerprint,
        "model": file.model,
        "quality": file.quality,
        "bytes": file.size,
        "default": _is_default(file),
        "embedded": file.embedded,
        "path": str(file.path),
        "source": file.source,
    }


def _is_default(file: locate.WeightsFile) -> bool:
    """Whether encode takes this file for its model and quality."""
    try:
        info = registry.by_name(file.model or "")
        return locate.find(info, file.quality or registry.DEFAULT_QUALITY) == file.path
    except StfError:
        return False


@command.command("verify")
@click.argument(
    "names", nargs=-1, metavar="[WEIGHTS]...", shell_complete=values.complete_weights
)
def verify(names: tuple[str, ...]) -> int:
    """Load weights and compute their fingerprints anew.

    WEIGHTS are fingerprints or files. Without any, all that are here are verified.
    """

    def act(name: str) -> None:
        for file in _named(name):
            _verify(file)
            messages.result(f"{file.fingerprint}: {printable(str(file.path))} is intact")

    every = (file.fingerprint or str(file.path) for file in locate.files())
    return _each(names or list(every), act)


def _verify(file: locate.WeightsFile) -> None:
    """Raise WeightsError unless a file codes and is what it states."""
    from stfcodec.models import weights

    if file.model is None:
        raise WeightsError(f"{file.path}: damaged, or of a model that this version does not know")
    weights.verify(registry.by_name(file.model), file.path)


@command.command("remove")
@click.argument(
    "names",
    nargs=-1,
    required=True,
    metavar="WEIGHTS...",
    shell_complete=values.complete_weights,
)
def remove(names: tuple[str, ...]) -> int:
    """Remove installed weights, named by their fingerprints or files.

    Pictures coded with them can be decoded again once the checkpoint is imported again.
    """

    def act(name: str) -> None:
        for file in _installed(name):
            file.path.unlink()
            messages.result(f"{file.path.name} removed")

    return _each(names, act)


def _installed(name: str) -> list[locate.WeightsFile]:
    """The files of `_named` among the installed ones. Raises UsageError where there are none."""
    found = _named(name)
    installed = [file for file in found if locate.is_in(file.path, locate.installed_folder())]
    if not installed:
        reason = "part of the program" if found[0].embedded else "not among the installed weights"
        raise UsageError(f"{found[0].path} is {reason}, and stays")
    return installed


@command.command("path")
def path() -> int:
    """Print the folder of installed weights.

    It is $STFCODEC_WEIGHTS, or else a folder in the user's data folder. It may not exist yet.
    """
    messages.result(str(locate.installed_folder()))
    return 0


def _each(names: Sequence[str], act: Callable[[str], None]) -> int:
    """Act on each name; return the command's exit code. A failure does not stop the others."""
    codes = []
    for name in dict.fromkeys(names):
        try:
            act(name)
            codes.append(0)
        except BrokenPipeError:
            raise
        except Exception as error:
            failure = explain(error)
            messages.fail(name, failure)
            codes.append(failure.exit_code)
    return codes[0] if len(codes) == 1 else int(any(codes))


def _named(name: str) -> list[locate.WeightsFile]:
    """The files with a fingerprint, or the file at a path. Raises WeightsError."""
    if found := [file for file in locate.files() if file.fingerprint == name.lower()]:
        return found
    if file := locate.describe_file(Path(name)):
        return [file]
    raise WeightsError("no such weights here; 'stfcodec weights list' lists all")
