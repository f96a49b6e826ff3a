"""Repeated work on a CUDA device as CUDA graphs: one launch instead of thousands.

Launching the kernels of a step one by one takes the processor longer than the GPU needs to run
them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable

import torch
from torch import Tensor

WARM_UP_CALLS = 3
"""Calls before a function is captured. By then lazy initialisation, compilation and caching are
done."""


class GraphReplay:
    """Calls functions that enqueue the same operations on the same memory at every call.

    On a CUDA device a function is captured as a graph at its fourth call, and the graph is replayed
    from then on. On other devices the function is simply called.
    """

    def __init__(self, generator: torch.Generator) -> None:
        """generator: the source of all random numbers of the functions, on their device."""
        self.generator = generator
        self.device = generator.device
        self.calls: Counter[Hashable] = Counter()
        self.graphs: dict[Hashable, tuple[torch.cuda.CUDAGraph, Tensor]] = {}
        if self.device.type == "cuda":
            self.stream = torch.cuda.Stream(self.device)

    def __call__(self, key: Hashable, function: Callable[[], Tensor]) -> Tensor:
        """Return what `function` returns.

        key: identifies the function's operations. A replay overwrites the tensor that the previous
        call with the same key returned.
        """
        if self.device.type != "cuda":
            return function()
        if key not in self.graphs:
            self.calls[key] += 1
            if self.calls[key] <= WARM_UP_CALLS:
                return self._call_on_stream(function)
            graph = torch.cuda.CUDAGraph()
            graph.register_generator_state(self.generator)
            with torch.cuda.graph(graph, stream=self.stream):
                out = function()
            self.graphs[key] = graph, out
        graph, out = self.graphs[key]
        graph.replay()
        return out

    def clear(self) -> None:
        """Forget all graphs, after tensors that they use were replaced."""
        self.calls.clear()
        self.graphs.clear()

    def _call_on_stream(self, function: Callable[[], Tensor]) -> Tensor:
        """Call on the stream of the capture, because autograd binds the accumulation of gradients
        to the stream of the first backward pass."""
        current = torch.cuda.current_stream(self.device)
        self.stream.wait_stream(current)
        with torch.cuda.stream(self.stream):
            out = function()
        current.wait_stream(self.stream)
        return out
