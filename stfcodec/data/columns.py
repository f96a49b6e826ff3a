"""Columns of streams to columns of pictures, as Ray Data and Hugging Face's datasets map them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from stfcodec import api
from stfcodec.data.crops import RandomCrop, below, view_of
from stfcodec.data.decoding import Weights, decode_streams, naming
from stfcodec.errors import UsageError
from stfcodec.limits import DEFAULT_LIMITS, Limits
from stfcodec.view import WHOLE, View


class StfDecoder:
    """Decodes a batch of rows, such as `ray.data.read_binary_files(…).map_batches(StfDecoder, …)`.

    A batch is a dictionary of columns. The column "bytes" has streams. Its place is taken by
    "image": uint8 (B, H, W, 3), or an array of arrays (H, W, 3) where sizes differ. The other
    columns stay as they are.

    view, weights, limits: as of `StfDataset`.
    device: where the synthesis runs, "cpu" or "cuda". It runs once over the pictures of a batch
    that have one size, one set of weights and one view.

    A call raises UsageError for a batch without streams, and what `stfcodec.decode` raises, with
    the row's "path" where there is one and its number within the batch where not.
    """

    def __init__(
        self,
        *,
        view: View | RandomCrop = WHOLE,
        device: str = "cpu",
        weights: Weights = None,
        limits: Limits = DEFAULT_LIMITS,
    ) -> None:
        self._view = view
        self._device = device
        self._weights = weights
        self._limits = limits

    def __call__(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        if "bytes" not in batch:
            raise UsageError(f"no column 'bytes' among {', '.join(batch)}: rename that of streams")
        rows = len(batch["bytes"])
        names = [str(name) for name in batch.get("path", [f"row {i}" for i in range(rows)])]
        streams, views = [], []
        for data, name in zip(batch["bytes"], names, strict=True):
            with naming(name):
                stream = api.read_stream(bytes(data), self._limits)
                header = stream.header
                views.append(view_of(self._view, header.width, header.height, below))
            streams.append(stream)
        pictures = [
            picture.permute(1, 2, 0).cpu().numpy()
            for picture in decode_streams(streams, views, names, self._device, self._weights)
        ]
        kept = {name: column for name, column in batch.items() if name != "bytes"}
        return {**kept, "image": _column(pictures)}


def _column(pictures: list[np.ndarray]) -> np.ndarray:
    """(B, H, W, 3), or (B,) of objects where sizes differ."""
    if len({picture.shape for picture in pictures}) == 1:
        return np.stack(pictures)
    column = np.empty(len(pictures), object)
    for row, picture in enumerate(pictures):
        column[row] = picture
    return column
