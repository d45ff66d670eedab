"""Tables of operations and forms without a correction, for tests of fits."""

from __future__ import annotations

import numpy as np

from costmodel.timing.calibration.base import Base
from costmodel.timing.calibration.net import Net
from costmodel.timing.calibration.shaped import FormKind, ShapedForm
from validate.calibration.spread import no_spread
from validate.calibration.tables import OpTable

BASE = Base(flops_per_s=2e14, bytes_per_s=1e12, fixed_s=3e-6, overlap=1.5)
RANGES: dict[FormKind, tuple[list[float], list[float]]] = {
    "gemm": ([1, 32, 48], [4096, 8192, 8192]),
    "prefill": ([1, 16, 16, 4, 1, 64], [16, 2048, 4096, 32, 32, 128]),
    "decode": ([1, 1, 16, 4, 1, 64], [16, 1, 4096, 32, 32, 128]),
}


def form_of(kind: FormKind) -> ShapedForm:
    """A form without a correction."""
    low, high = (np.array(each, dtype=np.float64) for each in RANGES[kind])
    return ShapedForm(
        kind=kind,
        base=BASE,
        net=Net(layers=()),
        spread=no_spread(),
        alignment=None,
        cores=108,
        cache_bytes=4e7,
        element_bytes=2,
        cache_element_bytes=2,
        output_bytes=None,
        cold_bytes=0.0,
        low=low,
        high=high,
        multiple=1,
    )


def table_of(kind: FormKind, count: int) -> OpTable:
    """Shapes within the range of the form."""
    rng, (low, high) = np.random.default_rng(1), RANGES[kind]
    shape = np.round(2 ** rng.uniform(np.log2(low), np.log2(high), (count, len(low)))).T
    if kind == "prefill":
        shape[2] = np.minimum(shape[1] + rng.integers(0, 50, count), high[2])
    if kind != "gemm":
        shape[4] = np.minimum(shape[3], shape[4])
    return OpTable(kind=kind, shape=shape, seconds=np.linspace(1e-5, 1e-3, count))
