"""What the user sees while files are coded: lines and a bar on stderr, records on stdout."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import Any

from stfcodec.batch import Report, Result
from stfcodec.cli import messages
from stfcodec.errors import StfError, printable


class Progress:
    """Shows results as they come in, and the summary of `report` at the end.

    The bar appears only for several files and only on a terminal. Where records cannot be written
    on, coding continues, and leaving the context raises the error.
    """

    def __init__(self, report: Report, total: int, *, as_json: bool, quiet: bool) -> None:
        self.report = report
        self.as_json = as_json
        self.quiet = quiet
        self.bar: Any = None
        self.lost: Exception | None = None  # why records can be written no more
        if not (report.single or quiet) and sys.stderr and sys.stderr.isatty():
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
        if self.as_json and self.lost is None:
            try:
                messages.record(result.to_json())
            except (StfError, BrokenPipeError) as error:
                self.lost = error
        if result.failure is not None:
            messages.fail(result.job.input_name, result.failure)
        elif not self.quiet:
            for note in result.notes:
                messages.warn(result.job.input_name, note)
            if self.report.single and not self.as_json:
                messages.say(printable(self._describe(result)))

    def _describe(self, result: Result) -> str:
        line = f"{result.job.input_name} -> {result.job.output_name}"
        info = result.info
        if info is None:
            return f"{line}: skipped, exists already"
        share = self.report.share(info.total_bytes, result.input_bytes)
        size = f"{info.total_bytes} bytes{share}, {info.bpp:.3f} bpp"
        if result.output_bytes and not self.report.encodes:
            size = f"{result.output_bytes} bytes from {size}"
        return f"{line}: {info.width}x{info.height}, {size}, {result.seconds:.2f} s"
