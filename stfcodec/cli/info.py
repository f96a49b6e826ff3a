"""stfcodec info: what .stf files say about themselves. Needs neither torch nor numpy."""

from __future__ import annotations

import click

from stfcodec import container, files, storage
from stfcodec.batch import explain, model_name
from stfcodec.cli import commands, filelist, messages
from stfcodec.container import StreamInfo
from stfcodec.errors import printable
from stfcodec.limits import DEFAULT_LIMITS
from stfcodec.models import registry, releases

_PIXELS = {1: "grey", 3: "RGB"}


@click.command("info", cls=commands.Command)
@filelist.inputs("FILE")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a file on stdout.")
def command(inputs: filelist.Inputs, as_json: bool) -> int:
    """Show what .stf files say about themselves, after checking that they are intact.

    FILE may be - for standard input.
    """
    codes = [_show(path, as_json) for path in inputs.names]
    return codes[0] if inputs.single else int(any(codes))


def _show(path: str, as_json: bool) -> int:
    """Print one file's facts and return the exit code it deserves."""
    try:
        data = _read(path)
        info = container.inspect(data)
    except Exception as error:
        failure = explain(error)
        messages.fail(path, failure, as_json)
        return failure.exit_code
    if as_json:
        release = releases.find(_weights_of(info), info.fingerprint)
        version = release and release.version
        facts = info.to_json()
        facts["bytes"] = facts.pop("total_bytes")
        name = model_name(info.model_id)
        messages.record({"input": path, "model": name, "weights_version": version, **facts})
    else:
        messages.result(f"{printable(path)}:\n{_describe(info)}")
    return 0


def _read(path: str) -> bytes:
    limit, check = DEFAULT_LIMITS.bytes, container.check_signature
    if path in files.STANDARD_INPUT:
        return files.read_standard_input(limit, check)
    return storage.read_bytes(storage.place(path), limit, check)


def _describe(info: StreamInfo) -> str:
    name = model_name(info.model_id)
    alpha = " with alpha" if info.has_alpha else ""
    pixels = f"{_PIXELS[info.channels]}{alpha}, {info.bit_depth} bits a channel"
    chunks = " ".join(f"{chunk.type}:{chunk.length}" for chunk in info.chunks)
    rows = {
        "picture": f"{info.width} x {info.height}, {pixels}",
        "size": f"{info.total_bytes} bytes, {info.bpp:.4f} bpp",
        "model": f"{name}, weights {releases.describe(_weights_of(info), info.fingerprint)}",
        "quality": f"{info.quality:g}",
        "latents": f"y {info.y_bytes} + z {info.z_bytes} bytes, overhead {info.overhead_bytes}",
        "format": f"version {info.version}, chunks {chunks}",
    }
    return "\n".join(f"  {label:<9}{text}" for label, text in rows.items())


def _weights_of(info: StreamInfo) -> str:
    """The model's name in the table of releases, also of a retired model."""
    return registry.RETIRED.get(info.model_id) or model_name(info.model_id)
