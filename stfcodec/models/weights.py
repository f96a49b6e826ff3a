"""The format of weights files: saving, loading, checking and fingerprints.

A file is safetensors with the float networks in half precision, the integer form of the entropy
networks, and the integer coding tables. `locate.py` finds files, `releases.py` lists released ones.
"""

from __future__ import annotations

import copy
import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save as save_safetensors
from torch import Tensor
from torch.overrides import TorchFunctionMode

from stfcodec.errors import WeightsError, one_line
from stfcodec.files import write_bytes
from stfcodec.models import locate
from stfcodec.models.base import CompressionModel
from stfcodec.models.build import build
from stfcodec.models.host import plain_torch
from stfcodec.models.priors import SCALE_LEVELS
from stfcodec.models.registry import ModelInfo
from stfcodec.models.state_dicts import read_state_file

_TABLES = re.compile(r"\.(_quantized_cdf|_cdf_length|_offset|scale_table)$")
"""Keys of coding tables."""

_INTEGER = "integer."
"""Prefix of the keys of the integer form."""

_ENCODER_ONLY = re.compile(
    r"(g_a|h_a)\d*\.|entropy_bottleneck\._(matrix|bias|factor)|gaussian_conditional\.scale_table"
    r"|integer\..*\.(scale|step|float_bias)$"
)
"""Keys of tensors that no decoder reads: the analysis, and what only training or the refinement of
latents needs."""

_MAX_LOGARITHM = 40.0
"""Magnitude of the logarithm of a scale or gain, at most. Its exponential is finite."""


def save(model: CompressionModel, path: Path, metadata: Mapping[str, str] | None = None) -> None:
    """Write `stored_tensors` as a weights file; an existing file is replaced.

    metadata: as `locate.describe` makes it.
    """
    write_bytes(path, pack(stored_tensors(model), metadata), overwrite=True)


def stored_tensors(model: CompressionModel) -> dict[str, Tensor]:
    """The tensors of a weights file: parameters as float16, integer form and tables unchanged.

    A parameter beyond the range of float16 stays float32. The float networks that an integer form
    replaces are left out, and so are constants. The model's parameters are rounded to float16 as
    well, the tables of z rebuilt from them, and its `fingerprint` is set, so that the model codes
    as the file does.
    """
    parameters = dict(model.named_parameters())
    stored = {k: _half(p.detach()) for k, p in parameters.items()}
    with torch.no_grad():
        for k, p in parameters.items():
            p.copy_(stored[k].float())
    # In float64, so that every machine finds the same tables.
    wide = copy.deepcopy(model.entropy_bottleneck).double()
    wide.update()
    model.entropy_bottleneck.set_tables(wide.tables)
    left_out = model.integer_replaces if model.integer is not None else ()
    tensors = {k: t for k, t in stored.items() if k.split(".")[0] not in left_out}
    tensors |= {
        k: t for k, t in model.state_dict().items() if _TABLES.search(k) or k.startswith(_INTEGER)
    }
    tensors = {k: t.cpu().contiguous() for k, t in tensors.items()}
    model.fingerprint = fingerprint(tensors)
    return tensors


def pack(tensors: dict[str, Tensor], metadata: Mapping[str, str] | None = None) -> bytes:
    """A weights file of these tensors, with their fingerprint and digest in its metadata.

    The same tensors and metadata give the same bytes.
    """
    sums = {locate.FINGERPRINT: fingerprint(tensors).hex(), locate.DIGEST: digest(tensors)}
    return _with_sorted_metadata(save_safetensors(tensors, {**(metadata or {}), **sums}))


def _with_sorted_metadata(data: bytes) -> bytes:
    """A safetensors file with its metadata in the order of their keys; the library's is random."""
    end = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:end])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + data[end:]


def verify(info: ModelInfo, path: Path) -> None:
    """Raise WeightsError unless a file codes and has the fingerprint and digest that it states."""
    if load(info, path).integer is None:
        raise WeightsError(f"{path}: no integer form; 'stfcodec weights import' makes one")
    stated = locate.describe_file(path)
    if stated is None or stated.fingerprint is None:
        raise WeightsError(f"{path}: states no fingerprint, by which decoders would find it")
    check_stated_sums(stated, read_state_file(path).tensors)


def check_stated_sums(file: locate.WeightsFile, tensors: dict[str, Tensor]) -> None:
    """Raise WeightsError where tensors have another fingerprint or digest than their file states.

    Older files state no digest.
    """
    for stated, found in (
        (file.fingerprint, fingerprint(tensors).hex()),
        (file.digest, digest(tensors)),
    ):
        if stated not in (None, found):
            raise WeightsError(
                f"{file.path}: damaged (it states {stated[:8]} and is {found[:8]}); get or import "
                f"it again"
            )


def _half(parameter: Tensor) -> Tensor:
    half = parameter.half()
    return half if torch.isfinite(half).all() else parameter.float()


def fingerprint(state: dict[str, Tensor]) -> bytes:
    """The 4 bytes by which a stream names its weights: the start of a SHA-256.

    It covers the tensors that decoding reads, ordered by name. Each counts as a line of name, type
    and sides, followed by its values, little-endian. Other weights of g_a or h_a leave the
    fingerprint unchanged. state: tensors as a weights file holds them.
    """
    return _sha256({k: t for k, t in state.items() if not _ENCODER_ONLY.match(k)}).digest()[:4]


def digest(state: dict[str, Tensor]) -> str:
    """SHA-256 of all tensors as in `fingerprint`, 64 hex digits."""
    return _sha256(state).hexdigest()


def _sha256(state: dict[str, Tensor]) -> Any:
    found = hashlib.sha256()
    for name in sorted(state):
        t = state[name]
        sides = " ".join(map(str, t.shape))
        found.update(f"{name} {str(t.dtype).removeprefix('torch.')} {sides}\n".encode())
        found.update(t.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return found


class _NoInitialisation(TorchFunctionMode):
    """Inside, `torch.nn.init` does nothing.

    Loading does not wait for random initial weights, and leaves torch's random numbers alone.
    """

    def __torch_function__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        drawn = func in (torch.Tensor.normal_, torch.Tensor.uniform_)
        if drawn or getattr(func, "__module__", None) == "torch.nn.init":
            return args[0] if args else (kwargs or {})["tensor"]
        return func(*args, **(kwargs or {}))


@plain_torch()
def load(info: ModelInfo, path: Path, coding: bool = False) -> CompressionModel:
    """The model in evaluation mode, float32, with coding tables and its `fingerprint`.

    path: a weights file in the format of this module, or a checkpoint that `read_state_file` reads.
    The model does not keep the file open or mapped, so the file may be replaced afterwards.

    coding: whether the model is for coding only. Then the float networks that an integer form
    replaces stay undefined. Otherwise they get the weights of the integer form.

    Raises WeightsError where the file is missing, damaged or of another model, where a value is not
    finite, and where a sum of the integer form could be inexact.
    """
    file = read_state_file(path)
    if locate.expected_sha256(path) not in (None, file.sha256):
        raise WeightsError(f"{path}: damaged (its SHA-256 is not the manifest's); reinstall it")
    return load_state(info, file.tensors, path, coding)


@plain_torch()
def load_state(
    info: ModelInfo, state: dict[str, Tensor], path: Path, coding: bool = False
) -> CompressionModel:
    """As `load`, from the tensors of the file, which the function takes out of `state`.

    Checkpoints have no integer form. Their coding tables, which may be there, empty or stale, are
    computed anew, and their constants must be those of the model.
    """
    found = fingerprint(state)
    with _NoInitialisation():
        model = build(info)
    replaced: tuple[str, ...] = ()
    if has_integer_form(state):
        _check_coding_tables(state, path)
        _move_tables(state, model)
        model.integer = model.new_integer().to(torch.float32)
        replaced = model.integer_replaces
    else:
        _drop_buffers(state, model, path)
        for key, t in state.items():
            state[key] = t.float() if t.dtype == torch.float64 else t
    _check_types(model, state, path)
    _check_values(state, path)
    try:
        missing, unexpected = model.load_state_dict(state, strict=False)
    except RuntimeError as error:
        raise WeightsError(f"{path}: not weights of {info.name} ({one_line(error)})") from None
    trained = {k for k, _ in model.named_parameters() if k.split(".")[0] not in replaced}
    needed = [k for k in missing if k in trained or k.startswith(_INTEGER)]
    if needed or unexpected:
        problem = f"{needed[0]} is missing" if needed else f"{unexpected[0]} is not part of it"
        raise WeightsError(f"{path}: not weights of {info.name} ({problem})")
    if not model.gaussian_conditional.has_tables:
        model.update()
    _check_tables(model, path)
    if model.integer is not None:
        try:
            model.integer.prepare()
        except WeightsError as error:
            raise WeightsError(f"{path}: damaged weights file ({error})") from None
        if not coding:
            model.dequantise()
    model.fingerprint = found
    return model.eval()


def has_integer_form(state: Iterable[str]) -> bool:
    """Whether a state dict with these keys is that of a weights file that codes."""
    return any(k.startswith(_INTEGER) for k in state)


def _move_tables(state: dict[str, Tensor], model: CompressionModel) -> None:
    for name in ("entropy_bottleneck", "gaussian_conditional"):
        prior = model.get_submodule(name)
        for key in [k for k in state if k.startswith(name) and _TABLES.search(k)]:
            setattr(prior, key.rsplit(".", 1)[1], state.pop(key))


def _drop_buffers(state: dict[str, Tensor], model: CompressionModel, path: Path) -> None:
    """Take tables and constants out of a checkpoint. Raises WeightsError for other constants."""
    for key, constant in model.named_buffers():
        found = state.pop(key, constant)
        if _TABLES.search(key):
            continue
        # A checkpoint in bfloat16 has rounded its constants.
        if found.shape != constant.shape or not torch.allclose(found.to(constant), constant, 1e-2):
            raise WeightsError(f"{path}: made for another network ({key} has other values)")


def _check_values(state: dict[str, Tensor], path: Path) -> None:
    """Raise WeightsError where a value is not finite, or a logarithm too large."""
    for name, t in state.items():
        if t.is_floating_point() and not torch.isfinite(t).all():
            raise WeightsError(f"{path}: damaged weights file ({name} is not finite)")
        if name.split(".")[-1].startswith("log_") and t.abs().max() > _MAX_LOGARITHM:
            raise WeightsError(f"{path}: damaged weights file ({name} is beyond all scale)")


def _check_coding_tables(state: dict[str, Tensor], path: Path) -> None:
    """Raise WeightsError where coding tables are missing beside an integer form.

    Tables that were computed here instead could differ from those of the encoder.
    """
    for prior in ("entropy_bottleneck", "gaussian_conditional"):
        for name in ("_quantized_cdf", "_cdf_length", "_offset"):
            if not state.get(f"{prior}.{name}", torch.empty(0)).numel():
                raise WeightsError(f"{path}: damaged weights file ({prior}.{name} is missing)")


def _check_tables(model: CompressionModel, path: Path) -> None:
    """Raise WeightsError unless each channel of z and each scale level of y has a valid table."""
    z, y = model.entropy_bottleneck, model.gaussian_conditional
    for what, prior, count in (("z", z, z.quantiles.shape[0]), ("y", y, SCALE_LEVELS)):
        try:
            found = len(prior.tables.length)
        except (WeightsError, ValueError, IndexError) as error:
            raise WeightsError(f"{path}: damaged weights file ({error})") from None
        if found != count:
            raise WeightsError(
                f"{path}: damaged weights file ({found} coding tables of {what}, not {count})"
            )


def _check_types(model: CompressionModel, state: dict[str, Tensor], path: Path) -> None:
    """Raise WeightsError where a tensor has a type that loading would silently convert."""
    floats = {torch.float16, torch.bfloat16, torch.float32}
    allowed = {key: floats for key, _ in model.named_parameters()}
    allowed |= {key: {b.dtype} for key, b in model.named_buffers() if key.startswith(_INTEGER)}
    for key, t in state.items():
        if t.dtype not in allowed.get(key, {t.dtype}):
            raise WeightsError(f"{path}: damaged weights file ({key} is {t.dtype})")
