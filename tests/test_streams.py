"""Streams kept as files: golden ones decode to their pictures, bad ones are refused word by word.

`python -m tests.make_golden --write` makes both kinds anew, and its docstring says when to.
"""

from __future__ import annotations

import json
import zlib
from pathlib import Path

import numpy as np
import pytest

from stfcodec import api, codec, container, imageio
from stfcodec.batch import explain
from stfcodec.entropy import rans, rans_python
from stfcodec.errors import StfError
from stfcodec.models import registry

TESTS = Path(__file__).parent
GOLDEN = json.loads((TESTS / "golden" / "expected.json").read_text("utf-8"))
BAD = json.loads((TESTS / "bad" / "expected.json").read_text("utf-8"))
needs_compiled = pytest.mark.skipif(rans.BACKEND == "python", reason="no compiled coder here")


@pytest.fixture(params=["python", pytest.param("c", marks=needs_compiled)], autouse=True)
def coder(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Either range coder, and the precision that every machine has."""
    monkeypatch.setenv(codec.PRECISION, "float32")
    if request.param == "python":
        monkeypatch.setattr(rans, "backend", rans_python)


@pytest.fixture
def symbols(monkeypatch: pytest.MonkeyPatch) -> list[np.ndarray]:
    """The symbols that a test decodes, in their order."""
    found: list[np.ndarray] = []
    decode = rans.Decoder.decode

    def spy(decoder: rans.Decoder, indexes: np.ndarray) -> np.ndarray:
        found.append(decode(decoder, indexes))
        return found[-1]

    monkeypatch.setattr(rans.Decoder, "decode", spy)
    return found


@pytest.mark.parametrize("name", GOLDEN)
def test_golden(name: str, symbols: list[np.ndarray]) -> None:
    """Symbols, alpha and metadata are exact; floats may move a pixel by one level."""
    expected, data = GOLDEN[name], (TESTS / "golden" / f"{name}.stf").read_bytes()
    model = codec.codec_for(registry.by_name(expected["model"]), 1, "cpu").model
    assert model.fingerprint.hex() == expected["fingerprint"], (
        "the golden files need other weights: run python -m tests.make_golden --write"
    )
    found = api.decode_picture(data, device="cpu")
    crc = zlib.crc32(b"".join(s.astype("<i4").tobytes() for s in symbols))
    assert f"{crc:08x}" == f"{container.read(data).checksum:08x}" == expected["checksum"]
    picture = imageio.read_picture(TESTS / "golden" / f"{name}.png")
    assert np.abs(found.pixels.astype(int) - picture.pixels).max() <= 1
    for field in ("gray", "icc", "exif", "xmp", "iptc"):
        assert getattr(found, field) == getattr(picture, field)
    np.testing.assert_array_equal(found.alpha, picture.alpha)


def test_golden_files_cover_all_pairs() -> None:
    """Every two of model, quality, size and kind meet in some file."""
    choices = [name.rsplit("-", 3) for name in GOLDEN]
    for i, j, pairs in [(0, 1, 6), (0, 2, 6), (0, 3, 8), (1, 2, 9), (1, 3, 12), (2, 3, 12)]:
        assert len({(choice[i], choice[j]) for choice in choices}) == pairs


@pytest.mark.parametrize("name", BAD)
def test_bad(name: str) -> None:
    with pytest.raises(StfError) as caught:
        api.decode((TESTS / "bad" / f"{name}.stf").read_bytes(), device="cpu")
    failure = explain(caught.value)
    assert failure.message == BAD[name]["message"]
    assert failure.exit_code == BAD[name]["exit_code"]


@pytest.mark.parametrize(("folder", "expected"), [("golden", GOLDEN), ("bad", BAD)])
def test_nothing_lies_unused(folder: str, expected: dict) -> None:
    assert {path.stem for path in (TESTS / folder).glob("*.stf")} == set(expected)


def test_files_are_small() -> None:
    assert sum(path.stat().st_size for path in (TESTS / "bad").iterdir()) < 200_000
