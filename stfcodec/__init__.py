"""stfcodec: an image codec built on learned compression (WACNN and STF, CVPR 2022).

    import stfcodec
    data = stfcodec.encode("photo.jpg", quality=3.5)
    image = stfcodec.decode(data)

Functions and `Picture` are loaded on first use: importing the package alone takes milliseconds and
imports neither torch nor numpy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stfcodec.container import StreamInfo
from stfcodec.errors import ImageError, StfError, StreamError, UsageError, WeightsError
from stfcodec.limits import Limits
from stfcodec.models.registry import ModelInfo
from stfcodec.rate_control import Target

if TYPE_CHECKING:
    from stfcodec.api import (
        bit_allocation,
        build_model,
        decode,
        decode_picture,
        encode,
        info,
        list_models,
        load_model,
    )
    from stfcodec.bits import BitAllocation
    from stfcodec.imageio import Picture

__version__ = "0.6.0"
"""The version of the package, as in "0.6.0"."""

__all__ = [
    "BitAllocation",
    "ImageError",
    "Limits",
    "ModelInfo",
    "Picture",
    "StfError",
    "StreamError",
    "StreamInfo",
    "Target",
    "UsageError",
    "WeightsError",
    "__version__",
    "bit_allocation",
    "build_model",
    "decode",
    "decode_picture",
    "encode",
    "info",
    "list_models",
    "load_model",
]


def __getattr__(name: str) -> Any:
    """The names of `__all__` that are not defined above; `api` has them."""
    if name not in __all__:
        raise AttributeError(f"module 'stfcodec' has no attribute {name!r}")
    from stfcodec import api

    return getattr(api, name)


def __dir__() -> list[str]:
    return sorted(__all__)
