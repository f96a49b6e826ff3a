"""One run at a time writes to an output: a small file there says which."""

from __future__ import annotations

import json
import os
import platform
import secrets
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from stfcodec import storage
from stfcodec.errors import StfError, UsageError
from stfcodec.storage import Location, joined

_SEEN_EVERY_S = 30.0
_GONE_AFTER_S = 300.0
"""A run that was not seen for so long is over, whatever machine it was on."""

_SETTLING_S = 0.2

_LIMIT = 1 << 16


@contextmanager
def locked(folder: Path | Location) -> Iterator[None]:
    """Hold the lock of a folder. Raises UsageError where another run does, StfError."""
    place = joined(folder, "_running.json")
    mine = {"host": platform.node(), "pid": os.getpid(), "token": secrets.token_hex(8)}
    _take(place, mine)
    ended = threading.Event()

    def show() -> None:
        while not ended.wait(_SEEN_EVERY_S):
            if _read(place).get("token") not in (mine["token"], None):
                return  # another run took it, as this one was not seen
            with suppress(StfError):  # the run itself will meet what is wrong
                storage.write_bytes(place, _content(mine), overwrite=True)

    thread = threading.Thread(target=show, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        with suppress(StfError):
            if _read(place).get("token") == mine["token"]:
                storage.remove(place)


def _take(place: Path | Location, mine: dict[str, Any]) -> None:
    if storage.create(place, _content(mine)):
        return
    other = _read(place)
    if not _is_over(other):
        raise UsageError(
            f"another run writes there (on {other.get('host')}, process {other.get('pid')}): wait "
            f"for its end; if it is dead, remove {place}"
        )
    storage.write_bytes(place, _content(mine), overwrite=True)
    time.sleep(_SETTLING_S)  # where two runs find a dead one, the later one has it
    if _read(place).get("token") != mine["token"]:
        raise UsageError(f"another run has just begun to write there: wait for its end ({place})")


def _content(mine: dict[str, Any]) -> bytes:
    return json.dumps({**mine, "seen": time.time()}).encode()


def _read(place: Path | Location) -> dict[str, Any]:
    """What a lock says; nothing if it is gone or no lock."""
    try:
        found = json.loads(storage.read_bytes(place, _LIMIT))
    except (StfError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _is_over(other: dict[str, Any]) -> bool:
    """Whether the run that wrote a lock has ended without removing it."""
    if other.get("host") == platform.node() and not _may_run(other.get("pid")):
        return True
    seen = other.get("seen")
    return not isinstance(seen, int | float) or time.time() - seen > _GONE_AFTER_S


def _may_run(pid: object) -> bool:
    """Whether there may be a process of that number on this machine."""
    if os.name != "posix" or not isinstance(pid, int):
        return True
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:  # it is another user's
        pass
    return True
