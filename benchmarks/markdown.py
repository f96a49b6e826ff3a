"""Markdown for the pages that benchmarks write: tables, paragraphs, and blocks between marks."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """The lines of a table."""
    for row in (head, ["---"] * len(head), *rows):
        yield f"| {' | '.join(row)} |"


def paragraph(text: str) -> list[str]:
    """The lines of a paragraph, at most 100 characters each."""
    return textwrap.wrap(text, 100, break_long_words=False, break_on_hyphens=False)


def signed(value: float, digits: int) -> str:
    """A number that always has its sign; minus is U+2212, and zero is positive."""
    return f"{round(value, digits) + 0.0:+.{digits}f}".replace("-", "−")


def replace_block(page: Path, mark: str, lines: Sequence[str]) -> None:
    """Replace the lines between `<!-- mark -->` and `<!-- /mark -->` of a page, if it has them."""
    text = page.read_text(encoding="utf-8")
    pattern = re.compile(rf"(<!-- {mark} -->\n).*?(<!-- /{mark} -->)", re.DOTALL)
    block = "".join(f"{line}\n" for line in lines)
    page.write_text(pattern.sub(lambda m: f"{m[1]}{block}{m[2]}", text), encoding="utf-8")
