"""State dicts from files: weights files, and checkpoints of the published networks and of training.

Nothing but tensors and plain values is read from a checkpoint, so reading runs none of its code.
"""

from __future__ import annotations

import hashlib
import io
import pickle
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load as load_safetensors
from torch import Tensor

from stfcodec.errors import WeightsError, one_line

_MAX_SIZE = 4 << 30
"""Bytes of a file, at most."""

_WRAPPERS = ("state_dict", "average", "model")
"""Keys under which checkpoints hold the state dict, the preferred one first."""

_PREFIXES = ("module.", "_orig_mod.")
"""What data-parallel and compiled modules put before the keys."""

# Newer compressai versions renamed these parameters.
_RENAMED = re.compile(r"(entropy_bottleneck\.)(matrices|biases|factors)\.(\d+)$")
_ORIGINAL = {"matrices": "_matrix", "biases": "_bias", "factors": "_factor"}

_REFUSED_GLOBAL = re.compile(r"GLOBAL (\S+)")
"""In torch's error, the Python object that a checkpoint holds."""


@dataclass(frozen=True)
class StateFile:
    """What a file holds for a model."""

    tensors: dict[str, Tensor]
    """By the keys of the published checkpoints; plain CPU tensors."""
    sha256: str
    """Of the whole file, 64 hex digits."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Settings of the run of `stfcodec train` that wrote a checkpoint; empty for other files."""


def read_state_file(path: Path) -> StateFile:
    """Read a weights file (.safetensors) or a checkpoint (any other suffix).

    The state dict of a checkpoint may lie below "state_dict" (published), or below "average" or
    "model" (training). The file is neither kept open nor mapped. Raises WeightsError where it
    cannot be read, is damaged, or holds something else.
    """
    data = _read(path)
    sha256 = hashlib.sha256(data).hexdigest()
    try:
        if path.suffix == ".safetensors":
            return StateFile(_plain_tensors(load_safetensors(data)), sha256)
        loaded = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
        if not isinstance(loaded, Mapping):
            raise TypeError(f"it holds a {type(loaded).__name__}, no state dict")
        return StateFile(_plain_tensors(_unwrapped(loaded)), sha256, _settings(loaded))
    except pickle.UnpicklingError as error:
        raise WeightsError(f"{path}: {_refusal(error)}") from None
    except Exception as error:  # unpickling garbage raises almost anything
        raise WeightsError(f"{path}: damaged weights file ({one_line(error)})") from None


def _read(path: Path) -> bytes:
    try:
        if not path.is_file():
            raise WeightsError(f"{path}: cannot read the weights (no file)")
        if path.stat().st_size > _MAX_SIZE:
            raise WeightsError(f"{path}: cannot read the weights (over {_MAX_SIZE} bytes)")
        return path.read_bytes()
    except OSError as error:
        raise WeightsError(f"{path}: cannot read the weights ({error.strerror})") from None
    except MemoryError:
        raise WeightsError(f"{path}: cannot read the weights (not enough memory)") from None


def _refusal(error: pickle.UnpicklingError) -> str:
    # torch's own advice is to read the file with its code, which nobody should do unasked.
    found = _REFUSED_GLOBAL.search(str(error))
    if found is None:
        return "damaged weights file (or no checkpoint at all)"
    return (
        f"it holds the Python object {found[1]}, which is not read because it could run code; "
        f"save its state dict alone"
    )


def _unwrapped(loaded: Mapping[str, Any]) -> Mapping[str, Any]:
    for key in _WRAPPERS:
        if isinstance(inner := loaded.get(key), Mapping) and inner:
            return inner
    return loaded


def _settings(loaded: Mapping[str, Any]) -> Mapping[str, Any]:
    settings = loaded.get("settings")
    return settings if isinstance(settings, Mapping) else {}


def _plain_tensors(state: Mapping[str, Any]) -> dict[str, Tensor]:
    """The tensors of a state dict, by the keys of the published checkpoints."""
    tensors = {
        _published_key(k): _plain(v)
        for k, v in state.items()
        if isinstance(k, str) and isinstance(v, Tensor)
    }
    tensors.pop("n_averaged", None)  # of torch's averaged models
    return tensors


def _plain(t: Tensor) -> Tensor:
    if t.layout != torch.strided or t.is_quantized or t.device.type != "cpu":
        raise TypeError(f"a tensor is {t.layout} on {t.device}, not a plain one")
    return t.detach()


def _published_key(key: str) -> str:
    """The key without the prefixes of wrappers, and as in older compressai versions."""
    while key.startswith(_PREFIXES):
        key = key.partition(".")[2]
    return _RENAMED.sub(lambda m: f"{m[1]}{_ORIGINAL[m[2]]}{m[3]}", key)
