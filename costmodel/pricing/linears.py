"""Linears as columns: many (m, k) @ (k, n) with one m at once, for the array paths."""

from __future__ import annotations

import numpy as np

from costmodel.arrays import Ints
from costmodel.forward.cost import gemm_counts
from costmodel.forward.workload import Workload
from costmodel.timing.columns import OpColumns


def linear_columns(work: Workload, n: Ints, k: Ints, bias: Ints) -> tuple[OpColumns, Ints]:
    """Decomposable linears, dense ones or factors, under a workload; entries with n or k of 0 stand for none.

    Args:
        work: gives m, the tokens, and the types.
        n, k, bias: output and input features and elements of the bias, int64 of one shape.

    Returns:
        The columns, and the bytes that each weight and bias take, int64 of the same shape.
    """
    kernels = np.minimum(n * k, 1)
    n, k = n * kernels, k * kernels
    flops, weights, read, written = gemm_counts(
        work.tokens, n, k, bias * kernels, act_bytes=work.act_bytes, weight_dtype=work.site_dtype
    )
    columns = OpColumns(
        kind="gemm",
        m=work.tokens * kernels,
        n=n,
        k=k,
        matrix_flops=flops,
        vector_flops=np.zeros_like(n),
        hbm_bytes=weights + read + written,
        kernels=kernels,
    )
    return columns, weights
