"""A quarter of an hour on a borrowed GPU: python -m stfcodec.train.remote pack | run | collect.

`pack` puts photographs into a few files. `run` is all that happens on the other machine, which
has torch but no network and no more of this project than its source: unpack, test, find the
quickest configuration, train until the clock says so, leave the results in small parts. `collect`
joins them here and exports weights. docs/training.md has the commands and the minutes.
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

import click
import torch
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors

from stfcodec.errors import UsageError
from stfcodec.models import registry
from stfcodec.train.data import EXTENSIONS, load_photographs
from stfcodec.train.loop import CHECKPOINT, LOG, TRAINING, TRUNK, Settings, Trainer, export

PART = 15 << 20
"""Bytes of what a run leaves in one file at most."""

CONFIGURATIONS: tuple[dict, ...] = (
    {"batch": 16, "crop": 384, "decay_crop": 384, "compile": True},
    {"batch": 16, "crop": 384, "decay_crop": 384},
    {"batch": 16},
)
"""What the probe tries, each in a process of its own."""


@click.group()
def main() -> None:
    """A training run on a borrowed GPU."""


@main.command()
@click.argument("photographs", type=click.Path(exists=True, path_type=Path))
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--mebibytes", default=46.0, show_default=True, help="Size of a pack at most.")
def pack(photographs: Path, out: Path, mebibytes: float) -> None:
    """Put PHOTOGRAPHS, as they are and in the order of their names, into OUT/photographs-N.zip."""
    paths = sorted(p for p in photographs.rglob("*") if p.suffix.lower() in EXTENSIONS)
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
        with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as file:
            for path in members:
                file.write(path, path.relative_to(photographs))
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
        _say(began, f"torch {torch.__version__}, {_machine(device)}")
        if tests:
            _test(began)
        settings = Settings(
            model=model,
            data=str(data),
            minutes=minutes,
            device=device,
            rate=rate,
            decay=decay,
            shrunk=shrunk,
        )
        if tiny:
            settings = replace(settings, batch=2, crop=64, decay_crop=64)
        if probe:
            settings = replace(settings, **_fastest(settings, probe, start, began, tiny))
        elif not tiny:
            settings = replace(settings, **CONFIGURATIONS[0])
        trainer = Trainer(settings, Path(folder) / "run", start)
        # Validation and writing take what is left aside.
        left = minutes - (time.monotonic() - began) / 60 - (0.05 if tiny else 0.25)
        trainer.settings = replace(settings, minutes=max(0.1 * minutes, left))
        _say(began, f"{len(trainer.photographs)} photographs, {left:.1f} minutes of training")
        trainer.run(
            report=lambda line: _say(began, line),
            save_every=120,
            saved=lambda: leave(trainer, out),
            exports=False,
        )
    _say(began, f"left in {out}: {', '.join(sorted(p.name for p in out.iterdir()))}")


def _say(began: float, line: str) -> None:
    print(f"[{time.monotonic() - began:6.1f} s] {line}", flush=True)


def _machine(device: str) -> str:
    if torch.device(device).type == "cuda":
        return torch.cuda.get_device_name()
    return f"CPU, {torch.get_num_threads()} threads"


def _test(began: float) -> None:
    """What only a GPU can show; a failure is told, and the training goes on."""
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-k", "cuda", "tests"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        _say(began, "tests: " + " / ".join(done.stdout.strip().splitlines()[-8:]))
    except (OSError, subprocess.TimeoutExpired) as error:
        _say(began, f"tests: {error}")


def _fastest(
    settings: Settings, seconds: float, start: Path | None, began: float, tiny: bool
) -> dict:
    """The configuration with the most megapixels a second; one that fails or hangs is passed
    over."""
    best, found = 0.0, CONFIGURATIONS[0]
    for configuration in CONFIGURATIONS[: 2 if tiny else None]:
        tried = replace(settings, **({} if tiny else configuration), limit=40)
        command = [
            sys.executable,
            "-m",
            "stfcodec.train.remote",
            "probe",
            json.dumps(asdict(tried)),
        ]
        command += [str(seconds)] + ([str(start)] if start else [])
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=60 + 2 * seconds, check=True
            )
            speed = float(done.stdout.split()[-1])
        except (OSError, subprocess.SubprocessError, ValueError, IndexError) as error:
            tail = (getattr(error, "stderr", None) or "").strip()[-300:]
            _say(began, f"probe {configuration}: failed ({type(error).__name__}) {tail}")
            continue
        _say(began, f"probe {configuration}: {speed:.2f} megapixels a second")
        if speed > best:
            best, found = speed, configuration
    return {} if tiny else found


@main.command(hidden=True)
@click.argument("settings")
@click.argument("seconds", type=float)
@click.argument("start", type=click.Path(path_type=Path), required=False)
def probe(settings: str, seconds: float, start: Path | None) -> None:
    """Print how many megapixels a second a configuration trains."""
    with TemporaryDirectory() as folder:
        trainer = Trainer(Settings(**json.loads(settings)), Path(folder), start)
        wait = torch.cuda.synchronize if trainer.device.type == "cuda" else (lambda: None)
        for _ in range(3):
            trainer.train_step(False)
        wait()
        began, before = time.monotonic(), trainer.pixels
        while time.monotonic() - began < seconds:
            for _ in range(4):
                trainer.train_step(False)
            wait()
        print((trainer.pixels - before) / 1e6 / (time.monotonic() - began))


def leave(trainer: Trainer, out: Path) -> None:
    """The averaged parameters and, in the decay, the trunk's, in float32, cut into parts; and the
    log."""
    parameters = {name for name, _ in trainer.model.named_parameters()}
    for name, checkpoint, key in (("average", CHECKPOINT, "average"), ("trunk", TRUNK, "model")):
        if not (trainer.folder / checkpoint).exists():
            continue
        state = torch.load(trainer.folder / checkpoint, map_location="cpu", weights_only=True)[key]
        tensors = {k: v.float().contiguous() for k, v in state.items() if k in parameters}
        data = save_tensors(tensors)
        for i in range(0, len(data), PART):
            (out / f"{name}.{i // PART:02}").write_bytes(data[i : i + PART])
    if (trainer.folder / LOG).exists():
        (out / LOG).write_bytes((trainer.folder / LOG).read_bytes())
    (out / TRAINING).write_text(json.dumps(trainer.record(), indent=1) + "\n")


@main.command()
@click.argument("parts", type=click.Path(exists=True, path_type=Path))
@click.argument("photographs", type=click.Path(exists=True, path_type=Path))
@click.argument("out", type=click.Path(path_type=Path))
def collect(parts: Path, photographs: Path, out: Path) -> None:
    """Join what a run left in PARTS: OUT receives weights, the trunk for --start, and the log."""
    out.mkdir(parents=True, exist_ok=True)
    record = json.loads((parts / TRAINING).read_text())
    joined = {}
    for name in ("average", "trunk"):
        files = sorted(parts.glob(f"{name}.[0-9][0-9]"))
        if files:
            joined[name] = load_tensors(b"".join(f.read_bytes() for f in files))
    if "trunk" in joined:
        torch.save({"model": joined["trunk"]}, out / TRUNK)
    for name in (LOG, TRAINING):
        (out / name).write_bytes((parts / name).read_bytes())
    settings = record["settings"]
    pictures = load_photographs(photographs, settings["decay_crop"])
    info = registry.by_name(settings["model"])
    path = export(info, joined["average"], pictures, settings["decay_crop"], out)
    click.echo(f"{path}: {path.stat().st_size / 2**20:.1f} MiB")


if __name__ == "__main__":
    main()
