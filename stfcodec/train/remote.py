"""Training on another machine's GPU: python -m stfcodec.train.remote pack | run | collect.

`pack` puts photographs into a few files. `run` is everything that happens on the other machine,
which has torch but no network: unpack, test, find the fastest configuration, train for the given
time, write the results in small parts. `collect` joins the parts here and exports weights.
docs/training.md has the commands and the minutes they take.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
import zipfile
from dataclasses import asdict, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click
import torch
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors

from stfcodec.errors import UsageError
from stfcodec.files import atomic_write, write_bytes
from stfcodec.models import registry
from stfcodec.train.checkpoint import CHECKPOINT, TRUNK, save_checkpoint
from stfcodec.train.data import find_pictures, load_photographs
from stfcodec.train.export import TRAINING_RECORD, export_weights, write_record
from stfcodec.train.log import LOG
from stfcodec.train.loop import run_training
from stfcodec.train.settings import Settings
from stfcodec.train.trainer import Trainer

PART_BYTES = 15 << 20
"""Largest size of a file that `run` writes."""

CONFIGURATIONS: tuple[dict[str, Any], ...] = (
    {"batch": 16, "crop": 384, "decay_crop": 384, "compile": True},
    {"batch": 16, "crop": 384, "decay_crop": 384},
    {"batch": 16},
)
"""Settings that `run` measures, each in a process of its own."""

_PROBE_PHOTOGRAPHS = 40
_WARM_UP_STEPS = 3
_SAVE_INTERVAL_S = 120


@click.group()
def main() -> None:
    """A training run on another machine's GPU."""


@main.command()
@click.argument("photographs", type=click.Path(exists=True, path_type=Path))
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--mebibytes", default=46.0, show_default=True, help="Size of a pack at most.")
def pack(photographs: Path, out: Path, mebibytes: float) -> None:
    """Put PHOTOGRAPHS, as they are and in the order of their names, into OUT/photographs-N.zip."""
    paths = find_pictures(photographs)
    if not paths:
        raise UsageError(f"{photographs}: no picture to pack")
    packs: list[list[Path]] = [[]]
    size = 0
    for path in paths:
        size += path.stat().st_size
        if packs[-1] and size > mebibytes * 2**20:
            packs.append([])
            size = path.stat().st_size
        packs[-1].append(path)
    out.mkdir(parents=True, exist_ok=True)
    for number, members in enumerate(packs):
        target = out / f"photographs-{number}.zip"
        with (
            atomic_write(target, overwrite=True) as file,
            zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive,
        ):
            for path in members:
                archive.write(path, path.relative_to(photographs))
        mib = target.stat().st_size / 2**20
        click.echo(f"{target}: {len(members)} photographs, {mib:.1f} MiB")


@main.command()
@click.argument("packs", type=click.Path(exists=True, path_type=Path), nargs=-1, required=True)
@click.argument("out", type=click.Path(path_type=Path))
@click.option("-m", "--model", required=True)
@click.option("--minutes", default=9.5, show_default=True, help="From now until all is written.")
@click.option("--start", type=click.Path(exists=True, path_type=Path))
@click.option("--device", default="cuda", show_default=True)
@click.option("--rate", default=1e-3, show_default=True)
@click.option("--decay", default=0.5, show_default=True)
@click.option("--shrunk", default=0.0, show_default=True, help="Photographs at this scale, too.")
@click.option(
    "--probe", default=15.0, show_default=True, help="Seconds for a configuration; 0: the first."
)
@click.option("--seed", default=0, show_default=True, help="Another one draws other crops.")
@click.option("--tests/--no-tests", default=True, show_default=True, help="The CUDA tests first.")
@click.option("--tiny", is_flag=True, help="A rehearsal: two crops of 64² a step.")
def run(
    packs: tuple[Path, ...],
    out: Path,
    model: str,
    minutes: float,
    start: Path | None,
    device: str,
    rate: float,
    decay: float,
    shrunk: float,
    probe: float,
    seed: int,
    tests: bool,
    tiny: bool,
) -> None:
    """All that happens on the other machine; OUT receives parts of at most 15 MiB."""
    began = time.monotonic()
    out.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory() as folder:
        data = Path(folder) / "photographs"
        for pack in packs:
            with zipfile.ZipFile(pack) as file:
                file.extractall(data)
        _report(began, f"torch {torch.__version__}, {_device_name(device)}")
        if tests:
            _run_cuda_tests(began)
        settings = Settings(
            model=model,
            data=str(data),
            minutes=minutes,
            device=device,
            rate=rate,
            decay=decay,
            shrunk=shrunk,
            seed=seed,
        )
        configurations: tuple[dict[str, Any], ...] = CONFIGURATIONS
        if tiny:
            settings = replace(settings, batch=2, crop=64, decay_crop=64)
            configurations = ({}, {})
        fastest = configurations[0]
        if probe:
            fastest = fastest_configuration(settings, configurations, probe, start, began)
        settings = replace(settings, **fastest)
        trainer = Trainer(settings, Path(folder) / "run", start)
        reserved_minutes = 0.05 if tiny else 0.25  # for the last validation and writing
        remaining = minutes - (time.monotonic() - began) / 60 - reserved_minutes
        trainer.settings = replace(settings, minutes=max(0.1 * minutes, remaining))
        photographs = len(trainer.photographs)
        _report(began, f"{photographs} photographs, {remaining:.1f} minutes of training")
        run_training(
            trainer,
            report=lambda line: _report(began, line),
            save_interval_s=_SAVE_INTERVAL_S,
            after_save=lambda: write_parts(trainer, out),
            export=False,
        )
    _report(began, f"left in {out}: {', '.join(sorted(p.name for p in out.iterdir()))}")


def _report(began: float, line: str) -> None:
    print(f"[{time.monotonic() - began:6.1f} s] {line}", flush=True)


def _device_name(device: str) -> str:
    if torch.device(device).type == "cuda":
        return torch.cuda.get_device_name()
    return f"CPU, {torch.get_num_threads()} threads"


def _run_cuda_tests(began: float) -> None:
    """Report the result of the tests that need a GPU. Failures do not stop the run."""
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-k", "cuda", "tests"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        _report(began, "tests: " + " / ".join(done.stdout.strip().splitlines()[-8:]))
    except (OSError, subprocess.TimeoutExpired) as error:
        _report(began, f"tests: {error}")


def fastest_configuration(
    settings: Settings,
    configurations: tuple[dict[str, Any], ...],
    seconds: float,
    start: Path | None,
    began: float,
) -> dict[str, Any]:
    """The configuration that trains the most megapixels per second with these settings.

    seconds: for each measurement. began: when the run did, by time.monotonic(). Configurations
    that fail or hang are skipped; if all do, the first is returned.
    """
    fastest, highest_speed = configurations[0], 0.0
    for configuration in configurations:
        probed = replace(settings, **configuration, limit=_PROBE_PHOTOGRAPHS)
        command = [
            sys.executable,
            "-m",
            "stfcodec.train.remote",
            "probe",
            json.dumps(asdict(probed)),
        ]
        command += [str(seconds)] + ([str(start)] if start else [])
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=60 + 2 * seconds, check=True
            )
            speed = float(done.stdout.split()[-1])
        except (OSError, subprocess.SubprocessError, ValueError, IndexError) as error:
            tail = (getattr(error, "stderr", None) or "").strip()[-300:]
            _report(began, f"probe {configuration}: failed ({type(error).__name__}) {tail}")
            continue
        _report(began, f"probe {configuration}: {speed:.2f} megapixels a second")
        if speed > highest_speed:
            fastest, highest_speed = configuration, speed
    return fastest


@main.command(hidden=True)
@click.argument("settings")
@click.argument("seconds", type=float)
@click.argument("start", type=click.Path(path_type=Path), required=False)
def probe(settings: str, seconds: float, start: Path | None) -> None:
    """Print how many megapixels a second a configuration trains."""
    with TemporaryDirectory() as folder:
        trainer = Trainer(Settings(**json.loads(settings)), Path(folder), start)
        wait = torch.cuda.synchronize if trainer.device.type == "cuda" else (lambda: None)
        for _ in range(_WARM_UP_STEPS):
            trainer.train_step(False)
        wait()
        began, pixels_before = time.monotonic(), trainer.pixels
        while time.monotonic() - began < seconds:
            for _ in range(4):
                trainer.train_step(False)
            wait()
        print((trainer.pixels - pixels_before) / 1e6 / (time.monotonic() - began))


def write_parts(trainer: Trainer, out: Path) -> None:
    """Write the results so far into `out`, in files of at most `PART_BYTES`.

    These are the averaged parameters as `average.NN`, from the decay on those of the trunk as
    `trunk.NN` (safetensors in float32, cut into parts), the log and the record of the run.
    """
    parameters = {name for name, _ in trainer.model.named_parameters()}
    for name, checkpoint, key in (("average", CHECKPOINT, "average"), ("trunk", TRUNK, "model")):
        if not (trainer.folder / checkpoint).exists():
            continue
        state = torch.load(trainer.folder / checkpoint, map_location="cpu", weights_only=True)[key]
        tensors = {k: v.float().contiguous() for k, v in state.items() if k in parameters}
        data = save_tensors(tensors)
        for number, offset in enumerate(range(0, len(data), PART_BYTES)):
            part = data[offset : offset + PART_BYTES]
            write_bytes(out / f"{name}.{number:02}", part, overwrite=True)
    if (trainer.folder / LOG).exists():
        write_bytes(out / LOG, (trainer.folder / LOG).read_bytes(), overwrite=True)
    write_record(trainer.record(), out)


@main.command()
@click.argument("parts", type=click.Path(exists=True, path_type=Path))
@click.argument("photographs", type=click.Path(exists=True, path_type=Path))
@click.argument("out", type=click.Path(path_type=Path))
def collect(parts: Path, photographs: Path, out: Path) -> None:
    """Join what a run left in PARTS: OUT receives weights, the trunk for --start, and the log."""
    out.mkdir(parents=True, exist_ok=True)
    record = json.loads((parts / TRAINING_RECORD).read_text())
    joined = {}
    for name in ("average", "trunk"):
        files = sorted(parts.glob(f"{name}.[0-9][0-9]"))
        if files:
            joined[name] = load_tensors(b"".join(f.read_bytes() for f in files))
    if "trunk" in joined:
        save_checkpoint({"model": joined["trunk"]}, out / TRUNK)
    for name in (LOG, TRAINING_RECORD):
        write_bytes(out / name, (parts / name).read_bytes(), overwrite=True)
    settings = record["settings"]
    pictures = load_photographs(photographs, settings["decay_crop"])
    info = registry.by_name(settings["model"])
    crop, quality = settings["decay_crop"], settings.get("quality")
    path = export_weights(info, joined["average"], pictures, crop, out, quality)
    click.echo(f"{path}: {path.stat().st_size / 2**20:.1f} MiB")


if __name__ == "__main__":
    main()
