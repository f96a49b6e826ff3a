"""Repeated device work as CUDA graphs: one launch instead of thousands."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable

import torch
from torch import Tensor

_WARM_UP = 3
"""Calls before the work is captured: lazy initialisation, compilation and caches are over by
then."""


class Replay:
    """Runs functions that enqueue the same operations on the same memory at every call.

    On a CUDA device a function is captured at its fourth call and replayed from then on, so that
    the GPU never waits for the processor that feeds it. Elsewhere it is simply called.
    """

    def __init__(self, generator: torch.Generator) -> None:
        """generator: on the device of the work, which may draw from it."""
        self.generator = generator
        self.device = generator.device
        self.calls: Counter[Hashable] = Counter()
        self.graphs: dict[Hashable, tuple[torch.cuda.CUDAGraph, Tensor]] = {}
        if self.device.type == "cuda":
            self.stream = torch.cuda.Stream(self.device)

    def __call__(self, key: Hashable, work: Callable[[], Tensor]) -> Tensor:
        """What `work` returns. Calls with one key do the same work; a replay overwrites the tensor
        that the call before returned."""
        if self.device.type != "cuda":
            return work()
        if key not in self.graphs:
            self.calls[key] += 1
            if self.calls[key] <= _WARM_UP:
                return self._beside(work)
            graph = torch.cuda.CUDAGraph()
            graph.register_generator_state(self.generator)
            with torch.cuda.graph(graph, stream=self.stream):
                out = work()
            self.graphs[key] = graph, out
        graph, out = self.graphs[key]
        graph.replay()
        return out

    def clear(self) -> None:
        """Forgets what was captured: the work is on other memory from now on."""
        self.calls.clear()
        self.graphs.clear()

    def _beside(self, work: Callable[[], Tensor]) -> Tensor:
        """On the stream of the capture: autograd binds what adds up gradients to a stream."""
        current = torch.cuda.current_stream(self.device)
        self.stream.wait_stream(current)
        with torch.cuda.stream(self.stream):
            out = work()
        current.wait_stream(self.stream)
        return out
