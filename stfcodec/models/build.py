"""From a registry entry to a network."""

from __future__ import annotations

from stfcodec.models.entropy_model import CompressionModel
from stfcodec.models.registry import ModelInfo, WacnnWidths
from stfcodec.models.stf import STF
from stfcodec.models.wacnn import WACNN


def build(info: ModelInfo) -> CompressionModel:
    """The architecture alone, with initial weights and without coding tables."""
    widths = info.widths
    if isinstance(widths, WacnnWidths):
        return WACNN(widths, info.variable_rate)
    return STF(widths, info.variable_rate)
