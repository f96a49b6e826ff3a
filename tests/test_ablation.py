"""The attention study: its modules, its codecs, and a small study from photographs to page."""

from __future__ import annotations

import itertools
import json
import math
from pathlib import Path

import numpy as np
import photographs
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

from benchmarks import ROOT
from benchmarks.ablation import page, study
from benchmarks.ablation.__main__ import main
from benchmarks.ablation.attention import NonLocalBlock, Opening, attention_maker
from benchmarks.ablation.initialise import initialise
from benchmarks.ablation.measure import detail, read_log
from benchmarks.ablation.networks import WIDTHS, StudyHyperprior, StudyWacnn, build
from benchmarks.ablation.runs import BASES, all_runs
from stfcodec.errors import UsageError
from stfcodec.models.attention import AttentionModule, WindowAttentionModule
from stfcodec.train.loss import rate_distortion


def test_non_local_block_is_softmax_over_all_positions() -> None:
    torch.manual_seed(0)
    block = NonLocalBlock(8).double()
    x = torch.randn(2, 8, 3, 5, dtype=torch.float64)
    theta, phi, g = (m(x).flatten(2) for m in (block.theta, block.phi, block.g))
    weights = torch.softmax(theta.transpose(1, 2) @ phi, 2)
    expected = x + block.W((g @ weights.transpose(1, 2)).view(2, 4, 3, 5))
    assert torch.allclose(block(x), expected, atol=1e-12)


def test_non_local_attention_reaches_everywhere_and_windows_do_not() -> None:
    x = torch.zeros(1, 16, 32, 32)
    changed = x.clone()
    changed[..., 0, 0] = 1
    for kind, reaches in (("nonlocal", True), ("window", False), ("none", False)):
        torch.manual_seed(1)
        module = attention_maker(kind, WIDTHS)(16, 8)
        if isinstance(module, Opening):
            torch.nn.init.ones_(module.opening)
        with torch.no_grad():
            far = (module(changed) - module(x))[..., 20:, 20:]
        assert bool(far.any()) == reaches, kind


def test_codecs_differ_in_attention_alone() -> None:
    for base in BASES:
        plain = set(build(base, "none").state_dict())
        for kind in ("window", "nonlocal"):
            model = build(base, kind)
            modules = [m for m in model.modules() if isinstance(m, AttentionModule)]
            assert len(modules) == 4
            assert {isinstance(m, WindowAttentionModule) for m in modules} == {kind == "window"}
            own = [n for n, m in model.named_modules() if isinstance(m, AttentionModule)]
            others = {k for k in model.state_dict() if not k.startswith(tuple(own))}
            # The layers keep their numbers: without attention an identity stands in the place.
            assert {k for k in others if not k.endswith(".opening")} == plain


def test_modules_open_from_the_identity() -> None:
    x = torch.randn(1, 16, 16, 16)
    for kind in ("window", "nonlocal"):
        module = attention_maker(kind, WIDTHS)(16, 8)
        assert isinstance(module, Opening)
        with torch.no_grad():
            assert torch.equal(module(x), x)
            module.opening.fill_(0.1)  # a factor of 1
            assert torch.allclose(module(x), module.module(x), atol=1e-6)
            assert not torch.allclose(module(x), x, atol=1e-2)


@pytest.mark.parametrize("base", list(BASES))
def test_all_kinds_start_as_the_same_codec(base: str) -> None:
    torch.manual_seed(0)
    plain = build(base, "none").eval()
    whole = photographs.photographs((256, 384))[0]
    crops = torch.cat([crop for row in whole.split(128, 2) for crop in row.split(128, 3)])
    initialise(plain, crops)
    x = crops[2:4]
    with torch.no_grad():
        bits = []
        for quality in (1.0, 6.0):
            loss = rate_distortion(plain(x, quality), x, torch.full((2,), quality))
            assert -10 * math.log10(loss.mse.mean() / 255**2) > 24
            bits.append(loss.bpp.mean().item())
        assert 0.1 < bits[0] < 0.8 * bits[1] < 4
        for kind in ("window", "nonlocal"):
            model = build(base, kind).eval()
            model.load_state_dict(plain.state_dict(), strict=False)
            assert torch.allclose(model(x, 3.0)["x_hat"], plain(x, 3.0)["x_hat"], atol=1e-5)


@pytest.mark.parametrize("base", list(BASES))
def test_latents_survive_coding_and_their_bits_add_up(base: str) -> None:
    torch.manual_seed(2)
    model = build(base, "window").eval().requires_grad_(False)
    x = photographs.photographs((128, 192))[0]
    initialise(model, x.expand(3, -1, -1, -1))
    model.entropy_bottleneck.fit_quantiles()
    model.update()
    with torch.inference_mode():
        y = model.analysis(x)
        z_symbols, passes = model.symbols_and_passes(y, 2.5)
        assert torch.equal(model.join_passes(passes), y * model.gains(2.5, y)[0])
        coded = model.compress(y, 2.5)
        y_hat = model.decompress(coded, (2, 3), 2.5)
    gain, inverse = model.gains(2.5, y)
    # LRP moves ŷ by half a step at most.
    assert ((y_hat / inverse - y * gain).abs() <= 1.001).all()
    y_bits, z_bits = model.bits_per_position(coded, (2, 3), 2.5)
    assert y_bits.shape == (8, 12) and z_bits.shape == z_symbols.shape[2:]
    assert y_bits.sum() == pytest.approx(8 * len(coded.y), rel=0.01, abs=64)
    assert z_bits.sum() == pytest.approx(8 * len(coded.z), rel=0.01, abs=64)


def test_networks_do_not_see_the_quality() -> None:
    """Means and scales grow with the gain; what predicts them is the same."""
    for model in (StudyWacnn("none"), StudyHyperprior("none")):
        seen: list[tuple[torch.Tensor, torch.Tensor]] = []

        def code(i: int, mean: torch.Tensor, level: torch.Tensor) -> torch.Tensor:
            seen.append((mean, level))  # noqa: B023 - called at once
            return torch.zeros_like(mean)

        model.update()
        model.variable_rate.set(torch.linspace(-1, 1, 6))
        z = torch.round(3 * torch.randn(1, 48, 2, 2))
        with torch.no_grad():
            model.decode_symbols(z, 1.0, code)
            model.decode_symbols(z, 6.0, code)
        (low, _), (high, _) = seen[0], seen[len(seen) // 2]
        assert torch.allclose(high, low * math.exp(2), rtol=1e-4, atol=1e-6)


def test_detail_is_the_spread_within_a_position() -> None:
    pixels = np.full((32, 48, 3), 90, np.uint8)
    pixels[16:, 16:32:2] = 110
    found = detail(pixels)
    assert found.shape == (2, 3) and (found > 0).sum() == 1 and found[1, 1] == pytest.approx(10)


def record(base: str, attention: str, seed: int, factor: float) -> page.Record:
    points = [(0.2, 28.0), (0.4, 30.5), (0.7, 33.0), (1.1, 35.5)]
    return {
        "base": base,
        "attention": attention,
        "seed": seed,
        "points": [
            {"quality": q, "bpp": factor * (1 + 0.1 * seed) * bpp, "psnr": psnr}
            for q, (bpp, psnr) in enumerate(points, 1)
        ],
    }


def test_bd_rates_compare_runs_of_one_seed() -> None:
    records = [record("wacnn", "none", seed, 1.0) for seed in range(3)]
    records += [record("wacnn", "window", seed, 0.9) for seed in (2, 0)]
    assert page.bd_rates(records, "wacnn", "none", "window") == pytest.approx([-10, -10])


def test_losses_are_compared_over_the_same_steps() -> None:
    def run(attention: str, seed: int, steps: int, level: float) -> page.Record:
        # Row means of a loss that falls linearly: `level` times 3 at step 0, 1 at step 200.
        ends = [n for n in (30, 70, 100, 150, 200) if n <= steps]
        middles = [(a + b) / 2 for a, b in itertools.pairwise([0, *ends])]
        loss = [
            (end, level * (3 - middle / 100)) for end, middle in zip(ends, middles, strict=True)
        ]
        found = record("wacnn", attention, seed, 1.0)
        return {**found, "steps": steps, "decay": 0.5, "training_loss": loss}

    records = [run("none", seed, 200, 1 + seed) for seed in range(2)]
    records += [run("window", seed, 100, 1.1 * (1 + seed)) for seed in range(2)]
    assert page.losses_on_same_crops(records, "wacnn", "window") == pytest.approx([10, 10])


def test_steps_that_were_done_again_count_once(tmp_path: Path) -> None:
    rows = [(100, 3.0), (200, 2.0), (100, 2.5), (180, 1.5), (260, 1.0)]
    text = "step,loss\n" + "".join(f"{step},{loss}\n" for step, loss in rows)
    (tmp_path / "log.csv").write_text(text)
    kept = [(int(row["step"]), float(row["loss"])) for row in read_log(tmp_path)]
    assert kept == [(100, 2.5), (180, 1.5), (260, 1.0)]


def test_curves_that_share_no_range_have_no_bd_rate() -> None:
    low, high = record("wacnn", "none", 0, 1.0), record("wacnn", "window", 0, 1.0)
    for point in high["points"]:
        point["psnr"] += 20
    assert page.bd_rates([low, high], "wacnn", "none", "window") == []


def test_page_is_that_of_the_data() -> None:
    """The tables of docs/ablation.md are those that the data beside it gives."""
    stored = json.loads((ROOT / "docs/ablation/runs.json").read_text(encoding="utf-8"))
    text = (ROOT / "docs/ablation.md").read_text(encoding="utf-8")
    runs = stored["runs"]
    assert {(r["base"], r["attention"], r["seed"]) for r in runs} == {
        (run.base, run.attention, run.seed) for run in all_runs(3)
    }
    for lines in page.tables(runs).values():
        assert "\n".join(lines) in text


@pytest.mark.slow
def test_a_small_study(tmp_path: Path) -> None:
    pixels = photographs.crop((512, 768))
    folder = tmp_path / "photographs"
    folder.mkdir()
    for i in range(10):
        Image.fromarray(pixels[:256, 40 * i : 40 * i + 256]).save(folder / f"{i}.png")
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    Image.fromarray(pixels[:130, :200]).save(pictures / "a.png")
    out, docs = tmp_path / "runs", tmp_path / "docs"
    out.mkdir()
    docs.mkdir()
    steps = {run.codec: 1 for run in all_runs(1)}
    budget = {"minutes": 3.5, "device": "cpu", "threads": 1, "steps": steps}
    (out / study.STEPS).write_text(json.dumps(budget))
    marks = "".join(f"<!-- {m} -->\n<!-- /{m} -->\n" for m in page.MARKS)
    (docs / "ablation.md").write_text(marks)
    words = [str(folder), str(pictures), "--out", str(out), "--docs", str(docs), "--seeds", "1"]
    for only in (["--only", "wacnn-none-0"], []):
        done = CliRunner().invoke(main, [*words, *only], catch_exceptions=False)
        assert done.exit_code == 0, done.output
        assert (docs / "ablation" / "runs.json").exists() == (not only)
    records = json.loads((docs / "ablation" / "runs.json").read_text())["runs"]
    assert [r["steps"] for r in records] == [1] * 6
    for found in records:
        assert all(0 < p["bpp"] < 8 and p["psnr"] > 12 for p in found["points"])
        assert 0.1 <= found["share_of_most_detail"] <= found["share_of_most_bits"] <= 1
    assert "mean-scale hyperprior" in (docs / "ablation.md").read_text()
    for name in ("curves.png", "heat.png"):
        with Image.open(docs / "ablation" / name) as image:
            assert image.width > 400
    failed = CliRunner().invoke(main, [*words, "--only", "wacnn-none-7"])
    assert failed.exit_code == 2 and "wacnn-none-7" in failed.output
    other = CliRunner().invoke(main, [*words, "--minutes", "6"])
    assert isinstance(other.exception, UsageError) and "minutes" in str(other.exception)
