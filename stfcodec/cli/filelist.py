"""The inputs of a command: INPUT arguments, and lists of names in files or from other programs."""

from __future__ import annotations

import codecs
import os
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any, NamedTuple

import click

from stfcodec import files
from stfcodec.cli import values
from stfcodec.errors import UsageError


class Inputs(NamedTuple):
    """The names of files and folders that a command works on."""

    names: tuple[str, ...]
    list_file: str | None = None
    """The list that some come from. Then a single name counts as one of several: how long a list is
    must not change what the command does."""

    @property
    def single(self) -> bool:
        return len(self.names) == 1 and self.list_file is None


def inputs(metavar: str) -> Callable[[Callable[..., int]], Callable[..., int]]:
    """Add the arguments, --filelist and --null. The command gets `inputs`, of type `Inputs`."""

    def add(command: Callable[..., int]) -> Callable[..., int]:
        @click.argument(
            "names",
            nargs=-1,
            metavar=f"[{metavar}...]",
            shell_complete=values.complete_inputs,
        )
        @click.option(
            "--filelist",
            metavar="FILE",
            shell_complete=values.complete_files,
            help="Read names of inputs from a file, one a line; - for stdin.",
        )
        @click.option(
            "-0",
            "--null",
            is_flag=True,
            help="Names in the file list end in NUL characters, as find -print0 writes them.",
        )
        @wraps(command)
        def with_list(
            names: tuple[str, ...], filelist: str | None, null: bool, **parameters: Any
        ) -> int:
            if filelist is not None:
                found = Inputs(names + _read(filelist, null), filelist)
                _check(found, filelist)
            elif null:
                raise UsageError("-0 says how a list is written; give --filelist, too")
            elif not names:
                context = click.get_current_context()
                raise click.UsageError(
                    f"name at least one {metavar}, or give a --filelist.", context
                )
            else:
                found = Inputs(names)
            return command(inputs=found, **parameters)

        return with_list

    return add


def _read(source: str, null: bool) -> tuple[str, ...]:
    """The names in a list, empty lines left out. Raises StfError if it cannot be read."""
    if source in files.STANDARD_INPUT:
        data = files.read_standard_input()
    else:
        data = files.read_bytes(Path(source))
    data = data.removeprefix(codecs.BOM_UTF8)  # which some editors write
    if null:
        names = data.split(b"\0")
    elif b"\0" in data:
        raise UsageError(f"the file list {source} has NUL characters; if they end names, give -0")
    else:
        names = data.splitlines()
    return tuple(os.fsdecode(name) for name in names if name)


def _check(inputs: Inputs, source: str) -> None:
    """Raises UsageError where there is nothing to do, or standard input is asked for twice."""
    if not inputs.names:
        raise UsageError(f"the file list {source} is empty, and no file is named besides")
    if source in files.STANDARD_INPUT and files.STANDARD_INPUT.intersection(inputs.names):
        raise UsageError("standard input cannot be both the file list and an input")
