"""A model in the published layout, small enough for unit tests."""

from __future__ import annotations

from stfcodec.models.registry import EntropyWidths, ModelInfo, WacnnWidths

SMALL = ModelInfo(
    name="wacnn-small",
    id=3,
    family="wacnn",
    widths=WacnnWidths(
        channels=(16, 24, 32, 224),
        heads=4,
        units=1,
        entropy=EntropyWidths(
            slices=4,
            support=4,
            h_a=(224, 128, 96, 96, 96, 96),
            h_s=(96, 96, 96, 96, 128, 224),
            context=(96, 64),
        ),
    ),
    variable_rate=False,
    parameters=0,
)
