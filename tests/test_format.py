"""The container agrees with a second reader, which was written from the format page alone."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path

import pytest
from format_reader import RefusedError, read
from fuzz.mutate import mutated

from stfcodec import container
from stfcodec.errors import StreamError
from stfcodec.limits import Limits

TESTS = Path(__file__).parent
GOLDEN = sorted((TESTS / "golden").glob("*.stf"))
BAD = sorted((TESTS / "bad").glob("*.stf"))
CONTENTS = ("z", "y", "checksum", "icc", "exif", "xmp", "iptc", "alpha")
FACTS = ("width", "height", "channels", "bit_depth", "model_id", "fingerprint", "quality")


def agree(data: bytes) -> bool:
    """Whether the data is accepted, which both readers must say alike, facts and contents too."""
    try:
        found = read(data)
    except RefusedError:
        with pytest.raises(StreamError):
            container.inspect(data)
        return False
    info = container.inspect(data)
    stream = container.read(data, Limits(pixels=1 << 60))
    assert [getattr(info, name) for name in FACTS] == [found[name] for name in FACTS]
    assert [getattr(stream, name) for name in CONTENTS] == [found.get(name) for name in CONTENTS]
    assert [(c.type, c.length, c.crc) for c in info.chunks] == found["chunks"]
    lengths = len(found["z"]), len(found["y"]), len(data)
    assert (info.z_bytes, info.y_bytes, info.total_bytes) == lengths
    assert info.overhead_bytes == lengths[2] - lengths[0] - lengths[1]
    return True


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_golden_files(path: Path) -> None:
    assert agree(path.read_bytes())


@pytest.mark.parametrize("path", BAD, ids=lambda path: path.stem)
def test_bad_files(path: Path) -> None:
    agree(path.read_bytes())


def test_mutations() -> None:
    seeds = [path.read_bytes() for path in GOLDEN]
    rng = random.Random(2022)
    count = Counter(agree(mutated(seeds, rng)) for _ in range(600))
    assert min(count[True], count[False]) > 100  # streams of both kinds are met
