"""Where weights files lie, what they say of themselves, and the manifest of the embedded ones.

Embedded weights come with the program. Installed weights lie in a folder of the user. Importable
without torch.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, Literal, NamedTuple

from stfcodec.errors import WeightsError
from stfcodec.models import registry, releases
from stfcodec.models.registry import ModelInfo

ENVIRONMENT = "STFCODEC_WEIGHTS"
"""Name of the environment variable with the folder of installed weights."""

FINGERPRINT = "stfcodec.fingerprint"
"""Key of the fingerprint, 8 hex digits, in the metadata of a weights file."""

DIGEST = "stfcodec.digest"
"""Key of the SHA-256 of all tensors, see `weights.digest`."""

MODEL, QUALITY, SOURCE = "stfcodec.model", "stfcodec.quality", "stfcodec.source"
"""Keys of the model's name, of the quality of weights that serve one, and of what they were made
from. Older files lack them."""

_NAME = re.compile(r"(?P<model>.+?)(-q(?P<quality>\d))?(-[0-9a-f]{8})?\.safetensors")
_FINGERPRINT = re.compile(r"[0-9a-f]{8}")

_MAX_HEADER = 16 << 20
"""Bytes of the header of a weights file, at most."""

_PACKAGE = Path(__file__).resolve().parent.parent


class WeightsFile(NamedTuple):
    """A weights file as it describes itself. `weights.load` finds out whether that is true."""

    path: Path
    size: int
    """Bytes."""
    fingerprint: str | None
    """8 hex digits."""
    digest: str | None
    """SHA-256 of all tensors, 64 hex digits."""
    model: str | None
    """Name of a known model."""
    quality: float | None
    """None: every quality, or not stated."""
    source: str | None
    """The checkpoint it was made from."""
    embedded: bool


def embedded_folder() -> Path:
    """The folder of embedded weights: in the package once installed, beside it in a checkout."""
    inside = _PACKAGE / "weights"
    return inside if inside.is_dir() else _PACKAGE.parent / "weights"


def installed_folder() -> Path:
    """The folder of installed weights: $STFCODEC_WEIGHTS, or else `stfcodec` in the user's data
    folder. Raises WeightsError for a user who has no such folder."""
    if named := os.environ.get(ENVIRONMENT):
        return Path(named)
    from platformdirs import user_data_path

    with suppress(RuntimeError):  # the user has no home
        folder = user_data_path("stfcodec", appauthor=False)
        if folder.is_absolute():  # older versions return "~/…" then
            return folder
    raise WeightsError(f"no folder for weights: name one in ${ENVIRONMENT}")


def _folders() -> list[Path]:
    try:
        return [embedded_folder(), installed_folder()]
    except WeightsError:
        return [embedded_folder()]


def file_name(info: ModelInfo, quality: float) -> str:
    """Name of the weights file of a model at a quality.

    `wacnn-lite.safetensors` serves every quality, `wacnn-q3.safetensors` one.
    """
    suffix = "" if info.variable_rate else f"-q{round(quality)}"
    return f"{info.name}{suffix}.safetensors"


def file_names(info: ModelInfo) -> list[str]:
    """Names of the weights files of a model, lowest quality first."""
    return list(dict.fromkeys(file_name(info, quality) for quality in registry.WHOLE_QUALITIES))


def installed_name(info: ModelInfo, quality: float, fingerprint: bytes) -> str:
    """Name of a weights file among others of the same model and quality."""
    return file_name(info, quality).replace(".", f"-{fingerprint.hex()}.")


def describe(info: ModelInfo, quality: float, source: str) -> dict[str, str]:
    """The metadata of a weights file. quality: of no meaning for a model of variable rate."""
    described = {MODEL: info.name, SOURCE: source}
    return described if info.variable_rate else described | {QUALITY: f"{quality:g}"}


def find(info: ModelInfo, quality: float) -> Path:
    """The weights file of a model at a quality: embedded, or the newest installed one.

    A file with the plain `file_name` goes before files with fingerprints in their names. Raises
    WeightsError, which says how to install weights.
    """
    if path := _find(info, quality):
        return path
    here = ", ".join(map(str, qualities(info)))
    others = f" (there are weights for quality {here})" if here else ""
    raise WeightsError(
        f"no weights for {_at_quality(info, quality)}{others}: install a checkpoint with 'stfcodec "
        f"weights import CHECKPOINT', or name a weights file with --weights"
    )


def _find(info: ModelInfo, quality: float) -> Path | None:
    name = file_name(info, quality)
    for folder in _folders():
        paths = _paths(folder)
        if folder / name in paths:
            return folder / name
        if others := _with_fingerprints(paths, name):
            return max(others, key=_modified)
    return None


def _paths(folder: Path) -> list[Path]:
    """The weights files in a folder, in the order of their names; none where it cannot be read."""
    try:
        return sorted(path for path in folder.glob("*.safetensors") if path.is_file())
    except OSError:  # a folder of another user
        return []


def _modified(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except OSError:  # removed since
        return 0


def _with_fingerprints(paths: list[Path], name: str) -> list[Path]:
    """The paths whose names are that of `file_name` and a fingerprint."""
    stem = re.escape(name.removesuffix(".safetensors"))
    pattern = re.compile(stem + r"-[0-9a-f]{8}\.safetensors")
    return [path for path in paths if pattern.fullmatch(path.name)]


def files() -> Iterator[WeightsFile]:
    """Every weights file in the folders, embedded ones first."""
    for folder in _folders():
        for path in _paths(folder):
            if found := describe_file(path):
                yield found


def with_fingerprint(fingerprint: bytes) -> list[Path]:
    """The files in all folders that state this fingerprint, whatever their names are."""
    return [file.path for file in files() if file.fingerprint == fingerprint.hex()]


def missing(info: ModelInfo, quality: float, fingerprint: bytes) -> WeightsError:
    """The error for a stream whose weights are in none of the folders."""
    needed = releases.describe(info.name, fingerprint)
    of = info.name if info.variable_rate else _at_quality(info, quality)
    return WeightsError(
        f"the stream needs weights {needed} of {of}, which are not here: install the file, or the "
        f"checkpoint that it was made from, with 'stfcodec weights import FILE'; or name a weights "
        f"file with --weights"
    )


def check_stated(path: Path, info: ModelInfo, quality: float) -> None:
    """Raise WeightsError where a file says that it is of another model, or for another quality."""
    stated = describe_file(path)
    if stated is None:
        return
    if stated.model not in (None, info.name):
        raise WeightsError(f"{path}: weights of {stated.model}; use --model {stated.model}")
    if stated.quality not in (None, quality):
        raise WeightsError(
            f"{path}: weights for quality {stated.quality:g} alone; use --quality "
            f"{stated.quality:g}"
        )


def _at_quality(info: ModelInfo, quality: float) -> str:
    text = f"{info.name} at quality {quality:g}"
    return text if info.variable_rate else f"{text} (λ {registry.lambda_from_quality(quality):g})"


def describe_file(path: Path) -> WeightsFile | None:
    """What a weights file says of itself, the manifest's fingerprint for an embedded one.

    None where there is no such file.
    """
    try:
        if not path.is_file():  # a pipe would block
            return None
        size = path.stat().st_size
        stated = dict(_metadata(path, identity(path)))
    except (OSError, WeightsError):
        return None
    embedded = is_in(path, embedded_folder())
    if embedded:
        stated |= {FINGERPRINT: manifest().get(path.name, {}).get("fingerprint", "")}
    named_model, named_quality = _from_name(path)
    info = _known(stated.get(MODEL, named_model))
    fingerprint = stated.get(FINGERPRINT, "")
    return WeightsFile(
        path=path,
        size=size,
        fingerprint=fingerprint if _FINGERPRINT.fullmatch(fingerprint) else None,
        digest=stated.get(DIGEST),
        model=info.name if info else None,
        quality=_quality(stated.get(QUALITY, named_quality), info),
        source=stated.get(SOURCE),
        embedded=embedded,
    )


def is_in(path: Path, folder: Path) -> bool:
    """Whether a file lies in a folder, however both are spelt."""
    return os.path.realpath(path.parent) == os.path.realpath(folder)


def _known(name: str | None) -> ModelInfo | None:
    return next((info for info in registry.MODELS if info.name == name), None)


def _quality(stated: str | None, info: ModelInfo | None) -> float | None:
    """The one quality that weights are for; None where they are for all or it is not known."""
    if info is None or info.variable_rate:
        return None
    known = {f"{quality:g}": float(quality) for quality in registry.WHOLE_QUALITIES}
    return known.get(stated or "")


def _from_name(path: Path) -> tuple[str | None, str | None]:
    """The model and the quality in the name of a file, as `installed_name` makes it."""
    found = _NAME.fullmatch(path.name)
    return (found["model"], found["quality"]) if found else (None, None)


@lru_cache(maxsize=256)
def _metadata(path: Path, _: object) -> Mapping[str, str]:
    """The metadata of a safetensors file; {} where it has none, or is no such file. The last
    argument changes when the file does."""
    try:
        with path.open("rb") as file:
            size = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(size)) if size <= _MAX_HEADER else {}
        return {str(k): str(v) for k, v in header["__metadata__"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return {}


def identity(path: Path) -> tuple[int, ...]:
    """A key for caches that changes when the file at `path` is replaced or written to."""
    try:
        status = path.stat()
    except OSError as error:
        raise WeightsError(f"{path}: cannot read the weights ({error.strerror})") from None
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def status(info: ModelInfo) -> Literal["embedded", "installed", "missing"]:
    """Where weights of the model lie, for any quality."""
    paths = [path for quality in registry.WHOLE_QUALITIES if (path := _find(info, quality))]
    if any(path.parent == embedded_folder() for path in paths):
        return "embedded"
    return "installed" if paths else "missing"


def qualities(info: ModelInfo) -> list[int]:
    """The whole qualities that there are weights for."""
    return [quality for quality in registry.WHOLE_QUALITIES if _find(info, quality)]


def expected_sha256(path: Path) -> str | None:
    """The SHA-256 of an embedded weights file according to the manifest; None for other files."""
    if not is_in(path, embedded_folder()):
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
