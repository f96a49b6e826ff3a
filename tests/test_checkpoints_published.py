"""Checkpoints at paper size, in the layouts of the authors and of others, from file to picture.

Without the golden recordings these tests are skipped.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from checkpoint_files import layouts
from commands import Command
from photographs import crop
from PIL import Image
from published import FAMILIES, UPSTREAM, golden, needs_recordings, published_state
from torch import Tensor

from stfcodec.checkpoints import samples
from stfcodec.checkpoints.recognise import recognise_model, recognise_quality
from stfcodec.models import locate, registry, weights
from stfcodec.models.base import CompressionModel
from stfcodec.models.coding import symbols_of
from stfcodec.models.state_dicts import read_state_file

pytestmark = [needs_recordings, pytest.mark.slow]
NAMES = {"wacnn": ("cnn_0130_best.pth.tar", 4), "stf": ("stf_0483_best.pth.tar", 6)}
"""Names of files as the authors chose them, and the quality that they tell."""

FINGERPRINTS = {"wacnn": "8fe334ab", "stf": "dc920095"}
"""Of the golden parameters, imported with the first three sample pictures. They never change: files
that were coded with an imported checkpoint need whoever imports it later to get the same one."""


@pytest.fixture(scope="module", params=FAMILIES)
def arch(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def state(arch: str) -> dict[str, Tensor]:
    return published_state(arch)


def recorded(arch: str) -> dict[str, np.ndarray]:
    """The golden values of case C, the one that codes alike on every machine."""
    every = dict(np.load(UPSTREAM / f"golden_{arch}.npz"))
    return {key.removeprefix("caseC/"): value for key, value in every.items() if "caseC/" in key}


def latents(arch: str, model: CompressionModel) -> Tensor:
    height, width, _ = golden().CASES["C"]
    x = golden().center_pad(golden().test_image(height, width, golden().C_SALT[arch]))[0]
    return model.analysis(x)


def test_every_layout_codes_to_the_golden_strings(
    arch: str, state: dict[str, Tensor], tmp_path: Path
) -> None:
    name, quality = NAMES[arch]
    info, path = registry.by_name(arch), tmp_path / name
    expected = recorded(arch)
    for layout, saved in layouts(state):
        torch.save(saved, path)
        file = read_state_file(path)
        path.unlink()
        assert recognise_model(file.tensors, path) is info, layout
        assert recognise_quality(file, path, info, None) == quality
        model = weights.load_state(info, file.tensors, path)
        with torch.inference_mode():
            coded = model.compress(latents(arch, model))
        assert coded.z == expected["str_z"].tobytes(), layout
        assert coded.y == expected["str_y"].tobytes(), layout


def test_import_encode_and_decode_a_photograph(
    arch: str,
    state: dict[str, Tensor],
    stf: Command,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The commands alone, from the authors' file to a decoded picture."""
    monkeypatch.setenv(locate.ENVIRONMENT, str(tmp_path / "installed"))
    few, one = samples.calibration_batches()[:3], samples.measured_pictures()[:1]
    monkeypatch.setattr(samples, "calibration_batches", lambda: few)
    monkeypatch.setattr(samples, "measured_pictures", lambda: one)
    name, quality = NAMES[arch]
    torch.save({"epoch": 1, "state_dict": state}, tmp_path / name)
    done = stf("weights", "import", tmp_path / name)
    assert done.code == 0, done.err
    assert f"{arch}, λ {registry.lambda_from_quality(quality):g} (quality {quality})" in done.err
    (installed,) = (tmp_path / "installed").iterdir()
    assert installed.name == f"{arch}-q{quality}-{FINGERPRINTS[arch]}.safetensors"

    source, coded, back = (tmp_path / n for n in ("a.png", "a.stf", "back.png"))
    Image.fromarray(crop((200, 300))).save(source)
    options = ("-m", arch, "-q", quality, "--verify")
    assert stf("encode", source, "-o", coded, *options).code == 0
    assert stf("decode", coded, "-o", back).code == 0
    with Image.open(back) as image:
        decoded = np.asarray(image).astype(int)
    info = registry.by_name(arch)
    floating = weights.load_state(info, dict(state), tmp_path / name)
    difference = decoded - published_picture(floating, crop((200, 300)))
    assert np.sqrt((difference**2).mean()) < 8  # a few symbols differ by one
    check_symbols(arch, weights.load(info, installed))


@torch.inference_mode()
def published_picture(model: CompressionModel, pixels: np.ndarray) -> np.ndarray:
    """What the float networks make of a picture, padded as the codec pads it."""
    height, width = pixels.shape[:2]
    padded = np.pad(pixels, ((0, -height % 64), (0, -width % 64), (0, 0)), mode="edge")
    x = torch.from_numpy(padded).permute(2, 0, 1)[None].float() / 255
    x_hat = model(x)["x_hat"].clamp(0, 1)[0, :, :height, :width]
    return x_hat.mul(255).round().permute(1, 2, 0).int().numpy()


@torch.inference_mode()
def check_symbols(arch: str, model: CompressionModel) -> None:
    """The integers code nearly the golden symbols. What differs, differs by one."""
    expected = recorded(arch)
    z, passes = model.symbols_and_passes(latents(arch, model), 1.0)
    symbols: list[Tensor] = []

    def code(i: int, mean: Tensor, level: Tensor) -> Tensor:
        symbols.append(symbols_of(passes[i] - mean).flatten())
        return symbols[-1].view_as(mean).float()

    model.decode_symbols(z.float(), 1.0, code)
    for found, name, equal in ((torch.cat(symbols), "y", 0.95), (z.flatten(), "z", 0.99)):
        difference = np.abs(found.numpy() - expected[f"{name}_symbols"].ravel())
        assert difference.max() <= 1
        assert (difference == 0).mean() > equal
