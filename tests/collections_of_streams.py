"""Small streams in folders and in shards, to read back."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

import photographs

import stfcodec
from stfcodec import shards
from stfcodec.shards import Sample

SIDE = 64


@cache
def stream(number: int, width: int = SIDE, height: int = SIDE, model: str = "wacnn-lite") -> bytes:
    """A photograph's part of this size, another one for each number, at another quality."""
    pixels = photographs.crop((300, 500))
    left, top = 40 * number % (500 - width), 30 * number % (300 - height)
    part = pixels[top : top + height, left : left + width]
    return stfcodec.encode(part, quality=1 + number % 5, model=model)


def fill(folder: Path, names: list[str]) -> list[Path]:
    """A stream under each name below a folder."""
    paths = [folder / name for name in names]
    for number, path in enumerate(paths):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(stream(number))
    return paths


def write_tars(folder: Path, counts: list[int]) -> list[str]:
    """Shards 0.tar, 1.tar … of so many samples, and the keys of all samples."""
    keys = []
    for shard, count in enumerate(counts):
        with (folder / f"{shard}.tar").open("wb") as file, shards.writing(file, "tar") as writer:
            for i in range(count):
                keys.append(f"{shard}-{i}")
                fields = {
                    "stf": stream(len(keys) % 3),
                    "cls": str(shard).encode(),
                    "json": json.dumps({"number": i}).encode(),
                    "txt": "Füchse".encode(),
                    "bin": bytes([i]),
                }
                writer.write(Sample(keys[-1], fields))
    return keys
