"""The forward pass of any model: what comes before its layers, one layer, and what comes after, as operations.

What those operations are, the row of the model's family says (`costmodel.families.row`), in the order and with the
names of transformers' modules. Names in a layer are relative to it; `INPUT` stands for the layer's input. `holds`
follow the locals of the modules' forward methods: a layer's input lives in the caller's frame until the layer returns,
a normed input until the block that takes it as an argument returns.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

from costmodel.forward.attention import add_masks
from costmodel.forward.cost import INDEX_BYTES, OpCost, activation_program
from costmodel.forward.ops import Builder, Op
from costmodel.forward.workload import LmHead, Workload
from costmodel.model import ModelSpec

INPUT = "$input"
POSITIONS = "position_ids"
LM_HEAD = "lm_head"


class Start(NamedTuple):
    """What a prologue leaves to the layers, as names of operations."""

    first: str
    """What enters the first layer."""
    carried: tuple[str, ...]
    """What locals of the model's forward keep alive through all layers."""


class Prologue(NamedTuple):
    """The operations before the first layer, and what they leave to the layers."""

    ops: tuple[Op, ...]
    start: Start


@functools.lru_cache(maxsize=256)
def layer_ops(model: ModelSpec, work: Workload, window: int | None) -> tuple[Op, ...]:
    """Operations of one dense layer with this sliding window, in execution order; the last one is its output."""
    b = Builder(model, work)
    model.family.layer(b, window)
    last = b.ops.pop()
    return (*b.ops, last._replace(holds=(*last.holds, *prologue(model, work).start.carried)))


@functools.lru_cache(maxsize=256)
def prologue(model: ModelSpec, work: Workload) -> Prologue:
    """What comes before the first layer."""
    b = Builder(model, work)
    b.ops.extend(position_ops(model, work))
    start = Start(*model.family.prologue(b))
    return Prologue(tuple(b.ops), start) if work.tp == 1 else _summed_words(b, start)


def _summed_words(b: Builder, start: Start) -> Prologue:
    """The same where each of several devices holds some rows of the token table, and looks up zeros for the others."""
    place = next(index for index, op in enumerate(b.ops) if op.kind == "embedding" and not op.inputs)
    words, after = b.ops[place], b.ops[place + 1 :]
    del b.ops[place + 1 :]
    summed = b.collective("all_reduce", words.name, words.out_bytes // b.work.act_bytes)

    def renamed(names: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(summed if name == words.name else name for name in names)

    b.ops += [op._replace(inputs=renamed(op.inputs), holds=renamed(op.holds)) for op in after]
    first, carried = renamed((start.first,))[0], renamed(start.carried)
    return Prologue(tuple(b.ops), Start(first, carried))


def position_ops(model: ModelSpec, work: Workload) -> list[Op]:
    """What numbers the positions and masks the scores: the only operations outside the layers that see kv_len."""
    b = Builder(model, work)
    model.family.positions(b)
    add_masks(b)
    return b.ops


@functools.lru_cache(maxsize=256)
def epilogue_ops(model: ModelSpec, work: Workload) -> tuple[Op, ...]:
    """Operations after the last layer, whose output is INPUT; all but the LM head hold the prologue's locals."""
    b = Builder(model, work)
    model.family.epilogue(b)
    held = prologue(model, work).start.carried
    return tuple(op if op.name == LM_HEAD else op._replace(holds=(*op.holds, *held)) for op in b.ops)


def add_positions(b: Builder, kernels: int, *, rows: int = 0, kept_bytes: int = INDEX_BYTES) -> None:
    """Kernels that number the positions, which are the same for all sequences or counted through a mask.

    Args:
        rows: numbers that each kernel writes; q_len where not given.
        kept_bytes: of each row, that stay to be looked up.
    """
    rows = rows or b.work.q_len
    cost = OpCost(act_write_bytes=INDEX_BYTES * kernels * rows, kernels=kernels)
    b.add(POSITIONS, "elementwise", cost, [], kept_bytes * rows // b.work.act_bytes)


def add_head(b: Builder, source: str) -> None:
    """What the class of the model has behind its body.

    A causal LM makes logits of the last position or of all, as the workload asks, and so do the parts before them; the
    parts of other heads read every token or the first of each sequence.
    """
    generates = b.model.head.kind == "causal_lm"
    last = generates and b.work.lm_head is LmHead.LAST
    for part in b.model.head.parts:
        rows = b.work.batch if part.first_token or last else b.work.tokens
        if part.in_features:
            source = b.linear(part.path, rows, part.out_features, part.in_features, source, bias=part.bias)
            source = _whole_vocabulary(b, source, rows) if part.vocabulary else source
        else:
            source = b.norm(part.path, source, rows=rows, columns=part.out_features)
        if part.activation:
            program = "tanh" if part.first_token else activation_program(b.model.activation)
            source = b.pointwise(f"{part.path}.activation", program, [source], part.out_features, rows=rows)
    if generates:
        _add_lm_head(b, source)


def _add_lm_head(b: Builder, source: str) -> None:
    rows = b.work.batch if b.work.lm_head is LmHead.LAST else b.work.tokens
    vocabulary, form = b.model.vocab_size, b.work.vocabulary_form
    logits = b.linear(LM_HEAD, rows, vocabulary, b.model.embed_dim, source, bias=b.model.lm_head_bias, form=form)
    _whole_vocabulary(b, logits, rows)


def _whole_vocabulary(b: Builder, logits: str, rows: int) -> str:
    """Logits of all tokens, where each of several devices made those of its share."""
    return logits if b.work.tp == 1 else b.collective("all_gather", logits, rows * b.model.vocab_size * b.work.tp)
