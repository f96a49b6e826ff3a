"""Tables of what `layer_costs.py` counts: the parts of the models, and their layers with shapes.

`complexity.py` prints them and writes them into docs/models.md.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby

from benchmarks.layer_costs import PARTS, ModelCosts, measure, times
from benchmarks.markdown import table
from stfcodec.models import registry

_RESULTS = {"g_a": "y", "h_a": "z", "g_s": "x̂"}
"""The tensor that each of these parts gives."""


def blocks_of_the_page() -> dict[str, list[str]]:
    """The lines of each block of docs/models.md, by its mark."""
    models = [measure(info) for info in sorted(registry.MODELS, key=lambda info: info.id)]
    lite = [model for model in models if model.info.variable_rate]
    paper = [model for model in models if not model.info.variable_rate]
    return {
        "parts": list(parts_table(models)),
        **{f"layers {model.info.name}": list(layers_table([model])) for model in paper},
        "layers lite": list(layers_table(lite)),
    }


def parts_table(models: Sequence[ModelCosts]) -> Iterator[str]:
    """The lines of a table: million parameters / kMAC/pixel of each part of each model."""

    def cell(parameters: int, kmac: float) -> str:
        return f"{parameters / 1e6:.3f} / {kmac:.2f}" if parameters else ""

    rows: list[list[str]] = []
    for part in PARTS:
        rows.append([part, *(cell(m.parameters[part], m.kmac(part)) for m in models)])
        if any(m.attention_macs[part] for m in models):
            row = [
                cell(m.attention_parameters[part], m.attention_macs[part] / m.pixels / 1e3)
                for m in models
            ]
            rows.append(["of which window attention", *row])
    rows.append(["**sum**", *(cell(m.parameters.total(), m.kmac(*PARTS)) for m in models)])
    rows.append(["**encode**", *(f"{m.encode_kmac:.2f}" for m in models)])
    rows.append(["**decode**", *(f"{m.decode_kmac:.2f}" for m in models)])
    return table(["part", *(f"`{m.info.name}`" for m in models)], rows)


def layers_table(models: Sequence[ModelCosts]) -> Iterator[str]:
    """The lines of a table of the layers, from x to x̂.

    Several models have one skeleton. Where they differ, a cell has an entry for each. Raises
    ValueError where their skeletons differ.
    """
    head = ["part", "layer", "output", "thousand parameters", "kMAC/pixel"]
    rows = (
        [" / ".join(dict.fromkeys(cells)) for cells in zip(*same, strict=True)]
        for same in zip(*map(_layer_rows, models), strict=True)
    )
    return table(head, rows)


def _layer_rows(model: ModelCosts) -> Iterator[list[str]]:
    def tensor(name: str) -> list[str]:
        return ["", f"**{name}**", _shape(model.tensors[name]), "", ""]

    yield tensor("x")
    for part in PARTS:
        if part == "g_s":
            yield tensor("ŷ")
        in_part = [layer for layer in model.layers if layer.part == part]
        start = part
        for (label, output), run in groupby(in_part, key=lambda layer: (layer.label, layer.output)):
            calls = list(run)
            parameters = sum(layer.parameters for layer in calls) / 1e3
            kmac = sum(layer.macs for layer in calls) / model.pixels / 1e3
            numbers = f"{parameters:.1f}", f"{kmac:.2f}"
            yield [start, times(len(calls), label), _shape(output), *numbers]
            start = ""
        if part in _RESULTS:
            yield tensor(_RESULTS[part])


def _shape(size: tuple[int, int, int]) -> str:
    return " × ".join(map(str, size))
