"""What explorations of a pipeline cannot search: costs that are no sums over layers."""

from __future__ import annotations

from collections.abc import Sequence

from costmodel.errors import InputError
from costmodel.forward.workload import Workload


def require_sums(workloads: Sequence[Workload], metrics: Sequence[str]) -> None:
    """Raise InputError where costs of a pipeline are no sums over layers: the fullest stage's, or the slowest one's."""
    if not any(work.pp > 1 for work in workloads):
        return
    if any(work.microbatches > 1 for work in workloads):
        many = workloads[0].microbatches
        raise InputError(
            "microbatches wait for the slowest stage, which is not searched",
            value=many,
            hint="leave --microbatches out",
        )
    if "peak_memory_bytes" in metrics:
        raise InputError(
            "peak memory is that of the fullest stage, which is not searched",
            value="peak_memory_bytes",
            hint="ask for weight_bytes, those of all stages together, or in recommend for --smaller",
        )
