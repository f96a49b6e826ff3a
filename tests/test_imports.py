"""Which part of the package may import which, and what must not be imported to answer quickly."""

from __future__ import annotations

import ast
import configparser
import graphlib
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "stfcodec"

# A part, which is a module or package of stfcodec, imports only parts of the layers above it here.
LAYERS = (
    {"errors", "formats", "geometry", "listing", "machine", "temporary"},
    {"limits", "view"},
    {"allocator", "container", "entropy", "files", "metrics"},
    {"storage"},
    {"shards"},
    {"bits", "heatmap", "imageio", "models"},
    {"tiling"},
    {"refinement"},
    {"codec"},
    {"rate_control"},
    {"settings"},
    {"api"},
    {"batch", "checkpoints", "compare", "data", "pillow", "train"},
    {"collection"},
    {"cli", "imageio_plugin", "pillow_plugin"},
    {"__main__"},
)
LEVEL = {part: level for level, parts in enumerate(LAYERS) for part in parts}

LIGHT = [
    "__main__",
    "batch",
    "container",
    "errors",
    "files",
    "formats",
    "geometry",
    "limits",
    "models.registry",
    "rate_control",
    "settings",
]
HEAVY = {"torch", "numpy", "PIL", "compressai", "tqdm", "safetensors"}


def modules() -> dict[str, Path]:
    """Every module of the package by its dotted name below stfcodec ("" is the package)."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES = modules()


def imports(name: str, path: Path) -> set[str]:
    """Modules of the package that a module imports, at any depth of its code."""
    package = name.split(".") if path.name == "__init__.py" else name.split(".")[:-1]
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names if alias.name.startswith("stfcodec")}
        elif isinstance(node, ast.ImportFrom):
            base = (node.module or "").split(".") if node.module else []
            if node.level:
                base = ["stfcodec", *filter(None, package[: len(package) - node.level + 1]), *base]
            if base[:1] == ["stfcodec"]:
                found |= {".".join([*base, alias.name]) for alias in node.names}
    return {_module(target) for target in found if target != "stfcodec.__version__"} - {name}


def _module(dotted: str) -> str:
    """The module that `stfcodec.a.b` is or lies in; a name of the package itself lies in api."""
    parts = dotted.split(".")[1:]
    while parts and ".".join(parts) not in MODULES:
        parts.pop()
    return ".".join(parts) or "api"


GRAPH = {name: imports(name, path) for name, path in MODULES.items() if name}


def part(name: str) -> str:
    return name.partition(".")[0]


@pytest.mark.parametrize("name", sorted(GRAPH))
def test_imports_go_down_only(name: str) -> None:
    here = part(name)
    assert here in LEVEL, f"give the new part {here} a layer in this test"
    for target in GRAPH[name]:
        there = part(target)
        allowed = here == there or LEVEL[there] < LEVEL[here]
        assert allowed, f"stfcodec.{name} imports stfcodec.{target}"


def test_no_import_cycles() -> None:
    graphlib.TopologicalSorter(GRAPH).prepare()  # raises CycleError, naming the cycle


def test_the_walk_sees_imports() -> None:
    """The checks above would pass on an empty graph."""
    assert "errors" in GRAPH["files"]
    assert "batch" in GRAPH["cli.encode"]
    assert "container" in GRAPH["cli.info"]


def loaded_by(code: str, *arguments: str) -> set[str]:
    """Modules in memory, by their full names, after `code` ran in a fresh interpreter."""
    report = "\nimport sys; print('\\n' + ' '.join(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code + report, *arguments],
        capture_output=True,
        text=True,
        check=True,
        cwd=PACKAGE.parent,
    )
    return set(done.stdout.splitlines()[-1].split())


RUN = "import sys; from stfcodec.cli.main import main; assert main(sys.argv[1:]) == 0"


@pytest.mark.parametrize(
    "arguments", [["--help"], ["--version"], ["encode", "--help"], ["decode", "-h"], ["models"]]
)
def test_answers_that_need_no_codec_load_none(arguments: list[str]) -> None:
    assert not loaded_by(RUN, *arguments) & HEAVY


def test_info_loads_no_codec(tmp_path: Path) -> None:
    from stfcodec import container

    header = container.Header(4, 4, 3, 8, 1, bytes(4), 3.0)
    path = tmp_path / "a.stf"
    path.write_bytes(container.write(container.Stream(header, b"z", b"y", 0)))
    assert not loaded_by(RUN, "info", str(path)) & HEAVY


FAIL = RUN.replace("== 0", "!= 0")


@pytest.mark.parametrize(
    "arguments",
    [
        ["encode", "missing.jpg"],
        ["encode", "setup.py", "-o", "README.md"],
        ["encode", "README.md", "-m", "nobody"],
        ["encode", "docs/images/kodim23.png", "-o", "{out}", "-m", "wacnn", "-q", "3"],
        ["encode", "tests/golden/stf-lite-6-1x1-grey.stf", "-o", "{out}"],
        ["decode", "missing.stf"],
        ["decode", "README.md"],
    ],
    ids=" ".join,
)
def test_mistakes_are_told_without_loading_torch(
    arguments: list[str], tmp_path: Path, weights_folder: Path
) -> None:
    out = str(tmp_path / "out.stf")
    assert "torch" not in loaded_by(FAIL, *(word.format(out=out) for word in arguments))


@pytest.mark.parametrize("name", [*LIGHT, *(name for name in MODULES if name.startswith("cli"))])
def test_light_modules(name: str) -> None:
    assert not loaded_by(f"import stfcodec.{name}") & HEAVY


@pytest.mark.slow
def test_coding_loads_neither_compressai_nor_torchvision(
    tmp_path: Path, weights: list[str]
) -> None:
    from PIL import Image

    Image.new("RGB", (20, 12), "teal").save(tmp_path / "a.png")
    coded, back = str(tmp_path / "a.stf"), str(tmp_path / "b.png")
    encode = loaded_by(RUN, "encode", str(tmp_path / "a.png"), "-o", coded, *weights)
    decode = loaded_by(RUN, "decode", coded, "-o", back, *weights)
    for loaded in (encode, decode):
        assert "torch" in loaded
        assert not loaded & {"compressai", "torchvision"}


def test_the_oldest_versions_are_those_that_are_tested() -> None:
    """setup.cfg's lower bounds, and what `make test-minimum` installs."""
    setup = configparser.ConfigParser()
    setup.read(PACKAGE.parent / "setup.cfg")
    needed = setup["options"]["install_requires"].split()
    lines = (PACKAGE.parent / "tests" / "minimum.txt").read_text().splitlines()
    tested = dict(line.split("==") for line in lines if not line.startswith("#"))
    assert {n.split(">=")[0] for n in needed} == set(tested)
    for name, bound in (n.split(">=") for n in needed):
        assert tested[name].split(".")[: bound.count(".") + 1] == bound.split("."), name
