"""Writes the reference of the Python API anew: `python -m tests.make_python --write`.

docs/python.md has everything in `stfcodec.__all__`. Signatures come from the code; the words are
those of docstrings, also of the ones below fields and constants, which only the source has.
"""

from __future__ import annotations

import argparse
import ast
import dataclasses
import inspect
import json
import re
import sys
from collections.abc import Iterable, Iterator
from itertools import pairwise
from pathlib import Path
from types import FunctionType

import stfcodec
from benchmarks.markdown import paragraph, replace_block, table
from stfcodec import api

PAGE = Path(__file__).resolve().parents[1] / "docs" / "python.md"
MARK = "reference"

_ERROR = re.compile(r"(?<![`\w])([A-Z]\w*Error)(?![`\w])")
_PAGE_OF_DOCS = re.compile(r"\bdocs/([\w-]+\.md)")


def reference() -> Iterator[str]:
    """The lines of the page below its introduction."""
    public = {name: getattr(stfcodec, name) for name in stfcodec.__all__}
    functions = [x for x in public.values() if isinstance(x, FunctionType)]
    errors = [x for x in public.values() if isinstance(x, type) and issubclass(x, Exception)]
    classes = [x for x in public.values() if isinstance(x, type) and x not in errors]
    yield "## Functions"
    for function in sorted(functions, key=lambda f: f.__code__.co_firstlineno):
        yield from ("", f"### {function.__name__}", "", "```")
        yield from _signature(function.__name__, inspect.signature(function))
        yield "```"
        yield from _text(function.__doc__, list(inspect.signature(function).parameters))
    yield from ("", "## Arguments", "")
    yield from _items(_aliases(functions))
    yield from ("", "## Classes")
    for cls in classes:
        yield from ("", f"### {cls.__name__}")
        yield from _text(cls.__doc__)
        yield ""
        yield from _items(_members(cls))
    yield from ("", "## Errors", "")
    yield from table(
        ("error", "exit code", "raised where"),
        [
            (f"`{e.__name__}`", str(e.exit_code), _prose(e.__doc__ or ""))
            for e in sorted(errors, key=lambda e: e.exit_code)
        ],
    )
    constants = {name for name, value in public.items() if isinstance(value, str)}
    notes = _notes(ast.parse(inspect.getsource(stfcodec)).body)
    yield from ("", "## Version", "")
    yield from _items((f"{name}: str", notes.get(name, "")) for name in sorted(constants))


def _signature(name: str, signature: inspect.Signature) -> Iterator[str]:
    """On one line where it fits, else with one line for each parameter."""
    pieces: list[str] = []
    for parameter in signature.parameters.values():
        if parameter.name == "self":
            continue
        if parameter.kind is parameter.KEYWORD_ONLY and "*" not in pieces:
            pieces.append("*")
        piece = f"{parameter.name}: {_type(parameter.annotation)}"
        if parameter.default is not parameter.empty:
            piece += f" = {_value(parameter.default)}"
        pieces.append(piece)
    returned = f" -> {_type(signature.return_annotation)}"
    line = f"{name}({', '.join(pieces)}){returned}"
    if len(line) <= 96:
        yield line
        return
    yield f"{name}("
    yield from (f"    {piece}," for piece in pieces)
    yield f"){returned}"


def _type(annotation: str) -> str:
    """An annotation, which postponed evaluation leaves as text, without the quotes of others."""
    return annotation.replace("'", '"')


def _value(default: object) -> str:
    """A default as a caller writes it."""
    if isinstance(default, str):
        return json.dumps(default)
    if dataclasses.is_dataclass(default) and default == type(default)():
        return f"{type(default).__name__}()"
    return repr(default)


def _text(docstring: str | None, parameters: list[str] | None = None) -> Iterator[str]:
    """The paragraphs of a docstring. Lines that begin with a parameter and a colon are a list."""
    start = re.compile(rf"^({'|'.join(parameters)}): " if parameters else r"^\b\B", re.M)
    for block in inspect.cleandoc(docstring or "").split("\n\n"):
        yield ""
        if not start.match(block):
            yield from paragraph(_prose(block))
            continue
        pieces = start.split(block)[1:]
        yield from _items(zip(pieces[::2], pieces[1::2], strict=True))


def _items(items: Iterable[tuple[str, str]]) -> Iterator[str]:
    """A list of names in code, each with what is said of it."""
    for name, text in items:
        line = f"* `{name}`: {_prose(text)}" if text else f"* `{name}`"
        first, *rest = paragraph(line)
        yield first
        yield from (f"  {more}" for more in paragraph(" ".join(rest)))


def _prose(text: str) -> str:
    """Text on one line, with the names of errors as code and those of pages as links."""
    return _PAGE_OF_DOCS.sub(r"[\1](\1)", _ERROR.sub(r"`\1`", " ".join(text.split())))


def _members(cls: type) -> Iterator[tuple[str, str]]:
    """Public fields, properties and methods of a class, as they stand in it."""
    (tree,) = ast.parse(inspect.getsource(cls)).body
    assert isinstance(tree, ast.ClassDef)
    notes = _notes(tree.body)
    for field in dataclasses.fields(cls):  # type: ignore[arg-type]
        default = "" if field.default is dataclasses.MISSING else f" = {_value(field.default)}"
        yield f"{field.name}: {_type(str(field.type))}{default}", notes.get(field.name, "")
    for name, member in vars(cls).items():
        if name.startswith("_"):
            continue
        if isinstance(member, property):
            returned = inspect.signature(member.fget).return_annotation  # type: ignore[arg-type]
            yield f"{name}: {_type(returned)}", member.__doc__ or ""
        elif isinstance(member, FunctionType):
            yield "".join(_signature(name, inspect.signature(member))), member.__doc__ or ""


def _aliases(functions: list[FunctionType]) -> Iterator[tuple[str, str]]:
    """The names of `stfcodec.api` that annotations of the functions use for several types."""
    used = {word for f in functions for word in re.findall(r"\w+", str(inspect.signature(f)))}
    for name, text in _notes(ast.parse(inspect.getsource(api)).body).items():
        if name in used:
            yield name, text


def _notes(body: list[ast.stmt]) -> dict[str, str]:
    """The text below each assignment of a module or class."""
    found = {}
    for statement, after in pairwise(body):
        if not isinstance(after, ast.Expr) or not isinstance(after.value, ast.Constant):
            continue
        if isinstance(statement, ast.AnnAssign):
            found[ast.unparse(statement.target)] = str(after.value.value)
        elif isinstance(statement, ast.Assign):
            found[ast.unparse(statement.targets[0])] = str(after.value.value)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="replace the reference on the page")
    lines = list(reference())
    if parser.parse_args().write:
        replace_block(PAGE, MARK, lines)
    else:
        sys.stdout.write("".join(f"{line}\n" for line in lines))


if __name__ == "__main__":
    main()
