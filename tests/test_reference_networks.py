"""The benchmark's reference implementation and its untrained models, on small models."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from photographs import photo

from benchmarks import compressai_coder, untrained_models
from benchmarks.reference_networks import ReferenceCodec
from stfcodec.models.coding import CodedLatents
from stfcodec.models.registry import EntropyWidths, ModelInfo, StfWidths, WacnnWidths
from stfcodec.models.stf import STF
from stfcodec.models.wacnn import WACNN

ENTROPY = EntropyWidths(
    slices=3,
    support=2,
    h_a=(24, 24, 24, 16, 16, 16),
    h_s=(16, 16, 16, 24, 24, 24),
    context=(16,) * 4,
)
SMALL = {
    "wacnn": WacnnWidths((16, 16, 16, 24), heads=4, units=3, entropy=ENTROPY),
    "stf": StfWidths(
        (12, 12, 24, 24), (2, 2, 2, 2), (3, 3, 6, 6), mlp_ratio=4.0, end_width=12, entropy=ENTROPY
    ),
}


@pytest.fixture(scope="module", params=SMALL)
def info(request: pytest.FixtureRequest) -> ModelInfo:
    """A model of the published architecture, in small."""
    family = request.param
    return ModelInfo(family, 99, family, SMALL[family], variable_rate=False, parameters=0)


@pytest.mark.skipif(compressai_coder.load() is None, reason="needs compressai's compiled coder")
def test_reference_implementation_makes_the_models_strings_and_pictures(info: ModelInfo) -> None:
    picture = photo(128)
    model = untrained_models.stand_in(info, picture)
    model.integer = None  # as published: everything in float
    reference = ReferenceCodec(model, info.widths)
    strings = reference.encode(picture)
    x = torch.tensor(picture).permute(2, 0, 1)[None].float() / 255
    with torch.inference_mode():
        y = model.analysis(x)
        torch.testing.assert_close(reference.analysis(x), y, rtol=1e-3, atol=1e-3)
        coded = model.compress(reference.analysis(x).clone())
        assert (strings.z, strings.y) == (coded.z, coded.y)
        y_hat = model.decompress(CodedLatents(coded.z, coded.y, coded.checksum), (2, 2))
        x_hat = model.synthesis(y_hat).clamp(0, 1)
    expected = x_hat[0].mul(255).round().byte().permute(1, 2, 0).numpy()
    difference = np.abs(reference.decode(strings).astype(int) - expected)
    # Weights at random amplify the last bits that another order of sums changes.
    assert difference.max() <= 8 and difference.mean() < 0.05


def test_stand_in_spreads_its_latents(info: ModelInfo) -> None:
    picture = photo(128)
    model = untrained_models.stand_in(info, picture)
    assert isinstance(model, WACNN | STF)
    with torch.inference_mode():
        y = model.analysis(torch.tensor(picture).permute(2, 0, 1)[None].float() / 255)
        bits = 8 * len(model.compress(y).y)
    spread = y.std((0, 2, 3))
    assert spread[0] == pytest.approx(16, rel=0.3)
    assert spread[12] == pytest.approx(16 * 0.893**12, rel=0.3)
    # As Gaussians of that spread: the entropy model knows means and scales.
    ideal = torch.log2(spread * 4.13).sum() * y[0, 0].numel()
    assert bits < 1.5 * ideal
