"""Whether streams decode to the same symbols everywhere: python -m benchmarks.crosscheck.

`run` codes pictures with every model, then starts one process for each environment that decodes
all streams, down to ŷ (g_s may differ by a grey level and is left out). `verify` is such a
process. What `run` leaves in its folder, weights and streams, can be taken to another machine for
`verify` to decode there.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path

import click
import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.pictures import middle
from stfcodec import container
from stfcodec.codec import codec_for
from stfcodec.container import Stream
from stfcodec.entropy import rans
from stfcodec.errors import StreamError
from stfcodec.imageio import Picture, read_picture
from stfcodec.models import locate, registry, weights
from stfcodec.models.base import (
    DOWNSAMPLING_Z,
    CompressionModel,
    channel_rows,
    checksum,
    flat,
)
from stfcodec.models.build import build
from stfcodec.models.calibrate import quantise
from stfcodec.models.channelwise import ChannelwiseModel
from stfcodec.models.integer import FRACTION
from stfcodec.models.integer_backends import (
    Backend,
    FloatBackend,
    Int8Backend,
    ReferenceBackend,
    best_backend,
)
from stfcodec.models.lite import LiteModel
from stfcodec.models.registry import ModelInfo

_BACKENDS: dict[str, Backend] = {
    "int8": Int8Backend(),
    "int8-aligned": Int8Backend(aligned=True),
    "float": FloatBackend(),
    "reference": ReferenceBackend(),
}
_QUALITIES = range(1, len(registry.LAMBDAS) + 1)
_PACKAGE = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Environment:
    """How one process decodes: options of `verify`, environment variables, and an interpreter.

    One thread unless it says otherwise: processes run side by side.
    """

    name: str
    options: tuple[str, ...] = ()
    variables: Mapping[str, str] = field(default_factory=dict)
    python: str = sys.executable


ENVIRONMENTS = (
    Environment("as it comes"),
    Environment("2 threads", ("--threads", "2")),
    Environment("batches of 4, channels last", ("--batch", "4", "--channels-last")),
    Environment("float32 convolutions", ("--backend", "float")),
    Environment("float64 products", ("--backend", "reference")),
    Environment("no oneDNN", ("--no-onednn", "--backend", "float")),
    Environment("ATen without AVX", variables={"ATEN_CPU_CAPABILITY": "default"}),
    Environment("ATen with AVX2", variables={"ATEN_CPU_CAPABILITY": "avx2"}),
    Environment("oneDNN with AVX2", variables={"ONEDNN_MAX_CPU_ISA": "AVX2"}),
)


@click.group()
def main() -> None:
    """Whether streams decode to the same symbols everywhere."""


# --------------------------------------------------------------------------------- coding


@main.command()
@click.argument("pictures", type=click.Path(exists=True, path_type=Path), nargs=-1, required=True)
@click.option("--folder", type=click.Path(path_type=Path), required=True, help="Made anew.")
@click.option("--python", "pythons", multiple=True, metavar="PATH", help="Decode with it too.")
@click.option("--jobs", default=os.cpu_count() or 1, show_default="CPUs", help="At a time.")
@click.option("--filled", default=2, show_default=True, help="Pictures for paper-size models.")
@click.option("--crop", default=256, show_default=True, help="Their side, cut from the middle.")
def run(
    pictures: tuple[Path, ...],
    folder: Path,
    pythons: tuple[str, ...],
    jobs: int,
    filled: int,
    crop: int,
) -> None:
    """Code PICTURES with every model at every quality; decode in every environment.

    Models without weights here (those of paper size) get random ones, made into integers as any
    others. Exits with 1 unless all environments agree on everything.
    """
    if folder.exists():
        raise click.UsageError(f"{folder} exists already")
    start = time.perf_counter()
    count = _encode([read_picture(p) for p in pictures], folder, filled, crop)
    click.echo(f"{count} streams coded in {time.perf_counter() - start:.0f} s")
    environments = [*ENVIRONMENTS, *(Environment(p, python=p) for p in pythons)]
    if torch.cuda.is_available():
        environments.append(Environment("CUDA", ("--device", "cuda")))
    digests, failed = set(), False
    pool = ThreadPoolExecutor(jobs)
    for environment, done in zip(
        environments, pool.map(lambda e: _start(e, folder), environments), strict=True
    ):
        digests.add("".join(re.findall(r"latents (\w+)", done.stdout)))
        failed |= done.returncode != 0
        click.echo(f"{environment.name}: {done.stdout.strip() or done.stderr.strip()[-300:]}")
    if failed or len(digests) != 1:
        raise SystemExit("NOT EQUAL")
    click.echo(f"equal in all {len(environments)} environments")


def _start(environment: Environment, folder: Path) -> subprocess.CompletedProcess[str]:
    command = ["-m", "benchmarks.crosscheck", "verify", str(folder.resolve())]
    # Threads that spin while they wait would take the processor from those they wait for.
    waiting = {"OMP_WAIT_POLICY": "passive", "PYTHONIOENCODING": "utf-8"}
    return subprocess.run(
        [environment.python, *command, *environment.options],
        capture_output=True,
        text=True,
        check=False,
        cwd=_PACKAGE,
        env={**os.environ, **waiting, **environment.variables},
    )


def _encode(pictures: Sequence[Picture], folder: Path, few: int, crop: int) -> int:
    """Writes weights and streams; returns how many of these."""
    (folder / "weights").mkdir(parents=True)
    count = 0
    for info in registry.MODELS:
        path = _weights(folder, info)
        if locate.status(info) == "embedded":
            shutil.copyfile(locate.find(info, _QUALITIES[0]), path)
            sources, qualities = list(pictures), list(_QUALITIES)
        else:
            sources, qualities = [_middle(p, crop) for p in pictures[:few]], [3]
            if sources:
                weights.save(filled_model(info, [_tensor(p) for p in sources]), path)
        for quality in qualities:
            for i, picture in enumerate(sources):
                stream = codec_for(info, quality, "cpu", path).encode(picture, quality)
                name = f"{info.name}-q{quality}-{i:02}.stf"
                (folder / name).write_bytes(container.write(stream))
                count += 1
    return count


def filled_model(info: ModelInfo, crops: Sequence[Tensor]) -> CompressionModel:
    """A model with random weights, in integers, whose entropy networks matter.

    At their initial weights they hardly say a thing. crops: (B, 3, H, W), sides multiples of 64.
    """
    torch.manual_seed(3)
    model = build(info).eval()
    with torch.no_grad():
        if isinstance(model, LiteModel):
            for m in model.modules():
                if isinstance(m, nn.Conv2d | nn.Linear):
                    m.weight.normal_(std=(1 / m.weight[0].numel()) ** 0.5)
            model.log_gain.fill_(2.5)
            model.log_inverse.fill_(-2.5)
            model.scales.offset.normal_(2, 1)
        elif isinstance(model, ChannelwiseModel):
            for network in model.integer_replaces:
                for m in model.get_submodule(network).modules():
                    if isinstance(m, nn.Conv2d):
                        nn.init.normal_(m.weight, std=(2 / m.weight[0].numel()) ** 0.5)
            for transform in model.cc_scale_transforms:
                *_, last_bias = transform.parameters()
                last_bias.add_(2)
    model.update()
    model.integer = quantise(model, crops)
    return model


def _middle(picture: Picture, side: int) -> Picture:
    return Picture(middle(picture.pixels, side), picture.gray, None, None, None, None, ())


def _tensor(picture: Picture) -> Tensor:
    return torch.from_numpy(picture.pixels).permute(2, 0, 1)[None].float() / 255


def _weights(folder: Path, info: ModelInfo) -> Path:
    return folder / "weights" / f"{info.name}.safetensors"


# ------------------------------------------------------------------------------- decoding


@main.command()
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--threads", type=click.IntRange(min=1), default=1, show_default=True)
@click.option("--backend", type=click.Choice(list(_BACKENDS)), help="Default: the best here.")
@click.option("--batch", type=click.IntRange(min=1), default=1, show_default=True)
@click.option("--channels-last", is_flag=True)
@click.option("--onednn/--no-onednn", default=True, show_default=True)
@click.option("--device", default="cpu", show_default=True)
def verify(
    folder: Path,
    threads: int,
    backend: str | None,
    batch: int,
    channels_last: bool,
    onednn: bool,
    device: str,
) -> None:
    """Decode all symbols of the streams in FOLDER and print one line: how many are right, and a
    digest of all ŷ. Exits with 1 unless all are right."""
    torch.set_num_threads(threads)
    layout = torch.channels_last if channels_last else torch.contiguous_format
    chosen = _BACKENDS[backend] if backend else best_backend(torch.device(device))
    start = time.perf_counter()
    found: dict[str, int] = {}
    failed: list[str] = []
    with nullcontext() if onednn else torch.backends.mkldnn.flags(enabled=False):
        for model, names, streams in _batches(folder, batch, device, chosen):
            try:
                found |= dict(zip(names, decode(model, streams, layout), strict=True))
            except StreamError as error:
                failed += [f"{n}: {error}" for n in names]
    digest = hashlib.sha256(repr(sorted(found.items())).encode()).hexdigest()[:16]
    click.echo(
        f"{len(found)} of {len(found) + len(failed)} right, latents {digest}, "
        f"{time.perf_counter() - start:.0f} s; torch {torch.__version__}, "
        f"{torch.backends.cpu.get_cpu_capability()}, {type(chosen).__name__}, {device}, "
        f"{threads} thread{'s' * (threads > 1)}, {rans.BACKEND} coder"
    )
    if failed or not found:
        raise SystemExit("\n".join(failed[:5]) or "no streams there")


def _batches(
    folder: Path, size: int, device: str, backend: Backend
) -> Iterator[tuple[CompressionModel, list[str], list[Stream]]]:
    """Streams of one model, quality and padded size, `size` of them at a time at most."""
    models: dict[int, CompressionModel] = {}
    paths = sorted(folder.glob("*.stf"))
    everything = [(p.name, container.read(p.read_bytes())) for p in paths]

    def kind(item: tuple[str, Stream]) -> tuple:
        header = item[1].header
        return header.model_id, header.quality, _positions(item[1])

    for (model_id, quality, _), group in groupby(sorted(everything, key=kind), kind):
        if model_id not in models:
            info = registry.by_id(model_id)
            model = codec_for(info, quality, "cpu", _weights(folder, info)).model.to(device)
            model.integer.prepare(backend)
            models[model_id] = model
        items = list(group)
        for at in range(0, len(items), size):
            names, streams = zip(*items[at : at + size], strict=True)
            yield models[model_id], list(names), list(streams)


@torch.inference_mode()
def decode(
    model: CompressionModel, streams: Sequence[Stream], layout: torch.memory_format
) -> list[int]:
    """CRC-32 of what is exact of each stream, decoded as one batch: streams of one padded size and
    quality. Of the published networks that is ŷ, of the lite models the symbols.

    As `CompressionModel.decompress` does it, but for the inverse gain. Raises StreamError where a
    stream's symbols are not those that its checksum stands for.
    """
    z_tables, y_tables = model.entropy_bottleneck.tables, model.gaussian_conditional.tables
    device, (h, w) = next(model.parameters()).device, _positions(streams[0])
    channels = len(z_tables.length)
    rows = channel_rows((1, channels, h, w))
    decoders = [rans.Decoder(s.y, y_tables) for s in streams]
    symbols = [[rans.Decoder(s.z, z_tables).decode(rows)] for s in streams]

    def last(shape: Sequence[int]) -> Tensor:
        """What was decoded last, as a batch of that shape."""
        t = torch.from_numpy(np.stack([s[-1] for s in symbols])).view(*shape)
        return t.float().to(device).contiguous(memory_format=layout)

    def code(_: int, mean: Tensor, index: Tensor) -> Tensor:
        for decoder, own, i in zip(decoders, symbols, index.cpu(), strict=True):
            own.append(decoder.decode(flat(i)))
        return last(mean.shape)

    quality = streams[0].header.quality
    y_hat = model.decode_symbols(last((len(streams), channels, h, w)), quality, code)
    for stream, own in zip(streams, symbols, strict=True):
        if checksum(np.concatenate(own)) != stream.checksum:
            raise StreamError("the decoded symbols do not match the stream's checksum")
    if isinstance(model, LiteModel):
        return [checksum(np.concatenate(own)) for own in symbols]
    return [checksum(flat(integers)) for integers in y_hat * FRACTION]


def _positions(stream: Stream) -> tuple[int, int]:
    """Positions of z, down and across."""
    header = stream.header
    return -(-header.height // DOWNSAMPLING_Z), -(-header.width // DOWNSAMPLING_Z)


if __name__ == "__main__":
    main()
