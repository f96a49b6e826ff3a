"""Cross-check of exactness: whether streams decode to the same symbols in every environment.

`run` codes pictures with every model, then starts one process per environment, each of which
decodes all streams down to ŷ. g_s is left out, because its pixels may differ by a grey level.
`verify` is such a process. The folder that `run` leaves can be taken to another machine, where
`verify` decodes it.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path

import click

from benchmarks import ROOT
from benchmarks.options import NEW_PATH, crop_option, folder_argument, pictures_argument

_BACKENDS = "int8", "int8-aligned", "float", "reference"


@dataclass(frozen=True)
class Environment:
    """How one process decodes: options of `verify`, environment variables, and an interpreter.

    One thread by default, because processes run side by side.
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
    """Check that streams decode to the same symbols in every environment."""


@main.command()
@pictures_argument
@click.option("--folder", type=NEW_PATH, required=True, help="New folder for weights and streams.")
@click.option(
    "--python",
    "pythons",
    multiple=True,
    metavar="PATH",
    help="Python interpreter to decode with besides; may be repeated.",
)
@click.option(
    "--jobs",
    type=click.IntRange(min=1),
    metavar="N",
    default=os.cpu_count() or 1,
    show_default="CPUs",
    help="Processes at a time.",
)
@click.option(
    "--random-pictures",
    type=click.IntRange(min=0),
    metavar="N",
    default=2,
    show_default=True,
    help="Pictures, cropped, that models without weights code with random ones.",
)
@crop_option(256)
def run(
    pictures: tuple[Path, ...],
    folder: Path,
    pythons: tuple[str, ...],
    jobs: int,
    random_pictures: int,
    crop: int,
) -> None:
    """Code PICTURES with every model at every quality, and decode them in every environment.

    Models without weights (those of paper size) get random ones, with an integer form like any
    other. Exits with 1 unless all environments agree on everything.
    """
    if folder.exists():
        raise click.UsageError(f"{folder} exists already")
    import torch

    from benchmarks.crosscheck_streams import write_streams

    start = time.perf_counter()
    count = write_streams(pictures, folder, random_pictures, crop)
    click.echo(f"{count} streams coded in {time.perf_counter() - start:.0f} s")
    environments = [*ENVIRONMENTS, *(Environment(p, python=p) for p in pythons)]
    if torch.cuda.is_available():
        environments.append(Environment("CUDA", ("--device", "cuda")))
    digests, failed = set(), False
    pool = ThreadPoolExecutor(jobs)
    for environment, done in zip(
        environments, pool.map(lambda e: _verify_in(e, folder), environments), strict=True
    ):
        digests.add("".join(re.findall(r"latents (\w+)", done.stdout)))
        failed |= done.returncode != 0
        click.echo(f"{environment.name}: {done.stdout.strip() or done.stderr.strip()[-300:]}")
    if failed or len(digests) != 1:
        raise SystemExit("NOT EQUAL")
    click.echo(f"equal in all {len(environments)} environments")


def _verify_in(environment: Environment, folder: Path) -> subprocess.CompletedProcess[str]:
    command = ["-m", "benchmarks.crosscheck", "verify", str(folder.resolve())]
    # Active waiting of one process's threads would take cores from the other processes.
    waiting = {"OMP_WAIT_POLICY": "passive", "PYTHONIOENCODING": "utf-8"}
    return subprocess.run(
        [environment.python, *command, *environment.options],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        env={**os.environ, **waiting, **environment.variables},
    )


@main.command()
@folder_argument
@click.option(
    "--threads",
    type=click.IntRange(min=1),
    metavar="N",
    default=1,
    show_default=True,
    help="Threads of torch.",
)
@click.option(
    "--backend",
    type=click.Choice(_BACKENDS),
    help="Backend of the integer networks.  [default: the fastest here]",
)
@click.option(
    "--batch",
    type=click.IntRange(min=1),
    metavar="N",
    default=1,
    show_default=True,
    help="Streams that are decoded together.",
)
@click.option("--channels-last", is_flag=True, help="Lay tensors out with channels last.")
@click.option("--onednn/--no-onednn", default=True, show_default=True, help="Use oneDNN.")
@click.option("--device", default="cpu", show_default=True, help="Device of the entropy networks.")
def verify(
    folder: Path,
    threads: int,
    backend: str | None,
    batch: int,
    channels_last: bool,
    onednn: bool,
    device: str,
) -> None:
    """Decode all symbols of the streams in FOLDER.

    Prints one line: how many streams match their checksums, and a digest of all ŷ. Exits with 1
    unless all match.
    """
    import torch

    from benchmarks.crosscheck_streams import BACKENDS, decode_streams, digest
    from stfcodec.entropy import rans
    from stfcodec.models.integer_backends import best_backend

    torch.set_num_threads(threads)
    layout = torch.channels_last if channels_last else torch.contiguous_format
    chosen = BACKENDS[backend] if backend else best_backend(torch.device(device))
    start = time.perf_counter()
    with nullcontext() if onednn else torch.backends.mkldnn.flags(enabled=False):
        checksums, failures = decode_streams(folder, batch, device, chosen, layout)
    click.echo(
        f"{len(checksums)} of {len(checksums) + len(failures)} right, latents {digest(checksums)}, "
        f"{time.perf_counter() - start:.0f} s; torch {torch.__version__}, "
        f"{torch.backends.cpu.get_cpu_capability()}, {type(chosen).__name__}, {device}, "
        f"{threads} thread{'s' * (threads > 1)}, {rans.BACKEND} coder"
    )
    if failures or not checksums:
        raise SystemExit("\n".join(failures[:5]) or "no streams there")


if __name__ == "__main__":
    main()
