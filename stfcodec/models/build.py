"""From an entry of `registry.py` to a network."""

from __future__ import annotations

import torch

from stfcodec.models.base import CompressionModel
from stfcodec.models.lite import LiteModel
from stfcodec.models.registry import LiteWidths, ModelInfo, WacnnWidths
from stfcodec.models.stf import STF
from stfcodec.models.wacnn import WACNN


def build(info: ModelInfo) -> CompressionModel:
    """The network of a model with initial weights, without coding tables.

    It is in float32, whatever torch's default dtype is.
    """
    return _network(info).to(torch.float32)


def _network(info: ModelInfo) -> CompressionModel:
    widths = info.widths
    if isinstance(widths, LiteWidths):
        return LiteModel(info.family, widths)
    if isinstance(widths, WacnnWidths):
        return WACNN(widths)
    return STF(widths)
