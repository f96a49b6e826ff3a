"""stfcodec weights: looks after the weights that are here; `weights_import` makes new ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from stfcodec.cli import commands, messages, reading, values, weights_import
from stfcodec.cli.models import table
from stfcodec.errors import StfError, UsageError, WeightsError, printable
from stfcodec.models import locate, registry


@click.group("weights", cls=commands.Group, no_args_is_help=True)
def command() -> None:
    """Install weights for the published networks, and look after them.

    Weights are found in the program itself, and in the folder that `stfcodec weights path` prints.
    """


command.add_command(weights_import.command)


@command.command("list")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a file on stdout.")
def list_weights(as_json: bool) -> int:
    """List all weights that are here.

    Of several installed for one model and quality, encode takes those marked with *.
    """
    records = [_record(file) for file in locate.files()]
    if as_json:
        for record in records:
            messages.record(record)
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
@click.argument("names", nargs=-1, metavar="[WEIGHTS]...", shell_complete=values.complete_weights)
@click.option("--json", "as_json", is_flag=True, help="One JSON object a file on stdout.")
def verify(names: tuple[str, ...], as_json: bool) -> int:
    """Load weights and compute their fingerprints anew.

    WEIGHTS are fingerprints or files. Without any, all that are here are verified.
    """

    def act(name: str) -> None:
        for file in _named(name):
            _verify(file)
            if as_json:
                messages.record({"input": name, **_record(file)})
            else:
                messages.result(f"{file.fingerprint}: {printable(str(file.path))} is intact")

    every = (file.fingerprint or str(file.path) for file in locate.files())
    return reading.each(names or list(every), act, as_json)


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
@click.option("--json", "as_json", is_flag=True, help="One JSON object a file on stdout.")
def remove(names: tuple[str, ...], as_json: bool) -> int:
    """Remove installed weights, named by their fingerprints or files.

    Pictures coded with them can be decoded again once the checkpoint is imported again.
    """

    def act(name: str) -> None:
        for file in _installed(name):
            record = {"input": name, **_record(file)}
            file.path.unlink()
            if as_json:
                messages.record(record)
            else:
                messages.result(f"{file.path.name} removed")

    return reading.each(names, act, as_json)


def _installed(name: str) -> list[locate.WeightsFile]:
    """The files of `_named` among the installed ones. Raises UsageError where there are none."""
    of_model = [file for file in locate.files() if file.model == name.lower()]
    if of_model and all(file.embedded for file in of_model):
        raise UsageError("the weights of this model are part of the program, and stay")
    found = _named(name)
    installed = [file for file in found if locate.is_in(file.path, locate.installed_folder())]
    if not installed:
        reason = "part of the program" if found[0].embedded else "not among the installed weights"
        raise UsageError(f"{found[0].path} is {reason}, and stays")
    return installed


@command.command("path")
@click.option("--json", "as_json", is_flag=True, help="A JSON object on stdout.")
def path(as_json: bool) -> int:
    """Print the folder of installed weights.

    It is $STFCODEC_WEIGHTS, or else a folder in the user's data folder. It may not exist yet.
    """
    folder = str(locate.installed_folder())
    if as_json:
        messages.record({"path": folder})
    else:
        messages.result(folder)
    return 0


def _named(name: str) -> list[locate.WeightsFile]:
    """The files with a fingerprint, or the file at a path. Raises WeightsError."""
    if found := [file for file in locate.files() if file.fingerprint == name.lower()]:
        return found
    if file := locate.describe_file(Path(name)):
        return [file]
    of_model = [file for file in locate.files() if file.model == name.lower()]
    if of_model:
        known = ", ".join(file.fingerprint or str(file.path) for file in of_model)
        raise UsageError(f"is a model; name its weights: {known}")
    raise WeightsError("no such weights here; 'stfcodec weights list' lists all")
