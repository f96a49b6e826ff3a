"""The paper-size networks are the published ones: names, shapes, values, symbols and bytes.

Without the reference recordings (see published.py) these tests are skipped.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import torch
from published import FAMILIES, UPSTREAM, golden, needs_recordings, published_keys

from stfcodec.entropy import rans
from stfcodec.errors import StreamError
from stfcodec.models import registry
from stfcodec.models.base import CompressionModel
from stfcodec.models.build import build
from stfcodec.models.calibrate import quantise
from stfcodec.models.coding import CodedLatents

pytestmark = needs_recordings


@cache
def filled(arch: str, low_gamma: bool = False) -> CompressionModel:
    model = build(registry.by_name(arch)).eval()
    shapes = {k: tuple(v.shape) for k, v in model.state_dict().items()}
    model.load_state_dict(golden().fill_state_dict(shapes, low_gamma=low_gamma))
    model.update()
    return model


@pytest.mark.parametrize("arch", FAMILIES)
def test_state_dict_equals_the_published_one(arch: str) -> None:
    state = build(registry.by_name(arch)).state_dict()
    published = {k["key"]: (k["shape"], k["dtype"]) for k in published_keys(arch)}
    ours = {k: (list(v.shape), str(v.dtype).removeprefix("torch.")) for k, v in state.items()}
    assert ours == published
    for entry in published_keys(arch):
        if "value" in entry:
            assert state[entry["key"]].flatten().tolist() == pytest.approx(
                np.ravel(entry["value"]).tolist(), rel=1e-6
            )


@pytest.mark.parametrize("arch", FAMILIES)
def test_parameter_count(arch: str) -> None:
    info = registry.by_name(arch)
    assert sum(p.numel() for p in build(info).parameters()) == info.parameters


@pytest.mark.slow
@pytest.mark.parametrize("arch", FAMILIES)
def test_golden_values(arch: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Float values within golden.compare's tolerance; strings and symbols exactly."""
    model = filled(arch)
    coded_symbols: list[tuple[np.ndarray, np.ndarray]] = []
    add = rans.Encoder.add

    def spy(encoder: rans.Encoder, symbols: np.ndarray, indexes: np.ndarray) -> None:
        coded_symbols.append((symbols, indexes))
        add(encoder, symbols, indexes)

    monkeypatch.setattr(rans.Encoder, "add", spy)

    def compress(x: torch.Tensor) -> dict:
        coded = model.compress(model.analysis(x))
        shape = (x.shape[2] // 64, x.shape[3] // 64)
        checksums[coded.y] = coded.checksum
        return {"strings": [[coded.y], [coded.z]], "shape": shape}

    def decompress(strings: list, shape: tuple[int, int]) -> dict:
        y, z = strings[0][0], strings[1][0]
        y_hat = model.decompress(CodedLatents(z, y, checksums[y]), shape)
        return {"x_hat": model.synthesis(y_hat).clamp(0, 1)}

    def symbols(x: torch.Tensor) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        coded_symbols.clear()
        model.compress(model.analysis(x))
        (z, _), *slices = coded_symbols
        y, indexes = (np.concatenate(arrays) for arrays in zip(*slices, strict=True))
        side = x.shape[2] // 16, x.shape[3] // 16
        shape = (1, -1, *side)
        z_shape = (1, -1, side[0] // 4, side[1] // 4)
        return y.reshape(shape), indexes.reshape(shape), z.reshape(z_shape)

    def fresh(**fill: bool) -> tuple:
        other = filled(arch, **fill)
        return other.analysis, other.synthesis

    checksums: dict[bytes, int] = {}
    recording = golden().record(
        {
            "analysis": model.analysis,
            "synthesis": model.synthesis,
            "h_a": model.h_a,
            "h_mean_s": model.h_mean_s,
            "h_scale_s": model.h_scale_s,
            "cc_mean": model.cc_mean_transforms,
            "cc_scale": model.cc_scale_transforms,
            "lrp": model.lrp_transforms,
            "forward": model.forward,
            "compress": compress,
            "decompress": decompress,
            "symbols": symbols,
            "fresh": fresh,
        },
        arch,
    )
    reference = dict(np.load(UPSTREAM / f"golden_{arch}.npz"))
    for key, value in list(recording.items()):
        if key in reference and value.size == reference[key].size:
            recording[key] = value.reshape(reference[key].shape)
    rows = golden().compare(reference, recording)
    # Cases A and B have latents so near a rounding boundary that another CPU's last bit moves
    # them; only the whole model of case C and the stages must agree everywhere.
    failed = [row for row in rows if not row[5]]
    fragile = [row for row in failed if row[0].startswith(("caseA/", "caseB/"))]
    assert [row for row in failed if row not in fragile] == []
    assert {row[0] for row in rows} >= {"caseC/str_y", "caseC/str_z", "caseC/y_symbols"}
    if fragile:
        assert abs(recording["caseA/bits"] / reference["caseA/bits"] - 1).max() < 1e-2


@pytest.mark.slow
@pytest.mark.parametrize("arch", FAMILIES)
def test_float_decoder_fails_on_another_backend_and_integers_do_not(arch: str) -> None:
    """The published path, encoded with oneDNN and decoded without: other means, other indexes.

    How badly that ends depends on the picture. Each form codes the same golden picture.
    """
    model = filled(arch)
    height, width, salt = golden().CASES["A"]
    x = golden().center_pad(golden().test_image(height, width, salt))[0]
    with torch.inference_mode():
        y = model.analysis(x)
    size = y.shape[2] // 4, y.shape[3] // 4

    def differs() -> bool:
        coded = model.compress(y)
        expected = model.decompress(coded, size)
        with torch.backends.mkldnn.flags(enabled=False):
            try:
                return not torch.equal(model.decompress(coded, size), expected)
            except StreamError:
                return True

    try:
        assert differs()
        model.integer = quantise(model, [x])
        assert not differs()
    finally:
        model.integer = None
