"""What `benchmarks.complexity` counts: by hand, in sum, and in the tables of docs/models.md."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import ROOT, complexity, complexity_tables
from benchmarks.complexity_tables import blocks_of_the_page, layers_table
from benchmarks.layer_costs import PARTS, ModelCosts, measure, part_of
from stfcodec.models import registry
from stfcodec.models.build import build

PAGE = ROOT / "docs" / "models.md"
OF_OTHERS = {"results"}
"""Blocks of the page that `benchmarks.results` writes."""
DRAWINGS = {
    "model-wacnn.svg": ("wacnn",),
    "model-stf.svg": ("stf",),
    "model-lite.svg": ("wacnn-lite", "stf-lite"),
}
every_model = pytest.mark.parametrize("name", [info.name for info in registry.MODELS])


@cache
def costs(name: str) -> ModelCosts:
    return measure(registry.by_name(name))


def row(name: str, part: str, label: str) -> tuple[tuple[int, int, int], int, int]:
    """Output, parameters and multiply-accumulates of the first such layer."""
    found = next(x for x in costs(name).layers if (x.part, x.label) == (part, label))
    return found.output, found.parameters, found.macs


def test_layers_equal_a_count_by_hand() -> None:
    half, eighth = 256 * 384, 64 * 96
    convolution = 5 * 5 * 3 * 192
    assert row("wacnn", "g_a", "5×5 convolution, stride 2") == (
        (192, 256, 384), convolution + 192, convolution * half
    )  # fmt: skip
    # A position of the input reaches 5×5 outputs.
    transposed = 5 * 5 * 320 * 192
    assert row("wacnn", "g_s", "5×5 transposed convolution, stride 2") == (
        (192, 64, 96), transposed + 192, transposed * 32 * 48
    )  # fmt: skip
    # Query, key, value and projection; two products with the 16 positions of a window; MLP.
    dim, tokens, heads = 48, 4 * 4, 3
    weights = 4 * dim**2 + 2 * 4 * dim**2
    others = 4 * dim + (2 * 4 - 1) ** 2 * heads + 2 * 2 * dim + 4 * dim + dim
    assert row("stf", "g_a", "Swin block 4×4, 3 heads") == (
        (dim, 256, 384), weights + others, (weights + 2 * tokens * dim) * half
    )  # fmt: skip
    assert row("stf-lite", "g_a", "1×1 convolution") == (
        (160, 64, 96), 192 * 160 + 160, 192 * 160 * eighth
    )  # fmt: skip


@every_model
def test_parts_add_up_to_the_model(name: str) -> None:
    found = costs(name)
    assert found.parameters.total() == found.info.parameters
    assert sum(layer.macs for layer in found.layers) == found.total_macs
    assert found.kmac(*PARTS) == pytest.approx(found.total_macs / found.pixels / 1e3)
    for part in PARTS:
        assert found.attention_macs[part] <= found.kmac(part) * found.pixels * 1e3


@pytest.mark.parametrize("name", ["wacnn-lite", pytest.param("stf", marks=pytest.mark.slow)])
def test_the_sum_is_what_computing_counts(name: str) -> None:
    """With real tensors and another size: attention in windows costs the same for each pixel."""
    model = build(registry.by_name(name)).eval()
    x = torch.rand(1, 3, 64, 128)
    with FlopCounterMode(display=False) as counter:
        y = model.analysis(x)
        model.hyper_analysis(y)
        z = torch.zeros(1, costs(name).tensors["z"][0], 1, 2)
        model.synthesis(model.decode_symbols(z, 3.0, lambda _, mean, level: mean))
    per_pixel = counter.get_total_flops() / 2 / (64 * 128)
    assert per_pixel == pytest.approx(costs(name).total_macs / costs(name).pixels)


def test_a_part_that_nobody_listed_is_an_error() -> None:
    assert part_of("means.hyper.0.weight") == "h_s for means"
    assert part_of("means.first.weight") == "means"
    with pytest.raises(ValueError, match="g_b belongs to no part"):
        part_of("g_b")


def test_page_has_the_tables(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """`--write` fills emptied blocks with what the page has."""
    monkeypatch.setattr(complexity_tables, "measure", lambda info: costs(info.name))
    text = PAGE.read_text(encoding="utf-8")
    ours = set(blocks_of_the_page())
    assert set(re.findall(r"<!-- /(.+) -->", text)) == ours | OF_OTHERS
    copy = tmp_path / PAGE.name
    marks = "|".join(map(re.escape, ours))
    emptied = re.sub(rf"(<!-- ({marks}) -->\n).*?(<!-- /\2 -->)", r"\1\3", text, flags=re.DOTALL)
    copy.write_text(emptied, encoding="utf-8")
    monkeypatch.setattr(complexity, "_PAGE", copy)
    result = CliRunner().invoke(complexity.main, ["--write"], catch_exceptions=False)
    assert result.exit_code == 0
    assert copy.read_text(encoding="utf-8") == text, "python -m benchmarks.complexity --write"
    assert emptied != text


@every_model
def test_prose_has_the_rounded_numbers(name: str) -> None:
    """The table from which to choose a model, and the differences of the sizes."""
    kmac = f"{costs(name).encode_kmac:.0f} / {costs(name).decode_kmac:.0f}"
    parameters = f"{costs(name).parameters.total() / 1e6:.1f} M"
    row = next(
        line
        for line in PAGE.read_text(encoding="utf-8").splitlines()
        if line.startswith(f"| `{name}`") and "kMAC" not in line and " M |" in line
    )
    assert f"| {parameters} | {kmac} |" in row
    differences = PAGE.read_text(encoding="utf-8").split("## Differences")[1]
    assert re.search(rf"\| kMAC/pixel, .*\b{kmac}\b", differences)


@pytest.mark.parametrize("drawing", DRAWINGS)
def test_drawings_have_the_shapes_of_the_layers(drawing: str) -> None:
    svg = (ROOT / "docs" / "images" / drawing).read_text(encoding="utf-8")
    drawn = re.findall(r'class="shape"[^>]*>(.+?)<', svg)
    assert len(drawn) >= 5
    for name in DRAWINGS[drawing]:
        table = "\n".join(layers_table([costs(name)]))
        assert [shape for shape in drawn if f"| {shape} |" not in table] == []


def test_shapes_are_printed() -> None:
    result = CliRunner().invoke(complexity.main, ["wacnn", "--shapes"], catch_exceptions=False)
    assert result.output == "\n".join(["wacnn", "", *layers_table([costs("wacnn")]), "", ""])
