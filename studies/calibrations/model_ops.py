"""Published per-op times of whole models as tables: linears, and kernels that move data. No torch.

Columns and method: Vidur's profiling data (MIT licence), medians in whole or half microseconds against num_tokens and
tensor-parallel workers, 16-bit values, q, k, v in one linear and gate and up in one, all other kernels fused.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from costmodel.files.table import read_table
from validate.calibration.streams import StreamTable
from validate.calibration.tables import Floats, OpTable
from validate.errors import RecordError

LLAMA = {"n_head": 32, "n_kv_head": 32, "n_embd": 4096, "n_expanded_embd": 11008, "use_gated_mlp": True}
"""Of Llama 2 7B, whose table leaves them out; one worker."""
_WORKERS = "num_tensor_parallel_workers"


def read_model_ops(path: Path) -> tuple[dict[str, OpTable], list[StreamTable]]:
    """The linears of all models by name, and the other classes.

    Raises:
        RecordError: when the file cannot be read or lacks a column.
    """
    columns = read_table(path, RecordError).columns
    try:
        tokens = np.asarray(columns["num_tokens"], dtype=np.float64)
        about = {name: np.asarray(columns.get(name, np.full(len(tokens), LLAMA[name]))) for name in LLAMA}
        workers = np.asarray(columns.get(_WORKERS, np.ones(len(tokens))), dtype=np.float64)
        return _tables(columns, tokens, about, workers)
    except (ValueError, KeyError) as error:
        raise RecordError("not a table of models' operations", value=str(path), hint=str(error)) from error


def _tables(
    columns: Mapping[str, Any], tokens: Floats, about: Mapping[str, Any], workers: Floats
) -> tuple[dict[str, OpTable], list[StreamTable]]:
    hidden = about["n_embd"].astype(np.float64)
    head_dim = hidden / about["n_head"]
    queries, keys = hidden / workers, about["n_kv_head"] * head_dim / workers
    inner, gated = about["n_expanded_embd"] / workers, about["use_gated_mlp"].astype(bool)
    shapes = {
        "attn_pre_proj_us": (queries + 2 * keys, hidden),
        "attn_post_proj_us": (hidden, queries),
        "mlp_up_proj_us": (inner * np.where(gated, 2, 1), hidden),
        "mlp_down_proj_us": (hidden, inner),
    }
    # Bytes of one fused kernel: a norm reads and writes a row and reads its weight, rope reads and writes q and k, an
    # activation reads what the linear before it wrote, an addition reads two rows, a look-up reads and writes one.
    moved = {
        "embedding": (("emb_us",), tokens * (4 * hidden + 8)),
        "norm": (("input_layernorm_us", "post_attention_layernorm_us"), 4 * tokens * hidden + 2 * hidden),
        "rope": (("attn_rope_us",), 4 * tokens * (queries + keys)),
        "activation": (("mlp_act_us",), tokens * inner * np.where(gated, 6, 4)),
        "elementwise": (("add_us",), 6 * tokens * hidden),
    }
    linears = {name.removesuffix("_us"): _gemm(tokens, n, k, columns[name]) for name, (n, k) in shapes.items()}
    return linears, [_stream(kind, sizes, [columns[name] for name in names]) for kind, (names, sizes) in moved.items()]


def _gemm(tokens: Floats, n: Floats, k: Floats, microseconds: Any) -> OpTable:
    seconds = np.asarray(microseconds, dtype=np.float64) * 1e-6
    there = np.isfinite(seconds)
    return OpTable(kind="gemm", shape=np.stack([tokens, n, k])[:, there], seconds=seconds[there])


def _stream(kind: str, moved: Floats, columns: list[Any]) -> StreamTable:
    seconds = np.concatenate([np.asarray(each, dtype=np.float64) for each in columns]) * 1e-6
    there = np.isfinite(seconds)
    return StreamTable(kind=kind, moved=np.tile(moved, len(columns))[there], seconds=seconds[there])
