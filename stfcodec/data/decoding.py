"""Streams to tensors: symbols stream by stream, g_s once over pictures of one kind."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor

from stfcodec import api
from stfcodec.api import StreamSource
from stfcodec.codec import Codec
from stfcodec.container import Stream
from stfcodec.errors import StfError, UsageError
from stfcodec.limits import DEFAULT_LIMITS, Limits
from stfcodec.view import WHOLE, View

Weights = str | Path | None


def decode_batch(
    streams: Sequence[StreamSource],
    *,
    device: str = "auto",
    view: View = WHOLE,
    weights: Weights = None,
    limits: Limits = DEFAULT_LIMITS,
    threads: int = 1,
) -> Tensor:
    """Decode several .stf streams to one tensor on the device, uint8 (B, 3, H, W) of 0…255.

    streams: the streams to decode, see `stfcodec.api.StreamSource`.
    device: where the synthesis runs: "cpu", "cuda", or "auto", which is the CPU.
    view: the part and the scale that is decoded, of every picture alike.
    weights: the path of a weights file to use in place of those that the streams name.
    limits: the largest stream and picture that are accepted.
    threads: how many streams have their symbols decoded at a time, always on the CPU.

    The synthesis runs once over all pictures that have one size and one set of weights. Levels
    differ from those of a picture decoded alone where rounding falls otherwise (docs/data.md). The
    channels of a grey picture are equal; alpha is left out.

    Raises UsageError for no streams, and where decoded pictures differ in size. Raises StreamError,
    WeightsError and StfError as `stfcodec.decode` does, with the number of the stream from 0.
    """
    found = []
    for number, data in enumerate(streams):
        with naming(f"stream {number}"):
            found.append(api.read_stream(data, limits))
    names = [f"stream {number}" for number in range(len(found))]
    pictures = decode_streams(found, [view] * len(found), names, device, weights, threads)
    if not pictures:
        raise UsageError("no streams: a batch has at least one")
    for number, picture in enumerate(pictures):
        if picture.shape != pictures[0].shape:
            sizes = ["x".join(map(str, (*p.shape[:0:-1],))) for p in (picture, pictures[0])]
            raise UsageError(
                f"stream {number} has {sizes[0]} pixels, stream 0 {sizes[1]}: "
                f"a batch has pictures of one size; choose a crop that all of them have"
            )
    return torch.stack(pictures)


def decode_streams(
    streams: Sequence[Stream],
    views: Sequence[View],
    names: Sequence[str],
    device: str,
    weights: Weights,
    threads: int = 1,
) -> list[Tensor]:
    """What the views show of pictures, each uint8 (3, H, W) on the device.

    names: of the streams, for errors. Arguments and errors are otherwise those of `decode_batch`.
    """
    groups = defaultdict(list)
    for i, (stream, view) in enumerate(zip(streams, views, strict=True)):
        header = stream.header
        with naming(names[i]):
            view.spans(header.width, header.height)  # refused before the work of decoding
        size = header.width, header.height
        groups[header.model_id, header.fingerprint, size, view].append(i)
    found: dict[int, Tensor] = {}
    for members in groups.values():
        with naming(names[members[0]]):
            codec = api.decoding_codec(streams[members[0]], device, weights)
        coded = [(codec, streams[i], names[i]) for i in members]
        if threads > 1 < len(members):
            with ThreadPoolExecutor(threads) as pool:
                latents = list(pool.map(_latents, coded))
        else:
            latents = list(map(_latents, coded))
        headers = [streams[i].header for i in members]
        view = views[members[0]]
        pixels = codec.synthesis(torch.cat(latents), headers, view, 8, codec.device)
        # A copy, which may be changed in place, unlike a tensor of inference mode.
        found |= zip(members, pixels.clone(memory_format=torch.contiguous_format), strict=True)
    return [found[i] for i in range(len(streams))]


def _latents(coded: tuple[Codec, Stream, str]) -> Tensor:
    codec, stream, name = coded
    with naming(name):
        return codec.latents(stream)


@contextmanager
def naming(name: str) -> Iterator[None]:
    """Add a name to errors that lack it."""
    try:
        yield
    except StfError as error:
        if name in str(error):
            raise
        raise type(error)(f"{name}: {error}") from error
