"""The integer form computes the same integers in every environment, and so does a file of it.

The tests use a small model in the published layout; test_lite.py covers the lite models.
"""

from __future__ import annotations

import copy
import dataclasses
import hashlib
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from integer_trace import BACKENDS, every_backend, hyper_symbols, random_symbols, trace
from photographs import crop
from PIL import Image
from small import SMALL
from torch import Tensor, nn

import stfcodec
from benchmarks import crosscheck
from stfcodec import container
from stfcodec.codec import Codec, codec_for
from stfcodec.imageio import read_picture
from stfcodec.models import integer_entropy, integer_layers, weights
from stfcodec.models.base import CompressionModel
from stfcodec.models.integer_backends import Backend
from stfcodec.models.integer_entropy import REPLACED_NETWORKS

INFO = SMALL


@pytest.fixture(scope="module")
def path(model: CompressionModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("exact") / "wacnn-small.safetensors"
    weights.save(copy.deepcopy(model), path)
    return path


@every_backend
def test_threads_and_layout_do_not_matter(
    model: CompressionModel, latents: Tensor, backend: Backend
) -> None:
    """One stream is decoded in every way, and its bytes are made in every way from z."""
    other = copy.deepcopy(model)
    other.integer.prepare(backend)
    coded, before = model.compress(latents, 4.0), torch.get_num_threads()
    expected = model.decompress(coded, (3, 4), 4.0)
    z = hyper_symbols(model, latents)
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            assert torch.equal(other.decompress(coded, (3, 4), 4.0), expected)
            other.h_a = Stored(z)  # h_a is float: its rounding may differ
            for layout in (torch.contiguous_format, torch.channels_last):
                assert other.compress(latents.contiguous(memory_format=layout), 4.0) == coded
    finally:
        torch.set_num_threads(before)


class Stored(nn.Module):
    def __init__(self, value: Tensor) -> None:
        super().__init__()
        self.value = value

    def forward(self, _: Tensor) -> Tensor:
        return self.value


@every_backend
def test_onednn_does_not_matter(model: CompressionModel, latents: Tensor, backend: Backend) -> None:
    """Compared is what the decoder computes: h_a is a float network of the encoder."""
    form = copy.deepcopy(model.integer).prepare(backend)
    z, symbols = hyper_symbols(model, latents), random_symbols(model, latents.shape)
    expected = trace(model.integer, z, symbols)
    with torch.backends.mkldnn.flags(enabled=False):
        found = trace(form, z, symbols)
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


@every_backend
def test_large_maps_take_the_same_sums_in_turns(
    model: CompressionModel, backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Small strips, and deferred sums of first layers, as for pictures of many megapixels."""
    form = copy.deepcopy(model.integer).prepare(backend)
    z = torch.randint(-9, 10, (1, 96, 4, 3), generator=torch.Generator().manual_seed(1)).float()
    symbols = random_symbols(model, (1, 224, 16, 12))
    expected = trace(model.integer, z, symbols)
    monkeypatch.setattr(integer_layers, "STRIP", 40)
    monkeypatch.setattr(integer_entropy, "LARGE_MAP", 0)
    found = trace(form, z, symbols)
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


@every_backend
@pytest.mark.parametrize("size", [(1, 1), (1, 3), (5, 1), (4, 2)])
def test_place_in_a_batch_does_not_matter(
    model: CompressionModel, backend: Backend, size: tuple[int, int]
) -> None:
    form = copy.deepcopy(model.integer).prepare(backend)
    generator = torch.Generator().manual_seed(1)
    z = torch.randint(-9, 10, (4, 96, *size), generator=generator).float()
    symbols = random_symbols(model, (4, 224, 4 * size[0], 4 * size[1]))
    together = trace(form, z, symbols)
    for i in range(4):
        alone = trace(model.integer, z[i : i + 1], symbols[i : i + 1])
        assert all(torch.equal(a[i : i + 1], b) for a, b in zip(together, alone, strict=True))


CODE = """
import hashlib, sys, torch
from pathlib import Path
from small import SMALL
from stfcodec.models import weights
model = weights.load(SMALL, Path(sys.argv[1]))
data = torch.load(sys.argv[2], weights_only=True)
seen = []
def code(i, mean, level):
    seen.extend((mean, level))
    return data["symbols"].chunk(model.slices, 1)[i]
seen.append(model.integer.decode_slices(data["z"], code))
seen = [t.contiguous().numpy().tobytes() for t in seen]
print(hashlib.sha256(b"".join(seen)).hexdigest())
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    "environment",
    [
        {"ATEN_CPU_CAPABILITY": "default"},
        {"ATEN_CPU_CAPABILITY": "avx2"},
        {"ONEDNN_MAX_CPU_ISA": "AVX2"},
        {"ONEDNN_MAX_CPU_ISA": "SSE41", "ATEN_CPU_CAPABILITY": "default"},
    ],
    ids=lambda e: ",".join(f"{k}={v}" for k, v in e.items()),
)
def test_instruction_set_does_not_matter(
    environment: dict[str, str], path: Path, model: CompressionModel, tmp_path: Path
) -> None:
    z = torch.randint(-9, 10, (1, 96, 3, 4), generator=torch.Generator().manual_seed(1)).float()
    symbols = random_symbols(model, (1, 224, 12, 16))
    torch.save({"z": z, "symbols": symbols}, tmp_path / "data.pt")
    done = subprocess.run(
        [sys.executable, "-c", CODE, str(path), str(tmp_path / "data.pt")],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | environment | {"PYTHONPATH": str(Path(__file__).parent)},
        cwd=Path(stfcodec.__file__).parents[1],
    )
    ours = trace(model.integer, z, symbols)
    expected = hashlib.sha256(b"".join(t.contiguous().numpy().tobytes() for t in ours)).hexdigest()
    assert done.stdout.strip() == expected


def test_autocast_does_not_matter(model: CompressionModel, latents: Tensor) -> None:
    """The calling program may have enabled it; its streams must decode without it."""
    z, symbols = hyper_symbols(model, latents), random_symbols(model, latents.shape)
    expected = trace(model.integer, z, symbols)
    for backend in BACKENDS.values():
        form = copy.deepcopy(model.integer).prepare(backend)
        with torch.autocast("cpu", torch.bfloat16):
            found = trace(form, z, symbols)
        assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


def test_tiles_do_not_matter(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the transforms run in tiles: ŷ is the same with tiles and without."""
    picture = read_picture(crop((192, 320)))
    whole = codec_for(INFO, 4.0, "cpu", path)
    tiled = dataclasses.replace(whole, core=64)
    seen: list[Tensor] = []
    synthesis = Codec.synthesis

    def spy(codec: Codec, y_hat: Tensor, *arguments: Any) -> Tensor:
        seen.append(y_hat)
        return synthesis(codec, y_hat, *arguments)

    monkeypatch.setattr(Codec, "synthesis", spy)
    stream = whole.encode(picture, 4.0)
    whole.decode(stream)
    tiled.decode(stream)
    assert torch.equal(*seen)
    # Tiles may round g_a's outputs differently: another stream, equally readable.
    whole.decode(tiled.encode(picture, 4.0))


@pytest.mark.slow
def test_every_environment_by_one_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """benchmarks.crosscheck on a crop, in two of its environments; it must also be able to fail."""
    Image.fromarray(crop((64, 128))).save(tmp_path / "a.png")
    folder, run = tmp_path / "streams", CliRunner()
    few = [e for e in crosscheck.ENVIRONMENTS if e.variables][-2:]
    monkeypatch.setattr(crosscheck, "ENVIRONMENTS", few)
    arguments = ["run", str(tmp_path / "a.png"), "--folder", str(folder), "--random-pictures", "0"]
    done = run.invoke(crosscheck.main, arguments)
    assert done.exit_code == 0, done.output
    assert done.output.count("12 of 12 right") == 2
    assert "equal in all 2 environments" in done.output
    verify = ["verify", str(folder), "--batch", "4", "--channels-last"]
    assert "12 of 12 right" in run.invoke(crosscheck.main, verify).output
    path = folder / "wacnn-lite-q3-00.stf"
    stream = container.read(path.read_bytes())
    path.write_bytes(container.write(dataclasses.replace(stream, checksum=stream.checksum ^ 1)))
    done = run.invoke(crosscheck.main, verify)
    assert done.exit_code == 1
    assert "11 of 12 right" in done.output


def test_file_brings_all_that_coding_needs(
    model: CompressionModel, path: Path, latents: Tensor
) -> None:
    loaded = weights.load(INFO, path)
    for key, buffer in model.integer.state_dict().items():
        assert torch.equal(loaded.integer.state_dict()[key], buffer), key
    z, symbols = hyper_symbols(model, latents), random_symbols(model, latents.shape)
    for a, b in zip(
        trace(loaded.integer, z, symbols), trace(model.integer, z, symbols), strict=True
    ):
        assert torch.equal(a, b)
    assert path.stat().st_size < 25e6
    # The float networks get the weights that the integer form stands for.
    for name in REPLACED_NETWORKS:
        pairs = zip(
            loaded.get_submodule(name).parameters(),
            model.get_submodule(name).parameters(),
            strict=True,
        )
        for p, q in pairs:
            assert (p - q).square().mean() < 0.03 * q.square().mean() + 1e-9
