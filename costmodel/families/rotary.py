"""What decoders with rotary positions share: the tables, turned and clamped queries and keys, embeddings
and head, their row."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from costmodel.families.fields import Fields
from costmodel.families.lists import names_by_layer
from costmodel.families.row import FamilyRow
from costmodel.forward.cost import FP32_BYTES, elementwise
from costmodel.forward.frame import INPUT, POSITIONS, Start, add_head, add_positions
from costmodel.forward.ops import Builder
from costmodel.model import ModelSpec
from costmodel.tensors import WeightTensor

TABLES = "model.rotary_emb"
ATTENTION_TYPES = ("full_attention", "sliding_attention")


def number_positions(b: Builder) -> None:
    """Positions that are the same for all sequences."""
    add_positions(b, kernels=2)


def add_prologue(b: Builder) -> Start:
    """The token embeddings, and the cosines and sines of the positions."""
    work, width = b.work, b.model.rotary_dim
    words = b.embed("model.embed_tokens", work.tokens, b.model.hidden_size)
    program = "rotary_tables_fp32" if work.act_bytes == FP32_BYTES else "rotary_tables"
    cost = elementwise(program, work.q_len, width, act_bytes=work.act_bytes)
    b.add(TABLES, "rope", cost, [POSITIONS], 2 * work.q_len * width)
    return Start(words, tuple(op.name for op in b.ops))


def add_rotated(b: Builder, which: str, source: str, columns: int, holds: Sequence[str] = ()) -> str:
    """q or k (`which`) with `columns` of its features turned."""
    cost = elementwise("rotate", b.work.tokens, columns, act_bytes=b.work.act_bytes)
    size = b.work.tokens * columns
    return b.add(f"self_attn.rotary_{which}", "rope", cost, [source, TABLES], size, workspace=2 * size, holds=holds)


def add_epilogue(b: Builder) -> None:
    """The final norm and the LM head."""
    add_head(b, b.norm("model.norm", INPUT))


def read_layer_types(fields: Fields, layers: int, known: Sequence[str] = ATTENTION_TYPES) -> list[str] | None:
    """The field `layer_types`, as `names_by_layer` reads it."""
    return names_by_layer(fields, "layer_types", layers, known)


def add_clip(b: Builder, attention: str, which: str, source: str, columns: int) -> str:
    """The clamp of q, k, v or all at once, where the model's words have one; one in place has the name of its source,
    which lives on."""
    clip = b.model.words.qkv_clip if b.model.words else "none"
    if clip == "none":
        return source
    name, tokens = f"{attention}.clip_{which}", b.work.tokens
    if clip == "copied":
        return b.pointwise(name, "scale", [source], columns)
    b.add(name, "elementwise", elementwise("scale", tokens, columns, act_bytes=b.work.act_bytes), [source], 0)
    return source


def rotary_row(
    name: str,
    classes: Mapping[str, str],
    read: Callable[[Fields, FamilyRow], ModelSpec],
    tensors: Callable[[ModelSpec], tuple[WeightTensor, ...]],
    layer: Callable[[Builder, int | None], None],
    **options: Any,
) -> FamilyRow:
    """The row of a decoder with rotary positions and RMSNorm; arguments as of FamilyRow, `options` in place of what is
    given here."""
    made: dict[str, Any] = {
        "layer_path": "model.layers",
        "norm": "rms_norm",
        "upcasts_softmax": True,
        "positions": number_positions,
        "prologue": add_prologue,
        "epilogue": add_epilogue,
        **options,
    }
    return FamilyRow(name=name, classes=classes, read=read, tensors=tensors, layer=layer, **made)
