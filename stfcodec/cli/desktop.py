"""stfcodec desktop: tells desktops that follow freedesktop.org what .stf files are.

Everything is written below the user's data folder, $XDG_DATA_HOME. A comment in each file says who
wrote it, by which `install` and `remove` know their own files.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import NamedTuple

import click

from stfcodec import files
from stfcodec.cli import commands, messages
from stfcodec.errors import StfError, UsageError, printable

_PLACES = {
    "stfcodec.xml": "mime/packages",
    "stfcodec.thumbnailer": "thumbnailers",
    "image-x-stfcodec.svg": "icons/hicolor/scalable/mimetypes",
}
"""Files of the folder `freedesktop`, each with its place in the data folder."""

_MARK = b"Written by 'stfcodec desktop install'."
_OTHER_SYSTEMS = ("win32", "cygwin", "darwin")


class _Step(NamedTuple):
    path: Path
    action: str
    """write, remove or none."""


_OPTIONS = (
    click.option("--dry-run", is_flag=True, help="Say what would be done; change nothing."),
    click.option("--json", "as_json", is_flag=True, help="One JSON object a file on stdout."),
)


def _options(command: Callable[..., int]) -> Callable[..., int]:
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


@click.group("desktop", cls=commands.Group, no_args_is_help=True)
def command() -> None:
    """Tell the desktop what .stf files are: their type, their icon and how to draw thumbnails.

    For desktops that follow freedesktop.org, and for this user alone: files go to $XDG_DATA_HOME,
    or else ~/.local/share. No running desktop is needed.
    """


@command.command("install")
@_options
def install(dry_run: bool, as_json: bool) -> int:
    """Write the MIME type image/x-stfcodec, its icon, and an entry for thumbnails.

    Files that are there already are brought up to date. The entry names the Python that runs this
    command, so install again after that has moved. GNOME runs thumbnailers in a sandbox that sees
    programs in /usr alone.
    """
    folder = _data_folder()
    contents = {folder / place / name: _content(name) for name, place in _PLACES.items()}
    steps = []
    for path, content in contents.items():
        existing = _existing(path)
        if existing is not None and _MARK not in existing:
            raise StfError(f"{path} is not from stfcodec; move it away to install")
        steps.append(_Step(path, "none" if existing == content else "write"))
    for path, action in [] if dry_run else steps:
        if action == "write":
            files.make_folder(path.parent)
            files.write_bytes(path, contents[path], overwrite=True)
    return _finish(folder, steps, dry_run, as_json)


@command.command("remove")
@_options
def remove(dry_run: bool, as_json: bool) -> int:
    """Remove the files that 'stfcodec desktop install' wrote, and no others."""
    folder = _data_folder()
    steps = []
    for name, place in _PLACES.items():
        path = folder / place / name
        is_ours = _MARK in (_existing(path) or b"")
        steps.append(_Step(path, "remove" if is_ours else "none"))
    for path, action in [] if dry_run else steps:
        if action == "remove":
            path.unlink()
    return _finish(folder, steps, dry_run, as_json)


def _data_folder() -> Path:
    """The folder of the user's data. Raises UsageError on systems with other desktops."""
    if sys.platform in _OTHER_SYSTEMS:
        raise UsageError("only for desktops that follow freedesktop.org, as on Linux and BSD")
    from platformdirs import user_data_path

    try:
        folder = user_data_path()
    except RuntimeError as error:
        raise StfError("the user has no home: name a folder in $XDG_DATA_HOME") from error
    if not folder.is_absolute():
        raise StfError(f"$XDG_DATA_HOME is {folder}: name an absolute path")
    return folder


def _existing(path: Path) -> bytes | None:
    return files.read_bytes(path) if path.exists() else None


def _content(name: str) -> bytes:
    """A file of the folder `freedesktop`, with the program in it.

    The program is this Python: it finds stfcodec wherever that is installed for it. -P keeps it
    from taking modules of the folder in which a desktop happens to start it.
    """
    text = (resources.files("stfcodec.cli") / "freedesktop" / name).read_text(encoding="utf-8")
    command = [_quoted(word) for word in (sys.executable, "-P", "-m", "stfcodec")]
    text = text.replace("@PROGRAM@", sys.executable.replace("\\", "\\\\"))
    return text.replace("@COMMAND@", " ".join(command)).encode()


def _quoted(word: str) -> str:
    """A word of a command as the Desktop Entry Specification wants it in Exec."""
    if re.fullmatch(r"[\w./+:,@=-]+", word, re.ASCII):
        return word
    inside = re.sub(r'(["`$\\])', r"\\\1", word)
    return f'"{inside}"'.replace("\\", "\\\\").replace("%", "%%")


def _finish(folder: Path, steps: list[_Step], dry_run: bool, as_json: bool) -> int:
    """Have the desktop read the files again, and say what was done."""
    if not dry_run and any(step.action != "none" for step in steps):
        _update(folder)
    would = "would be " if dry_run else ""
    done = {"write": "written", "remove": "removed"}
    for path, action in steps:
        if as_json:
            messages.record({"output": str(path), "action": action})
        elif action in done:
            messages.result(f"{printable(str(path))} {would}{done[action]}")
    if not as_json and all(step.action == "none" for step in steps):
        messages.result("nothing to do")
    return 0


def _update(folder: Path) -> None:
    """Run the programs that collect what is in the folders, where they are."""
    if (folder / "mime").is_dir():
        _run("update-mime-database", str(folder / "mime"))
    icons = folder / "icons" / "hicolor"
    if (icons / "icon-theme.cache").exists():  # without one, desktops look into the folders
        _run("gtk-update-icon-cache", "--quiet", "--force", "--ignore-theme-index", str(icons))


def _run(name: str, *arguments: str) -> None:
    program = shutil.which(name)
    if program is None:
        messages.note(f"{name} is not here: desktops may know .stf files only once it has run")
        return
    done = subprocess.run([program, *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        messages.warn(name, " ".join(done.stderr.split()) or f"exit code {done.returncode}")
