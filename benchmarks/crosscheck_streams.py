"""Streams of the cross-check: writes a folder of weights and streams, and decodes it in batches.

The folder has NAME-qQUALITY-PICTURE.stf for each stream, and weights/NAME.safetensors.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from benchmarks.pictures import middle_crop
from benchmarks.untrained_models import random_model
from stfcodec import container
from stfcodec.codec import codec_for
from stfcodec.container import Stream
from stfcodec.entropy import rans
from stfcodec.errors import StreamError
from stfcodec.geometry import DOWNSAMPLING_Z, padded
from stfcodec.imageio import Picture, read_picture
from stfcodec.models import locate, registry, weights
from stfcodec.models.base import CompressionModel
from stfcodec.models.coding import channel_indexes, checksum, flat
from stfcodec.models.integer_backends import (
    Backend,
    FloatBackend,
    Int8Backend,
    ReferenceBackend,
)
from stfcodec.models.integer_entropy import MEAN_DENOMINATOR
from stfcodec.models.lite import LiteModel
from stfcodec.models.registry import WHOLE_QUALITIES, ModelInfo

BACKENDS: dict[str, Backend] = {
    "int8": Int8Backend(),
    "int8-aligned": Int8Backend(aligned=True),
    "float": FloatBackend(),
    "reference": ReferenceBackend(),
}


def write_streams(paths: Sequence[Path], folder: Path, random_pictures: int, crop: int) -> int:
    """Code pictures with every model into a new folder; return the number of streams.

    Models with embedded weights code whole pictures at every quality. The others get random weights
    and code middle crops of the first `random_pictures`, `crop` pixels wide and high, at quality 3.
    """
    (folder / "weights").mkdir(parents=True)
    pictures = [read_picture(path) for path in paths]
    count = 0
    for info in registry.MODELS:
        path = _weights(folder, info)
        if locate.status(info) == "embedded":
            shutil.copyfile(locate.find(info, WHOLE_QUALITIES[0]), path)
            sources, qualities = pictures, WHOLE_QUALITIES
        else:
            sources, qualities = [_middle(p, crop) for p in pictures[:random_pictures]], (3,)
            if sources:
                weights.save(random_model(info, [_tensor(p) for p in sources]), path)
        for quality in qualities:
            for i, picture in enumerate(sources):
                stream = codec_for(info, quality, "cpu", path).encode(picture, quality)
                name = f"{info.name}-q{quality}-{i:02}.stf"
                (folder / name).write_bytes(container.write(stream))
                count += 1
    return count


def decode_streams(
    folder: Path, batch: int, device: str, backend: Backend, layout: torch.memory_format
) -> tuple[dict[str, int], list[str]]:
    """Checksums of `decode_batch` by file name, and one message for each stream that fails."""
    checksums: dict[str, int] = {}
    failures: list[str] = []
    for model, names, streams in _batches(folder, batch, device, backend):
        try:
            checksums |= dict(zip(names, decode_batch(model, streams, layout), strict=True))
        except StreamError as error:
            failures += [f"{name}: {error}" for name in names]
    return checksums, failures


def digest(checksums: Mapping[str, int]) -> str:
    """16 hexadecimal digits that stand for all checksums and their names."""
    return hashlib.sha256(repr(sorted(checksums.items())).encode()).hexdigest()[:16]


@torch.inference_mode()
def decode_batch(
    model: CompressionModel, streams: Sequence[Stream], layout: torch.memory_format
) -> list[int]:
    """CRC-32 of what is exact in each stream: ŷ of paper-size models, the symbols of lite models.

    The streams have one quality and one padded size, and are decoded as one batch, as
    `CompressionModel.decompress` decodes one stream. Raises StreamError if the symbols of a stream
    do not match its checksum.
    """
    z_tables, y_tables = model.entropy_bottleneck.tables, model.gaussian_conditional.tables
    device, (h, w) = next(model.parameters()).device, _size_of_z(streams[0])
    channels = len(z_tables.length)
    channels_of_z = channel_indexes((1, channels, h, w))
    decoders = [rans.Decoder(s.y, y_tables) for s in streams]
    symbols = [[rans.Decoder(s.z, z_tables).decode(channels_of_z)] for s in streams]

    def latest(shape: Sequence[int]) -> Tensor:
        """The symbols decoded last in each stream, as one batch of that shape."""
        t = torch.from_numpy(np.stack([s[-1] for s in symbols])).view(*shape)
        return t.float().to(device).contiguous(memory_format=layout)

    def code(_: int, mean: Tensor, index: Tensor) -> Tensor:
        for decoder, own, i in zip(decoders, symbols, index.cpu(), strict=True):
            own.append(decoder.decode(flat(i)))
        return latest(mean.shape)

    quality = streams[0].header.quality
    y_hat = model.decode_symbols(latest((len(streams), channels, h, w)), quality, code)
    for stream, own in zip(streams, symbols, strict=True):
        if checksum(np.concatenate(own)) != stream.checksum:
            raise StreamError("the decoded symbols do not match the stream's checksum")
    if isinstance(model, LiteModel):
        return [checksum(np.concatenate(own)) for own in symbols]
    return [checksum(flat(integers)) for integers in y_hat * MEAN_DENOMINATOR]


def _batches(
    folder: Path, size: int, device: str, backend: Backend
) -> Iterator[tuple[CompressionModel, list[str], list[Stream]]]:
    """At most `size` streams of one model, quality and padded size at a time."""
    models: dict[int, CompressionModel] = {}
    paths = sorted(folder.glob("*.stf"))
    named = [(p.name, container.read(p.read_bytes())) for p in paths]

    def key(item: tuple[str, Stream]) -> tuple[int, float, tuple[int, int]]:
        header = item[1].header
        return header.model_id, header.quality, _size_of_z(item[1])

    for (model_id, quality, _), group in groupby(sorted(named, key=key), key):
        if model_id not in models:
            info = registry.by_id(model_id)
            model = codec_for(info, quality, "cpu", _weights(folder, info)).model.to(device)
            model.integer.prepare(backend)
            models[model_id] = model
        items = list(group)
        for start in range(0, len(items), size):
            names, streams = zip(*items[start : start + size], strict=True)
            yield models[model_id], list(names), list(streams)


def _size_of_z(stream: Stream) -> tuple[int, int]:
    """Height and width of z."""
    header = stream.header
    return padded(header.height) // DOWNSAMPLING_Z, padded(header.width) // DOWNSAMPLING_Z


def _middle(picture: Picture, side: int) -> Picture:
    return Picture(middle_crop(picture.pixels, side), picture.gray, None, None, None, None, ())


def _tensor(picture: Picture) -> Tensor:
    return torch.from_numpy(picture.pixels).permute(2, 0, 1)[None].float() / 255


def _weights(folder: Path, info: ModelInfo) -> Path:
    return folder / "weights" / f"{info.name}.safetensors"
