"""Speed of the range coder: our loops in C and in Python, and compressai's coder."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple
from unittest.mock import patch

import click
import numpy as np

from benchmarks import compressai_coder
from benchmarks.options import model_option, picture_argument, quality_option, rounds_option
from benchmarks.timing import median_seconds
from stfcodec.entropy import rans, rans_python
from stfcodec.entropy.tables import CdfTables
from stfcodec.models import registry

_PADDING = bytes(1 << 20)
"""compressai's decoder reads beyond the end of its buffer."""


class Implementation(NamedTuple):
    """A range coder, ready to code one picture's symbols."""

    name: str
    encode: Callable[[], object]
    decode: Callable[[], object]


@click.command()
@picture_argument
@model_option
@quality_option
@rounds_option(9)
def main(picture: Path, model: str, quality: float, rounds: int) -> None:
    """Code the latents y of PICTURE with each range coder.

    Prints million symbols per second and seconds per megapixel of both directions.
    """
    from stfcodec.imageio import read_picture

    symbols, indexes, tables = _latents(picture, model, quality)
    data = rans.encode(symbols, indexes, tables)
    megapixels = read_picture(picture).pixels[..., 0].size / 1e6
    bits = 8 * len(data) / symbols.size
    click.echo(f"{picture.name}: {symbols.size} symbols, {bits:.3f} bits each")
    for coder in _implementations(symbols, indexes, tables, data):
        seconds = [median_seconds(run, rounds) for run in (coder.encode, coder.decode)]
        speeds = " / ".join(f"{symbols.size / s / 1e6:.1f}" for s in seconds)
        times = " / ".join(f"{s / megapixels:.4f}" for s in seconds)
        click.echo(f"{coder.name}: {speeds} million symbols/s, {times} s/MP, encode / decode")


def _latents(picture: Path, model: str, quality: float) -> tuple[np.ndarray, np.ndarray, CdfTables]:
    """All symbols of y in coding order, the table index of each, and the tables."""
    from stfcodec.codec import codec_for
    from stfcodec.imageio import read_picture

    pieces: list[tuple[np.ndarray, np.ndarray]] = []
    add = rans.Encoder.add

    def spy(encoder: rans.Encoder, symbols: np.ndarray, indexes: np.ndarray) -> None:
        pieces.append((symbols, indexes))
        add(encoder, symbols, indexes)

    codec = codec_for(registry.by_name(model), quality)
    with patch.object(rans.Encoder, "add", spy):
        codec.encode(read_picture(picture), quality)
    tables = codec.model.gaussian_conditional.tables
    of_y = pieces[1:]  # z is coded first, in one piece
    symbols, indexes = (np.concatenate(arrays) for arrays in zip(*of_y, strict=True))
    return symbols, indexes, tables


def _implementations(
    symbols: np.ndarray, indexes: np.ndarray, tables: CdfTables, data: bytes
) -> Iterator[Implementation]:
    """Those that are installed; each encoder must produce `data`."""

    def encode() -> None:
        assert rans.encode(symbols, indexes, tables) == data

    def decode() -> None:
        decoder = rans.Decoder(data, tables)
        decoder.decode(indexes)
        decoder.finish()

    if rans.BACKEND == "c":
        yield Implementation("C", encode, decode)
    with patch.object(rans, "backend", rans_python):
        yield Implementation("Python", encode, decode)
    if (ans := compressai_coder.load()) is None:
        return
    lengths, offsets = tables.length.tolist(), tables.offset.tolist()
    arguments = indexes.data, tables.rows, lengths, offsets

    def encode_by_compressai() -> None:
        encoder = ans.BufferedRansEncoder()
        encoder.encode_with_indexes(symbols.data, *arguments)
        assert encoder.flush() == data

    def decode_by_compressai() -> None:
        decoder = ans.RansDecoder()
        decoder.set_stream(data + _PADDING)
        array("i", decoder.decode_stream(*arguments))

    yield Implementation("compressai", encode_by_compressai, decode_by_compressai)


if __name__ == "__main__":
    main()
