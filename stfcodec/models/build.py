"""From a registry entry to a network."""

from __future__ import annotations

from stfcodec.models.lite import LiteModel
from stfcodec.models.model import CompressionModel
from stfcodec.models.registry import LiteWidths, ModelInfo, WacnnWidths
from stfcodec.models.stf import STF
from stfcodec.models.wacnn import WACNN


def build(info: ModelInfo) -> CompressionModel:
    """The architecture alone, with initial weights and without coding tables."""
    widths = info.widths
    if isinstance(widths, LiteWidths):
        return LiteModel(info.family, widths)
    if isinstance(widths, WacnnWidths):
        return WACNN(widths)
    return STF(widths)
