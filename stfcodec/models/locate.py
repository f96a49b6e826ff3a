"""Where weights files lie, and the manifest of the embedded ones. Importable without torch.

Embedded weights come with the program. Installed weights are files that a user puts into a folder.
"""

from __future__ import annotations

import json
import os
from functools import cache
from pathlib import Path
from typing import Any, Literal

from stfcodec.errors import WeightsError
from stfcodec.models import releases
from stfcodec.models.registry import WHOLE_QUALITIES, ModelInfo

ENVIRONMENT = "STFCODEC_WEIGHTS"
"""Name of the environment variable with a folder of installed weights."""

FINGERPRINT = "stfcodec.fingerprint"
"""Key of the fingerprint, 8 hex digits, in the metadata of a weights file."""

_MAX_HEADER = 16 << 20
"""Bytes of the header of a weights file, at most."""

_PACKAGE = Path(__file__).resolve().parent.parent


def embedded_folder() -> Path:
    """The folder of embedded weights: in the package once installed, beside it in a checkout."""
    inside = _PACKAGE / "weights"
    return inside if inside.is_dir() else _PACKAGE.parent / "weights"


def installed_folders() -> list[Path]:
    """The folders of installed weights: $STFCODEC_WEIGHTS, then the user's data folder."""
    named = os.environ.get(ENVIRONMENT)
    folders = [Path(named)] if named else []
    try:
        data = os.environ.get("XDG_DATA_HOME") or str(Path("~/.local/share").expanduser())
    except RuntimeError:  # the user has no home folder
        return folders
    return [*folders, Path(data) / "stfcodec"]


def file_name(info: ModelInfo, quality: float) -> str:
    """Name of the weights file of a model at a quality.

    `wacnn-lite.safetensors` serves every quality, `wacnn-q3.safetensors` one.
    """
    suffix = "" if info.variable_rate else f"-q{round(quality)}"
    return f"{info.name}{suffix}.safetensors"


def file_names(info: ModelInfo) -> list[str]:
    """Names of the weights files of a model, lowest quality first."""
    return list(dict.fromkeys(file_name(info, quality) for quality in WHOLE_QUALITIES))


def find(info: ModelInfo, quality: float) -> Path:
    """The weights file of a model at a quality, embedded or installed.

    Raises WeightsError, which says where to put the file.
    """
    name = file_name(info, quality)
    for folder in (embedded_folder(), *installed_folders()):
        if (folder / name).is_file():
            return folder / name
    raise WeightsError(
        f"no weights for {info.name} at quality {quality:g}: {_advice(name)} or name a file with "
        f"--weights"
    )


def with_fingerprint(fingerprint: bytes) -> list[Path]:
    """The files in all folders that state this fingerprint, whatever their names are."""
    return [
        path
        for folder in (embedded_folder(), *installed_folders())
        for path in sorted(folder.glob("*.safetensors"))
        if _stated_fingerprint(path) == fingerprint.hex()
    ]


def missing(info: ModelInfo, fingerprint: bytes) -> WeightsError:
    """The error for a stream whose weights are in none of the folders."""
    needed = releases.describe(info.name, fingerprint)
    return WeightsError(
        f"the stream needs weights {needed} of {info.name}, which are not here: "
        f"{_advice('the file')} or name it with --weights"
    )


def _advice(name: str) -> str:
    folders = installed_folders()
    return f"put {name} into {folders[-1]}," if folders else f"put {name} into ${ENVIRONMENT},"


def _stated_fingerprint(path: Path) -> str | None:
    """The fingerprint of a file according to the manifest, or else to the file's own metadata.

    `weights.load` computes the true one.
    """
    if path.parent == embedded_folder():
        return manifest().get(path.name, {}).get("fingerprint")
    if not path.is_file():  # a pipe would block
        return None
    try:
        with path.open("rb") as file:
            size = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(size)) if size <= _MAX_HEADER else {}
        return str(header["__metadata__"][FINGERPRINT])
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


def identity(path: Path) -> tuple[int, ...]:
    """A key for caches that changes when the file at `path` is replaced or written to."""
    try:
        status = path.stat()
    except OSError as error:
        raise WeightsError(f"{path}: cannot read the weights ({error.strerror})") from None
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def status(info: ModelInfo) -> Literal["embedded", "installed", "missing"]:
    """Where weights of the model lie, for any quality."""
    names = file_names(info)
    if any((embedded_folder() / n).is_file() for n in names):
        return "embedded"
    if any((folder / n).is_file() for folder in installed_folders() for n in names):
        return "installed"
    return "missing"


def expected_sha256(path: Path) -> str | None:
    """The SHA-256 of an embedded weights file according to the manifest; None for other files."""
    if path.parent != embedded_folder():
        return None
    return manifest().get(path.name, {}).get("sha256")


@cache
def manifest() -> dict[str, Any]:
    """MANIFEST.json: file name -> how the weights were trained and what was measured with them.

    {} where there is no manifest.
    """
    path = embedded_folder() / "MANIFEST.json"
    try:
        return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    except (OSError, ValueError) as error:
        raise WeightsError(f"{path}: unreadable manifest ({error})") from None
