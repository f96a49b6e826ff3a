"""Which model, and which quality, a checkpoint is of."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from stfcodec.errors import UsageError, WeightsError
from stfcodec.models import registry
from stfcodec.models.base import CompressionModel
from stfcodec.models.build import build
from stfcodec.models.locate import describe_file
from stfcodec.models.registry import LAMBDAS, ModelInfo
from stfcodec.models.state_dicts import StateFile
from stfcodec.models.weights import has_integer_form

_LAMBDA = re.compile(
    r"(?:(?:cnn|stf|lambda|lmbda)[_=-]?|(?<![\d.])0\.)(0\d{2,3})(?!\d)", re.IGNORECASE
)
"""λ in the name of a file: after "0.", or without it as in cnn_0018, stf_013, lambda0130."""

_QUALITY = re.compile(r"-q([1-6])(?!\d)")
"""The quality in the name of a weights file."""

Shape = tuple[int, ...]


def recognise_model(tensors: Mapping[str, Tensor], path: Path) -> ModelInfo:
    """The model whose parameters the tensors are, by names and shapes.

    Raises WeightsError, which names the first difference from the most similar model.
    """
    given = {key: tuple(t.shape) for key, t in tensors.items()}
    best, shared = registry.MODELS[0], -1
    for info in registry.MODELS:
        if difference(info, given) is None:
            return info
        if (common := len(_parameters(info).keys() & given.keys())) > shared:
            best, shared = info, common
    if not shared:
        raise WeightsError(f"{path}: no checkpoint of a model of this program")
    raise WeightsError(f"{path}: not weights of {best.name}: {difference(best, given)}")


def check_model(info: ModelInfo, tensors: Mapping[str, Tensor], path: Path) -> ModelInfo:
    """`info` itself. Raises WeightsError where the tensors are not the parameters of that model."""
    problem = difference(info, {key: tuple(t.shape) for key, t in tensors.items()})
    if problem is not None:
        raise WeightsError(f"{path}: not weights of {info.name}: {problem}")
    return info


def difference(info: ModelInfo, given: Mapping[str, Shape]) -> str | None:
    """How tensors of these names and shapes differ from a model's; None where they do not."""
    coding = has_integer_form(given)
    wanted = {
        key: shape
        for key, shape in _parameters(info).items()
        if not (coding and key.split(".")[0] in _replaced(info))
    }
    for key, shape in wanted.items():
        if key not in given:
            return f"{key} is missing"
        if given[key] != shape:
            sides, expected = ("×".join(map(str, s)) for s in (given[key], shape))
            return f"{key} has {sides} values, not {expected}; other widths cannot be imported"
    known = wanted.keys() | _buffers(info)
    others = (key for key in given if key not in known and not (coding and "integer" in key))
    stranger = next(others, None)
    return None if stranger is None else f"{stranger} is not part of it"


def recognise_quality(
    file: StateFile, path: Path, info: ModelInfo, lmbda: float | None
) -> float | None:
    """The quality of weights that serve one; None for a model of variable rate.

    lmbda: the λ that the user states. Otherwise it is that of the training run, or stands in the
    name of the file. Raises UsageError where λ is none of the six, is not found, or contradicts the
    training run.
    """
    if info.variable_rate:
        if lmbda is not None:
            raise UsageError(f"{info.name} serves every quality: leave --lambda out")
        return None
    stated = _stated_quality(file, path, info)
    if lmbda is None:
        return _quality_in_name(path) if stated is None else stated
    quality = registry.quality_from_lambda(lmbda, info)
    if stated not in (None, quality):
        trained = registry.lambda_from_quality(stated)
        raise UsageError(f"{path} is of λ {trained:g}, not {lmbda:g}: leave --lambda out")
    return quality


def _stated_quality(file: StateFile, path: Path, info: ModelInfo) -> float | None:
    """Raises UsageError where the model does not have the quality that the file states."""
    described = describe_file(path) if path.suffix == ".safetensors" else None
    if described is not None and described.quality is not None:
        return described.quality
    trained = file.settings.get("quality")
    return None if trained is None else registry.check_quality(trained, info)


def _quality_in_name(path: Path) -> float:
    found = {float("0." + digits) for digits in _LAMBDA.findall(path.name)}
    qualities = {float(i) for i, known in enumerate(LAMBDAS, 1) if known in found}
    qualities |= {float(digit) for digit in _QUALITY.findall(path.name)}
    if len(qualities) != 1:
        problem = "names more than one λ" if qualities else "does not name its λ"
        raise UsageError(
            f"{path}: the file {problem}: give --lambda, one of "
            f"{', '.join(f'{x:g}' for x in LAMBDAS)}"
        )
    return qualities.pop()


@cache
def _parameters(info: ModelInfo) -> dict[str, Shape]:
    return {key: tuple(p.shape) for key, p in _without_memory(info).named_parameters()}


@cache
def _buffers(info: ModelInfo) -> frozenset[str]:
    return frozenset(key for key, _ in _without_memory(info).named_buffers())


@cache
def _replaced(info: ModelInfo) -> tuple[str, ...]:
    return _without_memory(info).integer_replaces


@cache
def _without_memory(info: ModelInfo) -> CompressionModel:
    with torch.device("meta"):
        return build(info)
