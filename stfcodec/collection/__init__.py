"""Collections of pictures: any number of them, in folders, behind URLs and in shards.

`listing` finds what there is to do, `chunks` are what a worker takes at a time, and `work` does
one. `manifest` records what came of every picture, so that a run can go on where another ended;
`lock` lets one run at a time write to an output. `run` leads all that.
"""

from __future__ import annotations

from stfcodec.collection.listing import Collection
from stfcodec.collection.run import Resumption, dry_run, run

__all__ = ["Collection", "Resumption", "dry_run", "run"]
