"""Where weights files lie, and what the manifest says of them. Importable without torch."""

from __future__ import annotations

import json
import os
from functools import cache
from pathlib import Path
from typing import Any, Literal

from stfcodec.errors import WeightsError
from stfcodec.models import releases
from stfcodec.models.registry import ModelInfo

ENVIRONMENT = "STFCODEC_WEIGHTS"
"""Environment variable naming a folder of further weights."""

FINGERPRINT = "stfcodec.fingerprint"
"""Under this name the head of a weights file says its fingerprint, in 8 hex digits."""

_HEAD = 16 << 20
"""Bytes of a weights file's head at most."""

_PACKAGE = Path(__file__).resolve().parent.parent


def embedded_folder() -> Path:
    """The weights that come with the program: inside the package once installed, beside it in a
    checkout."""
    installed = _PACKAGE / "weights"
    return installed if installed.is_dir() else _PACKAGE.parent / "weights"


def installed_folders() -> list[Path]:
    """Where a user puts further weights: $STFCODEC_WEIGHTS, then the user's data folder."""
    named = os.environ.get(ENVIRONMENT)
    folders = [Path(named)] if named else []
    try:
        data = os.environ.get("XDG_DATA_HOME") or str(Path("~/.local/share").expanduser())
    except RuntimeError:  # a user without a home
        return folders
    return [*folders, Path(data) / "stfcodec"]


def file_name(info: ModelInfo, quality: float) -> str:
    """`wacnn-lite.safetensors` for every quality, or `wacnn-q3.safetensors` for one."""
    suffix = "" if info.variable_rate else f"-q{round(quality)}"
    return f"{info.name}{suffix}.safetensors"


def find(info: ModelInfo, quality: float) -> Path:
    """The weights file of a model at a quality. Raises WeightsError saying where to put it."""
    name = file_name(info, quality)
    for folder in (embedded_folder(), *installed_folders()):
        if (folder / name).is_file():
            return folder / name
    raise WeightsError(
        f"no weights for {info.name} at quality {quality:g}: {_advice(name)} or name a file with "
        f"--weights"
    )


def with_fingerprint(fingerprint: bytes) -> list[Path]:
    """The files that state to be the weights with this fingerprint, whatever they are called, in
    all folders of weights."""
    return [
        path
        for folder in (embedded_folder(), *installed_folders())
        for path in sorted(folder.glob("*.safetensors"))
        if _stated_fingerprint(path) == fingerprint.hex()
    ]


def missing(info: ModelInfo, fingerprint: bytes) -> WeightsError:
    """The error for a stream whose weights are in no folder."""
    needed = releases.describe(info.name, fingerprint)
    return WeightsError(
        f"the stream needs weights {needed} of {info.name}, which are not here: "
        f"{_advice('the file')} or name it with --weights"
    )


def _advice(name: str) -> str:
    folders = installed_folders()
    return f"put {name} into {folders[-1]}," if folders else f"put {name} into ${ENVIRONMENT},"


def _stated_fingerprint(path: Path) -> str | None:
    """What the manifest says of an embedded file, and its own head of any other; `weights.load`
    finds out whether it is so."""
    if path.parent == embedded_folder():
        return manifest().get(path.name, {}).get("fingerprint")
    if not path.is_file():  # reading a pipe would wait
        return None
    try:
        with path.open("rb") as file:
            size = int.from_bytes(file.read(8), "little")
            head = json.loads(file.read(size)) if size <= _HEAD else {}
        return str(head["__metadata__"][FINGERPRINT])
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


def identity(path: Path) -> tuple[int, ...]:
    """Another one once the file at `path` has been replaced or written to."""
    try:
        status = path.stat()
    except OSError as error:
        raise WeightsError(f"{path}: cannot read the weights ({error.strerror})") from None
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def status(info: ModelInfo) -> Literal["embedded", "installed", "missing"]:
    """Whether any quality of the model can be used."""
    qualities = [1.0] if info.variable_rate else [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]
    names = {file_name(info, q) for q in qualities}
    if any((embedded_folder() / n).is_file() for n in names):
        return "embedded"
    if any((folder / n).is_file() for folder in installed_folders() for n in names):
        return "installed"
    return "missing"


def expected_sha256(path: Path) -> str | None:
    """What the manifest says of an embedded weights file; None for any other file."""
    if path.parent != embedded_folder():
        return None
    return manifest().get(path.name, {}).get("sha256")


@cache
def manifest() -> dict[str, Any]:
    """MANIFEST.json: file name -> how it was trained and what it measures; {} if there is none."""
    path = embedded_folder() / "MANIFEST.json"
    try:
        return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    except (OSError, ValueError) as error:
        raise WeightsError(f"{path}: unreadable manifest ({error})") from None
