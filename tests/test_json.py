"""Records of --json are as docs/json-schema.json says, and docs/json.md explains their fields."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import make_cli
import pytest
from commands import Command, Outcome
from PIL import Image
from test_reference_pages import every_command

DOCS = Path(__file__).resolve().parents[1] / "docs"
SCHEMA = json.loads((DOCS / "json-schema.json").read_text("utf-8"))
WITHOUT = {"stfcodec", "stfcodec completion", "stfcodec thumbnail"}
"""Commands that have nothing to say in a record."""


def check(outcome: Outcome, *kinds: str) -> list[dict[str, Any]]:
    """The records of a command, each as the schema says of its kind."""
    jsonschema = pytest.importorskip("jsonschema")
    records = outcome.records
    assert len(records) == len(kinds), outcome
    for record, kind in zip(records, kinds, strict=True):
        jsonschema.validate(record, {**SCHEMA, "anyOf": [{"$ref": f"#/$defs/{kind}"}]})
        jsonschema.validate(record, SCHEMA)
    failed = [record for record in records if "error" in record]
    assert (outcome.code == 0) is not bool(failed)
    return records


def test_every_command_has_records() -> None:
    for context in every_command(make_cli.program()):
        if isinstance(context.command, click.Group) or context.command_path in WITHOUT:
            continue
        options = {name for parameter in context.command.params for name in parameter.opts}
        assert "--json" in options, context.command_path


def fields(schema: dict[str, Any]) -> Iterator[str]:
    for name, below in schema.get("properties", {}).items():
        yield name
        yield from fields(below)
        yield from fields(below.get("items", {}))


def test_every_field_is_explained() -> None:
    page = (DOCS / "json.md").read_text("utf-8")
    for kind, schema in SCHEMA["$defs"].items():
        for name in fields(schema):
            assert f"`{name}`" in page, f"{name} of {kind}"


def test_the_schema_is_one() -> None:
    jsonschema = pytest.importorskip("jsonschema")
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    kinds = {choice["$ref"].rpartition("/")[2] for choice in SCHEMA["anyOf"]}
    objects = {
        name
        for name, schema in SCHEMA["$defs"].items()
        if schema.get("type") == "object" or name in ("decode", "weights-verify", "weights-remove")
    }
    assert kinds == objects


def test_encode_and_decode(stf: Command, picture: Path) -> None:
    (record,) = check(stf("encode", picture, "--json"), "encode")
    coded = picture.with_suffix(".stf")
    assert record["bytes"] == record["output_bytes"] == coded.stat().st_size
    check(stf("encode", picture, "--json", "--skip-existing"), "skipped")
    missing = picture.with_name("missing.png")
    failed, _ = check(stf("encode", missing, picture, "--json", "-f"), "failure", "encode")
    assert (failed["input"], failed["exit_code"]) == (str(missing), 1)
    back = picture.with_name("back.png")
    (record,) = check(stf("decode", coded, "-o", back, "--json"), "decode")
    assert (record["bytes"], record["output_bytes"]) == (coded.stat().st_size, back.stat().st_size)
    check(stf("decode", picture, "-o", back, "--json", "-f"), "failure")


def test_a_dry_run(stf: Command, picture: Path, coded: Path) -> None:
    outcome = stf("encode", picture, coded, "-o", picture.parent / "new/", "--dry-run", "--json")
    planned, failed = check(outcome, "planned", "failure")
    assert planned["dry_run"] is failed["dry_run"] is True


def test_test(stf: Command, picture: Path, coded: Path) -> None:
    whole, failed = check(stf("test", coded, picture, "--json"), "test", "failure")
    assert (whole["ok"], failed["ok"]) == (True, False)


def test_info(stf: Command, coded: Path) -> None:
    record, failed = check(stf("info", coded, __file__, "--json"), "info", "failure")
    assert record["bytes"] == coded.stat().st_size
    assert (failed["input"], failed["exit_code"]) == (__file__, 4)


@pytest.mark.slow
def test_heatmap(stf: Command, coded: Path, picture: Path) -> None:
    check(stf("heatmap", coded, "--json"), "heatmap")
    drawn = coded.with_name("heat.png")
    (record,) = check(stf("heatmap", coded, "-o", drawn, "--json"), "heatmap")
    assert record["output"] == str(drawn)
    check(stf("heatmap", picture, "--beside", "STF-lite", "--json"), "heatmap", "heatmap")
    outcome = stf("heatmap", coded, "-q", "3", "--json")
    (failed,) = check(outcome, "failure")
    assert (failed["input"], failed["exit_code"]) == (str(coded), 2)
    assert outcome.err.count("\n") == 1
    (failed,) = check(stf("heatmap", "missing.stf", "--json"), "failure")
    assert failed["error"].startswith("cannot read")


@pytest.mark.slow
def test_compare(stf: Command, picture: Path, coded: Path) -> None:
    outcome = stf("compare", coded, picture, "-q", "3", "--json")
    failed, record = check(outcome, "failure", "compare")
    assert (failed["input"], record["input"]) == (str(coded), str(picture))


def test_models_and_weights(stf: Command, weights_folder: Path) -> None:
    from stfcodec.models import locate, registry

    check(stf("models", "--json"), *["models"] * len(registry.MODELS))
    (record,) = check(stf("weights", "path", "--json"), "weights-path")
    assert record["path"] == str(weights_folder)
    if locate.status(registry.by_name("wacnn-lite")) != "embedded":
        pytest.skip("no embedded weights here")
    weights_folder.mkdir()
    copy = shutil.copy(locate.embedded_folder() / "wacnn-lite.safetensors", weights_folder)
    check(stf("weights", "list", "--json"), *["weights-list"] * 3)
    (record,) = check(stf("weights", "verify", copy, "--json"), "weights-verify")
    assert (record["path"], record["embedded"]) == (copy, False)
    (record,) = check(stf("weights", "remove", copy, "--json"), "weights-remove")
    assert not Path(record["path"]).exists()
    for model, code in (("stf-lite", 2), ("none", 5)):
        (failed,) = check(stf("weights", "remove", model, "--json"), "failure")
        assert (failed["input"], failed["exit_code"]) == (model, code)


@pytest.mark.slow
def test_weights_import(
    stf: Command, tmp_path: Path, weights_folder: Path, small_model: None
) -> None:
    from checkpoint_files import save, small_state

    path = save(tmp_path / "cnn_0067_best.pth.tar", small_state())
    check(stf("weights", "import", path, "none.pt", "--json"), "weights-import", "failure")


@pytest.mark.slow
def test_train(stf: Command, tmp_path: Path) -> None:
    photographs = tmp_path / "photographs"
    photographs.mkdir()
    for number in range(3):
        Image.effect_noise((128, 128), 20 + number).convert("RGB").save(
            photographs / f"{number}.png"
        )
    small = ["--crop", 64, "--decay-crop", 64, "--batch", 1, "--steps", 2, "--json"]
    outcome = stf("train", "--data", photographs, "--out", tmp_path / "run", *small)
    (record,) = check(outcome, "train")
    assert Path(record["output"]).is_file()
    empty = tmp_path / "empty"
    empty.mkdir()
    check(stf("train", "--data", empty, "--out", tmp_path / "run2", *small), "failure")


def test_usage_errors_are_no_records(stf: Command, picture: Path) -> None:
    for line in (
        ["encode", picture, "--json", "-q", "3", "--psnr", "30"],
        ["heatmap", picture, "--json", "-m", "none"],
        ["compare", picture.parent, "--json"],
    ):
        outcome = stf(*line)
        assert (outcome.code, outcome.out) == (2, b"")
