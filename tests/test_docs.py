"""Documentation matches the code: links, anchors, files, tests, commands and modules that it names.

Pages are README.md and every other Markdown file of the tree.
"""

from __future__ import annotations

import importlib
import importlib.util
import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from test_imports import LAYERS

from stfcodec.cli.main import COMMANDS, cli

ROOT = Path(__file__).resolve().parents[1]
IGNORED = {"runs", "build", "dist"}
FOLDERS = ("stfcodec", "benchmarks", "tests", "docs")
README, INDEX = "README.md", "docs/index.md"


def files(pattern: str) -> list[Path]:
    """Files of the checkout, without what git ignores."""
    found = []
    for path in sorted(ROOT.rglob(pattern)):
        parts = path.relative_to(ROOT).parts
        if parts[0] not in IGNORED and not any(part.startswith(".") for part in parts):
            found.append(path)
    return found


PAGES = files("*.md")
CURRENT = [page for page in PAGES if page.name != "CHANGELOG.md"]
"""The pages that describe this version alone."""


def each(pages: list[Path]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("page", pages, ids=lambda p: p.relative_to(ROOT).as_posix())


def split(page: Path) -> tuple[str, list[str]]:
    """The prose of a page without its code, and the pieces of code: lines of blocks, and spans."""
    prose: list[str] = []
    blocks: list[str] = []
    fenced = False
    for line in page.read_text(encoding="utf-8").splitlines():
        if line.startswith("```"):
            fenced = not fenced
        elif fenced or line.startswith("    "):
            blocks.append(line.strip())
        else:
            prose.append(line)
    text = "\n".join(prose)
    spans = [" ".join(span.split()) for span in re.findall(r"`([^`]+)`", text)]
    joined = "\n".join(blocks).replace("\\\n", " ")
    return re.sub(r"`[^`]+`", "`code`", text), [*joined.splitlines(), *spans]


def anchors(page: Path) -> set[str]:
    """The anchors that GitHub gives a page's headings."""
    found: set[str] = set()
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)
    for heading in re.findall(r"^#+ (.+)$", text, re.M):
        name = base = re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")
        count = 0
        while name in found:
            count += 1
            name = f"{base}-{count}"
        found.add(name)
    return found


def links(page: Path) -> Iterator[tuple[Path, str]]:
    """Each relative link: the file that it leads to, and the anchor or nothing."""
    prose, _ = split(page)
    for target in re.findall(r"\]\(([^)\s]+)\)", prose):
        if not re.match(r"[a-z]+:", target):
            name, _, anchor = target.partition("#")
            yield (page.parent / name).resolve() if name else page, anchor


@each(PAGES)
def test_links_resolve(page: Path) -> None:
    for target, anchor in links(page):
        assert target.exists(), target
        assert not anchor or anchor in anchors(target), f"{target.name} has no #{anchor}"


def test_the_map_leads_to_every_page() -> None:
    """A page of a data set is in the table of docs/benchmarks.md, every other page on the map."""
    readme, index, data_sets = (ROOT / name for name in (README, INDEX, "docs/benchmarks.md"))
    assert index in {target for target, _ in links(readme)}
    on_map = {target for target, _ in links(index)}
    measured = {target for target, _ in links(data_sets)}
    for page in set(PAGES) - on_map - {readme, index}:
        assert page.parent == ROOT / "docs" / "benchmarks", page
        assert page in measured, page


def test_the_map_says_something_of_each_page() -> None:
    rows = re.findall(r"^\| \[.+?\]\((\S+)\) \| (.+) \|$", (ROOT / INDEX).read_text("utf-8"), re.M)
    assert len(rows) == len({target for target, _ in rows}) == len(set(links(ROOT / INDEX)))


def test_the_readme_is_one_screen() -> None:
    assert len((ROOT / README).read_text("utf-8").splitlines()) <= 60


@each(CURRENT)
def test_named_files_exist(page: Path) -> None:
    for code in split(page)[1]:
        for name in re.findall(rf"(?<![\w./])(?:{'|'.join(FOLDERS)})/[\w./-]*", code):
            assert (ROOT / name.rstrip(".")).exists(), name


@each(CURRENT)
def test_named_tests_exist(page: Path) -> None:
    defined = {
        name
        for path in (ROOT / "tests").glob("test_*.py")
        for name in [path.stem, *re.findall(r"^def (test_\w+)", path.read_text("utf-8"), re.M)]
    }
    named = {name for code in split(page)[1] for name in re.findall(r"\btest_\w+", code)}
    assert named <= defined, named - defined


@each(CURRENT)
def test_make_targets_exist(page: Path) -> None:
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text("utf-8"), re.M)
    for code in split(page)[1]:
        for target in re.findall(r"(?<![\w./-])make ([a-z-]+)", code):
            assert target in targets, code


@each(CURRENT)
def test_subcommands_and_their_options_exist(page: Path) -> None:
    for code in split(page)[1]:
        for command, arguments in re.findall(r"(?<![\w./-])stfcodec ([a-z]+)([^#;]*)", code):
            assert command in COMMANDS, code
            found = cli.get_command(click.Context(cli), command)
            assert found is not None
            assert set(OPTION.findall(arguments)) <= options(found), code


@each(CURRENT)
def test_modules_that_run_and_their_options_exist(page: Path) -> None:
    pytest.importorskip("matplotlib")  # `python -m benchmarks` draws
    for code in split(page)[1]:
        for name, arguments in re.findall(r"\bpython3? -m ([a-z_.]+)(?![\w.])([^#;]*)", code):
            spec = importlib.util.find_spec(name)
            assert spec, code
            if name.startswith("benchmarks") or name == "stfcodec.train.remote":
                package = spec.submodule_search_locations is not None
                main = importlib.import_module(f"{name}.__main__" if package else name).main
                assert set(OPTION.findall(arguments)) <= options(main), code


OPTION = re.compile(r"(?<!\S)--?[a-z][a-z-]*")


def options(command: click.Command) -> set[str]:
    """The options of a command and of its subcommands, as a user writes them."""
    found = {name for p in command.params for name in (*p.opts, *p.secondary_opts)}
    subcommands = command.commands.values() if isinstance(command, click.Group) else ()
    return found.union(*map(options, subcommands))


def fence(page: Path, heading: str) -> list[str]:
    """The lines of the first fenced block under a heading."""
    text = page.read_text(encoding="utf-8").split(f"\n## {heading}\n", 1)[1]
    return text.split("```\n", 2)[1].splitlines()


def test_architecture_lists_every_module() -> None:
    found = {p.relative_to(ROOT).as_posix() for p in (ROOT / "stfcodec").rglob("*.py")}
    listed: set[str] = set()
    folders: list[str] = []
    for line in fence(ROOT / "docs" / "architecture.md", "Modules"):
        name = line.split()[0]
        depth = (len(line) - len(line.lstrip())) // 2
        folders[depth:] = [name]
        if name.endswith(".py"):
            listed.add("".join(folders))
    assert listed == {name for name in found if not name.endswith("/__init__.py")}


def test_architecture_lists_the_layers_of_imports() -> None:
    lines = fence(ROOT / "docs" / "architecture.md", "Imports")
    assert [set(line.split()) for line in reversed(lines)] == list(LAYERS)


def test_pages_named_in_the_code_exist() -> None:
    for path in [*files("*.py"), ROOT / "Makefile"]:
        for name in re.findall(r"\bdocs/[\w/-]+\.md", path.read_text(encoding="utf-8")):
            assert (ROOT / name).exists(), f"{path.relative_to(ROOT)}: {name}"


def test_the_checks_see_something() -> None:
    """The checks above would pass on pages that they cannot read."""
    assert len(PAGES) > 8
    assert {"use", "results"} <= anchors(ROOT / README) | anchors(ROOT / "docs/training.md")
    assert any(anchor for page in PAGES for _, anchor in links(page))
    code = [piece for page in PAGES for piece in split(page)[1]]
    for word in ("python -m benchmarks.", "make results", "stfcodec train", "tests/test_exact.py"):
        assert any(word in piece for piece in code), word
