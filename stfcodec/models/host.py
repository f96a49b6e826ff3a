"""What a host program has set in torch, kept from coding.

Modes that belong to a thread (autocast, inference mode, gradients off, a default device) are left
for as long as a call lasts. Settings that belong to the process are not touched: nothing here goes
by the default dtype, and what is exact is chosen anew for each float32 precision (`precision`).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch


@contextmanager
def plain_torch() -> Iterator[None]:
    """Inside, this thread's torch is as in a process that has set nothing. Also a decorator."""
    with ExitStack() as stack:
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.set_grad_enabled(True))
        for device in ("cpu", "cuda"):
            stack.enter_context(torch.autocast(device, enabled=False))
        if torch.empty(0).device.type != "cpu":  # get_default_device fails in torch 2.4
            stack.enter_context(torch.device("cpu"))
        yield


def precision() -> tuple[str, ...]:
    """How float32 products are computed in this process now: part of the key of whatever was
    tested for exactness."""
    found = []
    for backend in (torch.backends, torch.backends.mkldnn, torch.backends.cuda):
        for owner in (backend, *(getattr(backend, n, None) for n in ("conv", "matmul"))):
            value = getattr(owner, "fp32_precision", None)
            found.append(str(value))
    try:
        found.append(torch.get_float32_matmul_precision())
    except RuntimeError:  # set in two ways that contradict each other
        found.append("mixed")
    return tuple(found)
