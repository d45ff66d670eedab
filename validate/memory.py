"""Memory of one pass of a candidate, in a pass of its own without the dense weights that it replaces."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from torch import nn

from costmodel.workload import Phase, Workload
from validate.device import Device
from validate.passes import Pass
from validate.records import Memory


def measure_memory(
    device: Device, candidate: nn.Module, reference: nn.Module, run: Pass, work: Workload, kv_cache_bytes: int
) -> Memory:
    """Run the candidate once with the reference's own weights moved away.

    Args:
        candidate, reference: trees that share the untouched weights.
        run: the candidate's pass of `work`.
        kv_cache_bytes: of the cache that the pass ends with; a prefill makes it, a decode step finds it there.
    """
    weight_bytes = sum(parameter.nbytes for parameter in candidate.parameters())
    with moved_away(candidate, reference, device):
        run()
        peak = device.peak_memory(run)
    allocated = peak.peak_allocated_bytes
    if device.kind == "cpu" and allocated is not None:
        allocated += weight_bytes + (kv_cache_bytes if work.phase is Phase.DECODE else 0)
    return Memory(
        weight_bytes=weight_bytes, kv_cache_bytes=kv_cache_bytes, peak_allocated_bytes=allocated,
        peak_reserved_bytes=peak.peak_reserved_bytes, peak_process_bytes=peak.peak_process_bytes, method=peak.method,
    )  # fmt: skip


@contextlib.contextmanager
def moved_away(candidate: nn.Module, reference: nn.Module, device: Device) -> Iterator[None]:
    """The reference's weights that the candidate does not share, in host memory for the time being (CUDA only: on a
    CPU there is nowhere to move them, and live tensors of the pass are counted one by one)."""
    if device.kind == "cpu":
        yield
        return
    shared = {id(parameter) for parameter in candidate.parameters()}
    own = [parameter for parameter in reference.parameters() if id(parameter) not in shared]
    for parameter in own:
        parameter.data = parameter.data.to("cpu")
    try:
        yield
    finally:
        device.release()
        for parameter in own:
            parameter.data = parameter.data.to(device.torch_device)
        torch.cuda.synchronize()
