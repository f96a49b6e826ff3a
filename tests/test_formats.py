"""docs/formats.md says what reading and writing do, and nothing is lost without a word."""

from __future__ import annotations

import PIL
import pytest
from make_formats import PAGE, SILENT, tables
from PIL import features

PILLOW = int(PIL.__version__.split(".")[0])


@pytest.mark.skipif(not features.check("avif"), reason="Pillow without AVIF")
@pytest.mark.skipif(PILLOW < 12, reason="the tables are those of a newer Pillow")
def test_tables_are_what_happens() -> None:
    page = PAGE.read_text(encoding="utf-8")
    for name, lines in tables():
        text = "\n".join(lines)
        assert SILENT not in text
        assert f"<!-- {name} -->\n{text}\n<!-- /{name} -->" in page, name
