"""Coding many files: reading, coding and saving overlap, and a bad file does not stop the rest.

`jobs` has what goes in and what comes out, `tasks` the two directions of the codec, and `runner`
runs one over the other.
"""

from __future__ import annotations

from stfcodec.batch.jobs import Failure, Job, Report, Result, explain, model_name
from stfcodec.batch.runner import AHEAD, Existing, run
from stfcodec.batch.tasks import Coded, Decode, Encode, Packed, Task

__all__ = [
    "AHEAD",
    "Coded",
    "Decode",
    "Encode",
    "Existing",
    "Failure",
    "Job",
    "Packed",
    "Report",
    "Result",
    "Task",
    "explain",
    "model_name",
    "run",
]
