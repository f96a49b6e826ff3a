"""Coding many files: reading, coding and saving overlap, and a bad file does not stop the rest.

`jobs` has what goes in and what comes out, `tasks` the two directions of the codec, and `runner`
runs one over the other. `workers` does so in several processes. `pools` and `on_ray` spread any
work over processes and machines.
"""

from __future__ import annotations

from stfcodec.batch.jobs import AnyJob, Failure, Job, Report, Result, Words, explain, model_name
from stfcodec.batch.naming import Naming
from stfcodec.batch.runner import AHEAD, Existing, dry_run, run
from stfcodec.batch.tasks import Coded, Decode, Encode, Packed, Task, Verify
from stfcodec.batch.workers import OpenTask, run_in_workers, useful_workers

__all__ = [
    "AHEAD",
    "AnyJob",
    "Coded",
    "Decode",
    "Encode",
    "Existing",
    "Failure",
    "Job",
    "Naming",
    "OpenTask",
    "Packed",
    "Report",
    "Result",
    "Task",
    "Verify",
    "Words",
    "dry_run",
    "explain",
    "model_name",
    "run",
    "run_in_workers",
    "useful_workers",
]
