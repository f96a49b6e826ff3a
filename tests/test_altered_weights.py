"""The embedded weights with altered tensors: refused by name, or other weights by fingerprint."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save

import stfcodec
from stfcodec import container
from stfcodec.codec import codec_for
from stfcodec.errors import WeightsError
from stfcodec.imageio import Picture
from stfcodec.models import locate, registry, weights

LITE = registry.by_name("stf-lite")


@pytest.fixture(scope="module")
def embedded() -> dict[str, torch.Tensor]:
    return load_file(locate.find(LITE, 1))


def written(state: dict[str, torch.Tensor], path: Path) -> Path:
    path.write_bytes(save(state, {locate.FINGERPRINT: weights.fingerprint(state).hex()}))
    return path


def assert_refused(state: dict[str, torch.Tensor], folder: Path, match: str) -> None:
    """A file with these tensors does not load; the error says `match`."""
    path = written(state, folder / "stf-lite.safetensors")
    with pytest.raises(WeightsError, match=match):
        weights.load(LITE, path)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("log_gain", torch.nan),
        ("g_s.linear.weight", torch.inf),
        ("integer.first.multiplier", torch.nan),
        ("entropy_bottleneck.quantiles", -torch.inf),
    ],
)
def test_values_that_are_not_finite_are_refused(
    name: str, value: float, embedded: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    broken = embedded[name].clone()
    broken.view(-1)[3] = value
    assert_refused(
        embedded | {name: broken}, tmp_path, rf"damaged weights file \({name} is not finite"
    )


@pytest.mark.parametrize(
    ("prior", "what"), [("gaussian_conditional", "y"), ("entropy_bottleneck", "z")]
)
def test_too_few_coding_tables_are_refused(
    prior: str, what: str, embedded: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    names = [f"{prior}.{n}" for n in ("_quantized_cdf", "_cdf_length", "_offset")]
    cut = {name: embedded[name][:-1].contiguous() for name in names}
    assert_refused(embedded | cut, tmp_path, rf"\d+ coding tables of {what}, not \d+")


def test_coding_tables_that_do_not_rise_are_refused(
    embedded: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    name = "gaussian_conditional._quantized_cdf"
    broken = embedded[name].clone()
    broken[5, 1], broken[5, 2] = broken[5, 2].clone(), broken[5, 1].clone()
    assert_refused(embedded | {name: broken}, tmp_path, "does not rise strictly")


def test_sums_that_could_be_inexact_are_refused(
    embedded: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    name = "integer.first.bias"
    assert_refused(
        embedded | {name: embedded[name] | 1 << 30},
        tmp_path,
        r"stf-lite\.safetensors: damaged.*not be exact",
    )


def test_a_file_replaced_meanwhile_is_read_anew(
    embedded: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    """And what was read before does not lie in it."""
    path = written(embedded, tmp_path / "stf-lite.safetensors")
    pixels = np.full((64, 64, 3), 77, np.uint8)
    before = stfcodec.encode(pixels, model="stf-lite", weights=path, quality=3)
    codec = codec_for(LITE, 3, path=path)
    os.truncate(path, 1000)  # a mapped file would end the process with SIGBUS
    assert len(container.write(codec.encode(Picture(pixels), 3))) == len(before)
    with pytest.raises(WeightsError, match="damaged weights file"):
        stfcodec.encode(pixels, model="stf-lite", weights=path)
    doubled = embedded | {"log_gain": embedded["log_gain"] + 0.5}
    written(doubled, path)
    after = stfcodec.encode(pixels, model="stf-lite", weights=path, quality=3)
    assert stfcodec.info(after).fingerprint != stfcodec.info(before).fingerprint


def test_the_fingerprint_is_of_what_decoding_needs(
    embedded: dict[str, torch.Tensor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Streams decode alike with any analysis transform; any other change is told apart."""
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    data = stfcodec.encode(pixels, model="stf-lite")
    wanted = stfcodec.decode(data).tobytes()
    encoder_only = {
        name: torch.randn_like(t.float()).to(t.dtype)
        for name, t in embedded.items()
        if weights._ENCODER_ONLY.match(name)
    }
    assert len(encoder_only) > 60
    other = written(embedded | encoder_only, tmp_path / "other.safetensors")
    assert stfcodec.decode(data, weights=other).tobytes() == wanted
    rest = [name for name in embedded if name not in encoder_only]
    found = {weights.fingerprint(embedded)}
    for name in rest[:: len(rest) // 12]:
        changed = embedded[name].clone()
        changed.view(-1)[0] += 1
        found.add(weights.fingerprint(embedded | {name: changed}))
    assert len(found) >= 13


def test_streams_find_their_weights_by_fingerprint(
    embedded: dict[str, torch.Tensor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the file is called, in any folder of weights."""
    other = embedded | {"log_gain": embedded["log_gain"] + 0.25}
    path = written(other, tmp_path / "stf-lite of last year.safetensors")
    data = stfcodec.encode(np.zeros((8, 8, 3), np.uint8), model="stf-lite", weights=path)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    digits = weights.fingerprint(other).hex()
    with pytest.raises(
        WeightsError, match=rf"needs weights {digits} \(of no release\) of stf-lite"
    ):
        stfcodec.decode(data)
    monkeypatch.setenv(locate.ENVIRONMENT, str(tmp_path))
    assert stfcodec.decode(data).size == (8, 8)


@pytest.mark.parametrize("dtype", [torch.int32, torch.bool, torch.float64, torch.complex64])
def test_parameters_of_other_types_are_refused(
    dtype: torch.dtype, embedded: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    name = "g_s.last.weight"
    altered = embedded | {name: embedded[name].to(dtype)}
    try:
        written(altered, tmp_path / "trial.safetensors")
    except KeyError:
        pytest.skip(f"this safetensors has no {dtype}")
    assert_refused(altered, tmp_path, f"{name} is {dtype}")


def test_parameters_in_bfloat16_are_weights(
    embedded: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    name = "g_s.last.weight"
    path = written(embedded | {name: embedded[name].bfloat16()}, tmp_path / "stf-lite.safetensors")
    assert weights.load(LITE, path).fingerprint != weights.fingerprint(embedded)


@pytest.mark.parametrize("name", ["log_gain", "log_inverse", "log_spread", "g_a.log_spread"])
def test_absurd_scales_are_refused(
    name: str, embedded: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    assert_refused(
        embedded | {name: embedded[name] * 0 + 6e4}, tmp_path, f"{name} is beyond all scale"
    )


@pytest.mark.parametrize("prior", ["gaussian_conditional", "entropy_bottleneck"])
@pytest.mark.parametrize("empty", [True, False])
def test_missing_coding_tables_are_not_made_anew(
    prior: str, empty: bool, embedded: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    """Those that the stored parameters give could be others than the encoder's."""
    name = f"{prior}._quantized_cdf"
    state = {k: v for k, v in embedded.items() if k != name}
    if empty:
        state[name] = torch.empty((0, 0), dtype=torch.int32)
    assert_refused(state, tmp_path, f"{name} is missing")


def test_a_bad_file_does_not_hide_the_right_one(
    embedded: dict[str, torch.Tensor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = embedded | {"log_gain": embedded["log_gain"] + 0.125}
    right = written(other, tmp_path / "z.safetensors")
    data = stfcodec.encode(np.zeros((8, 8, 3), np.uint8), model="stf-lite", weights=right)
    (tmp_path / "a.safetensors").write_bytes(right.read_bytes()[:-5000])
    liar = save(embedded, {locate.FINGERPRINT: weights.fingerprint(other).hex()})
    (tmp_path / "b.safetensors").write_bytes(liar)
    monkeypatch.setenv(locate.ENVIRONMENT, str(tmp_path))
    assert stfcodec.decode(data).size == (8, 8)
    right.unlink()
    with pytest.raises(WeightsError, match=r"needs weights|damaged"):
        stfcodec.decode(data)
