"""Memory of one pass of a candidate, in a pass of its own without the dense weights that it replaces."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import torch
from torch import nn

from costmodel.forward.workload import Phase, Workload
from validate.devices.device import Device
from validate.models.passes import Pass
from validate.speed.records import Memory


def measure_memory(
    device: Device,
    candidate: nn.Module,
    reference: nn.Module,
    run: Pass,
    work: Workload,
    kv_cache_bytes: int,
    remake: Callable[[torch.Size, int], torch.Tensor] | None = None,
) -> Memory:
    """Run the candidate once with the reference's own weights moved away.

    Args:
        candidate, reference: trees that share the untouched weights.
        run: the candidate's pass of `work`.
        kv_cache_bytes: of the cache that the pass ends with; a prefill makes it, a decode step finds it there.
        remake: as `moved_away` takes it.
    """
    weight_bytes = sum(parameter.nbytes for parameter in candidate.parameters())
    with moved_away(candidate, reference, device, remake):
        run()
        peak = device.peak_memory(run)
    allocated = peak.peak_allocated_bytes
    if device.kind == "cpu" and allocated is not None:
        allocated += weight_bytes + (kv_cache_bytes if work.phase is Phase.DECODE else 0)
    return Memory(
        weight_bytes=weight_bytes,
        kv_cache_bytes=kv_cache_bytes,
        peak_allocated_bytes=allocated,
        peak_reserved_bytes=peak.peak_reserved_bytes,
        peak_process_bytes=peak.peak_process_bytes,
        method=peak.method,
    )


@contextlib.contextmanager
def moved_away(
    candidate: nn.Module,
    reference: nn.Module,
    device: Device,
    remake: Callable[[torch.Size, int], torch.Tensor] | None = None,
) -> Iterator[None]:
    """The reference's weights that the candidate does not share, off the device for the time being (not on a CPU, where
    live tensors of the pass are counted one by one).

    Args:
        remake: makes the random matrix of a shape and of a place among the reference's parameters anew, which is faster
            than keeping it in host memory; None keeps it.
    """
    if device.kind == "cpu":
        yield
        return
    shared = {id(parameter) for parameter in candidate.parameters()}
    kept: list[tuple[int, nn.Parameter, torch.Size, torch.Tensor | None]] = []
    for place, parameter in enumerate(reference.parameters()):
        if id(parameter) not in shared:
            drop = remake is not None and parameter.dim() >= 2
            kept.append((place, parameter, parameter.shape, None if drop else parameter.data.to("cpu")))
            parameter.data = torch.empty(0, dtype=parameter.dtype, device=parameter.device)
    try:
        yield
    finally:
        device.release()
        for place, parameter, shape, data in kept:
            if data is None and remake is not None:
                parameter.data = remake(shape, place)
            elif data is not None:
                parameter.data = data.to(device.torch_device)
        device.synchronize()
