"""The published per-op times of Llama 2 7B on an A100 as tables: linears, and kernels that move data. No torch.

Columns and method: Vidur's profiling data (MIT licence), medians in whole or half microseconds against num_tokens, with
q, k, v in one linear and gate and up in one.
"""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np

from validate.calibration.streams import StreamTable
from validate.calibration.tables import OpTable
from validate.errors import RecordError

HIDDEN, INNER = 4096, 11008
GEMMS = {
    "attn_pre_proj_us": (3 * HIDDEN, HIDDEN),
    "attn_post_proj_us": (HIDDEN, HIDDEN),
    "mlp_up_proj_us": (2 * INNER, HIDDEN),
    "mlp_down_proj_us": (HIDDEN, INNER),
}
"""(n, k) of each linear."""
STREAMS = {
    "embedding": (("emb_us",), 4 * HIDDEN + 8, 0),
    "norm": (("input_layernorm_us", "post_attention_layernorm_us"), 4 * HIDDEN, 2 * HIDDEN),
    "rope": (("attn_rope_us",), 8 * HIDDEN, 0),
    "activation": (("mlp_act_us",), 6 * INNER, 0),
    "elementwise": (("add_us",), 6 * HIDDEN, 0),
}
"""By class: columns, bytes per token and bytes besides, of one fused kernel on 16-bit values: the norm reads and writes
a row, rope does so with q and k, the activation reads gate and up and writes their product, the add reads two rows."""


def read_llama(path: Path) -> tuple[dict[str, OpTable], list[StreamTable]]:
    """The linears by column name, and the other classes.

    Raises:
        RecordError: when the file cannot be read or lacks a column.
    """
    try:
        with path.open(newline="") as stream:
            rows = list(csv.DictReader(stream))
        columns = {name: np.array([float(row[name]) for row in rows]) for name in rows[0]}
        tokens = columns["num_tokens"]
        gemms = {}
        for name, (n, k) in GEMMS.items():
            shape = np.stack([tokens, np.full_like(tokens, n), np.full_like(tokens, k)])
            gemms[name] = OpTable(kind="gemm", shape=shape, seconds=columns[name] * 1e-6)
        streams = []
        for kind, (names, per_token, besides) in STREAMS.items():
            moved = np.tile(tokens * per_token + besides, len(names))
            seconds = np.concatenate([columns[name] for name in names]) * 1e-6
            streams.append(StreamTable(kind=kind, moved=moved, seconds=seconds))
        return gemms, streams
    except (OSError, ValueError, KeyError, IndexError) as error:
        raise RecordError("not a table of Llama 2 7B's operations", value=str(path), hint=str(error)) from error
