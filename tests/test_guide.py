"""docs/guide.md: every command runs, in the order of the page, and prints what stands below it."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
from commands import Command
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "guide.md"
PHOTOGRAPH = ROOT / "docs" / "images" / "kodim23.png"


def commands_of_the_page() -> list[tuple[str, list[str]]]:
    """Each command with the lines that stand below it."""
    found: list[tuple[str, list[str]]] = []
    for block in re.findall(r"^```console\n(.*?)^```", PAGE.read_text("utf-8"), re.M | re.S):
        for line in block.splitlines():
            if line.strip().startswith("$ "):
                found.append((line.strip()[2:], []))
            else:
                found[-1][1].append(line.strip())
    return found


def make_files(folder: Path) -> None:
    """The files that the page speaks of."""
    shutil.copy(PHOTOGRAPH, folder / "photo.png")
    (folder / "photos" / "2026").mkdir(parents=True)
    with Image.open(PHOTOGRAPH) as image:
        crop = image.convert("RGB").crop((0, 0, 256, 192))
        transparent = image.convert("RGBA")
    for name in ("a.jpg", "a.png", "2026/b.png"):
        crop.save(folder / "photos" / name)
    whole = (folder / "photos" / "a.png").read_bytes()
    (folder / "photos" / "broken.png").write_bytes(whole[:3000])
    alpha = Image.new("L", transparent.size, 255)
    alpha.paste(0, (0, 0, 100, 100))
    transparent.putalpha(alpha)
    transparent.save(folder / "logo.png")


def without_numbers(line: str) -> str:
    """Sizes, times, fingerprints and versions differ between machines and versions."""
    line = re.sub(r"weights [0-9a-f]{8}", "weights 0", line)
    return re.sub(r"\d+(\.\d+)*", "0", " ".join(line.split()))


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("head") is None, reason="no shell with head")
def test_commands_print_what_the_page_says(
    stf: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_files(tmp_path)
    monkeypatch.chdir(tmp_path)
    commands = commands_of_the_page()
    assert len(commands) > 15
    for line, printed in commands:
        program, *arguments = shlex.split(line)
        if program != "stfcodec":
            subprocess.run(line, shell=True, check=True)
            continue
        outcome = stf(*arguments)
        told = {without_numbers(x) for x in (outcome.out.decode() + outcome.err).splitlines()}
        assert {without_numbers(x) for x in printed} <= told, line
        assert (outcome.code == 0) is not any(x.startswith("stfcodec: error:") for x in printed), (
            line
        )
