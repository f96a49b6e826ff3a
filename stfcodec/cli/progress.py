"""What the user sees while files are coded: lines and a bar on stderr, records on stdout.

Lines that are the very result of a command, as those of a dry run, are on stdout too.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from types import TracebackType
from typing import Any

from stfcodec.batch import Report, Result, Words
from stfcodec.cli import messages
from stfcodec.errors import StfError, printable


class Progress:
    """Shows results as they come in, and the summary of `report` at the end.

    The bar appears only for several files and only on a terminal. Where records cannot be written
    on, coding continues, and leaving the context raises the error. A list ends there.
    """

    words = Words()
    """Of the summary."""
    lists = False
    """Each file has a line on standard output, and there is no bar."""

    def __init__(self, report: Report, total: int | None, *, as_json: bool, quiet: bool) -> None:
        self.report = report
        report.words = self.words
        self.as_json = as_json
        self.quiet = quiet
        self.bar: Any = None
        self.lost: Exception | None = None  # why records can be written no more
        if not (report.single or quiet or self.lists) and sys.stderr and sys.stderr.isatty():
            from tqdm import tqdm

            self.bar = tqdm(total=total, unit="file", file=sys.stderr, dynamic_ncols=True)

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.bar is not None:
            self.bar.close()
        if error is None and not (self.report.single or self.quiet):
            messages.say(f"stfcodec: {self.report.summary}")
        if error is None and self.lost is not None:
            raise self.lost

    def show(self, result: Result) -> None:
        if self.bar is None:
            self._print(result)
            return
        if self.as_json or result.failure or result.notes:
            with self.bar.external_write_mode(sys.stderr):  # the bar stays below the lines
                self._print(result)
        self.bar.set_postfix_str(self.report.speed, refresh=False)
        self.bar.update()

    def _print(self, result: Result) -> None:
        if self.as_json:
            self._write(partial(messages.record, self.record(result)))
        elif self.lists and not self.quiet and result.failure is None:
            self._write(partial(messages.result, printable(self.describe(result))))
        if result.failure is not None:
            messages.fail(result.job.input_name, result.failure)
        elif not self.quiet:
            for note in result.notes:
                messages.warn(result.job.input_name, note)
            if self.report.single and not (self.as_json or self.lists):
                messages.say(printable(self.describe(result)))

    def _write(self, line: Callable[[], None]) -> None:
        """A line on standard output, until one cannot be written."""
        if self.lost is None:
            try:
                line()
            except (StfError, BrokenPipeError) as error:
                if self.lists:
                    raise
                self.lost = error

    def record(self, result: Result) -> dict[str, Any]:
        """What --json prints of a result."""
        return result.to_json()

    def describe(self, result: Result) -> str:
        """A line about a job that did not fail."""
        line = f"{result.job.input_name} -> {result.job.output_name}"
        if result.skipped:
            return f"{line}: skipped, exists already"
        return f"{line}: {self._facts(result)}" if result.info is not None else line

    def _facts(self, result: Result) -> str:
        info = result.info
        assert info is not None
        width, height = result.size or (info.width, info.height)
        share = self.report.share(info.total_bytes, result.input_bytes)
        size = f"{info.total_bytes} bytes{share}, {info.bpp:.3f} bpp"
        if result.output_bytes and not self.report.encodes:
            size = f"{result.output_bytes} bytes from {size}"
        return f"{width}x{height}, {size}, {result.seconds:.2f} s"


class DryRun(Progress):
    """Shows what would be done."""

    words = Words("would be coded", "would be skipped", "would fail")
    lists = True

    def record(self, result: Result) -> dict[str, Any]:
        return super().record(result) | {"dry_run": True}


class Verdicts(Progress):
    """Shows which files are whole."""

    words = Words("OK", None, "failed")
    lists = True

    def record(self, result: Result) -> dict[str, Any]:
        record = super().record(result)
        facts = {name: v for name, v in record.items() if name not in ("output", "output_bytes")}
        return facts | {"ok": result.failure is None}

    def describe(self, result: Result) -> str:
        return f"{result.job.input_name}: OK, {self._facts(result)}"
