"""Isolation from a host program's torch settings, so that the library codes alike in any program.

Settings of a thread (autocast, inference mode, disabled gradients, a default device) are suspended
for the time of a call. Settings of the process stay as they are: no code depends on the default
dtype, and the backend for exact sums is chosen anew for each `float32_precision`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch


@contextmanager
def plain_torch() -> Iterator[None]:
    """Suspend this thread's torch settings: inside, torch has its defaults. Also a decorator."""
    with ExitStack() as stack:
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.set_grad_enabled(True))
        for device in ("cpu", "cuda"):
            stack.enter_context(torch.autocast(device, enabled=False))
        if torch.empty(0).device.type != "cpu":  # get_default_device fails in torch 2.4
            stack.enter_context(torch.device("cpu"))
        yield


def float32_precision() -> tuple[str, ...]:
    """The current settings of this process for float32 products.

    A result of a test for exactness holds for these settings only, so they are part of its cache
    key.
    """
    found = []
    for backend in (torch.backends, torch.backends.mkldnn, torch.backends.cuda):
        for owner in (backend, *(getattr(backend, n, None) for n in ("conv", "matmul"))):
            value = getattr(owner, "fp32_precision", None)
            found.append(str(value))
    try:
        found.append(torch.get_float32_matmul_precision())
    except RuntimeError:  # two settings contradict each other
        found.append("mixed")
    return tuple(found)
