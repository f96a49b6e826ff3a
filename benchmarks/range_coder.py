"""How fast the range coder is: the loops in C and in Python, and compressai's coder."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest.mock import patch

import click
import numpy as np

from benchmarks.reference_networks import compressai_coder
from benchmarks.timing import median_seconds
from stfcodec.codec import codec_for
from stfcodec.entropy import rans
from stfcodec.entropy.tables import CdfTables
from stfcodec.imageio import read_picture
from stfcodec.models import registry

_ROOM = bytes(1 << 20)
"""compressai's decoder reads beyond its buffer."""

Ways = Iterator[tuple[str, Callable[[], object], Callable[[], object]]]


@click.command()
@click.argument("picture", type=click.Path(path_type=Path))
@click.option("-m", "--model", default=registry.DEFAULT_MODEL)
@click.option("-q", "--quality", type=float, default=3.0)
@click.option("--rounds", type=int, default=9, help="Median of so many.")
def main(picture: Path, model: str, quality: float, rounds: int) -> None:
    """Code the latents y of PICTURE again and again: million symbols a second, each way."""
    symbols, indexes, tables = _latents(picture, model, quality)
    data = rans.encode(symbols, indexes, tables)
    megapixels = read_picture(picture).pixels[..., 0].size / 1e6
    bits = 8 * len(data) / symbols.size
    click.echo(f"{picture.name}: {symbols.size} symbols, {bits:.3f} bits each")
    for name, encode, decode in _ways(symbols, indexes, tables, data):
        seconds = [median_seconds(way, rounds) for way in (encode, decode)]
        rates = " / ".join(f"{symbols.size / s / 1e6:.1f}" for s in seconds)
        each = " / ".join(f"{s / megapixels:.4f}" for s in seconds)
        click.echo(f"{name}: {rates} million symbols a second, {each} s/MP, encode / decode")


def _latents(picture: Path, model: str, quality: float) -> tuple[np.ndarray, np.ndarray, CdfTables]:
    """All symbols of y, and the table of each."""
    pieces: list[tuple[np.ndarray, np.ndarray]] = []
    add = rans.Encoder.add

    def spy(encoder: rans.Encoder, symbols: np.ndarray, indexes: np.ndarray) -> None:
        pieces.append((symbols, indexes))
        add(encoder, symbols, indexes)

    codec = codec_for(registry.by_name(model), quality)
    with patch.object(rans.Encoder, "add", spy):
        codec.encode(read_picture(picture), quality)
    symbols, indexes = (np.concatenate(arrays) for arrays in zip(*pieces[1:], strict=True))
    return symbols, indexes, codec.model.gaussian_conditional.tables


def _ways(symbols: np.ndarray, indexes: np.ndarray, tables: CdfTables, data: bytes) -> Ways:
    def decode() -> None:
        decoder = rans.Decoder(data, tables)
        decoder.decode(indexes)
        decoder.finish()

    def encode() -> None:
        assert rans.encode(symbols, indexes, tables) == data

    if rans.BACKEND == "c":
        yield "C", encode, decode
    with patch.object(rans, "_compiled", None):
        yield "Python", encode, decode
    if (ans := compressai_coder()) is None:
        return
    lengths, offsets = tables.length.tolist(), tables.offset.tolist()
    arguments = indexes.data, tables.rows, lengths, offsets

    def encode_there() -> None:
        encoder = ans.BufferedRansEncoder()
        encoder.encode_with_indexes(symbols.data, *arguments)
        assert encoder.flush() == data

    def decode_there() -> None:
        decoder = ans.RansDecoder()
        decoder.set_stream(data + _ROOM)
        array("i", decoder.decode_stream(*arguments))

    yield "compressai", encode_there, decode_there


if __name__ == "__main__":
    main()
