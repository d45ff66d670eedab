"""The forward pass of each family, operation by operation, as transformers 5 executes it.

A pass is a prologue (embeddings), layers, and an epilogue (final norm, LM head or pooler). Names in a layer are
relative to it; `INPUT` stands for the layer's input and `TABLES` for the rotary tables. `holds` follow the locals of
the modules' forward methods: a layer's input lives in the caller's frame until the layer returns, a normed input until
the block that takes it as an argument returns.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import replace

from costmodel.forward.attention import add_attention, add_masks
from costmodel.forward.cost import FP32_BYTES, INDEX_BYTES, OpCost, elementwise
from costmodel.forward.ops import Builder, Op
from costmodel.forward.workload import LmHead, Workload
from costmodel.model import Family, ModelSpec, WeightTensor

INPUT = "$input"
TABLES = "model.rotary_emb"
POSITIONS = "position_ids"
_POSITION_KERNELS = {"llama": 2, "mistral": 2, "qwen2": 2, "qwen3": 2, "gpt2": 2, "opt": 6, "bert": 1, "roberta": 9}
"""Kernels that number the positions (of BERT: the token types); OPT and RoBERTa count through a mask."""


@functools.lru_cache(maxsize=256)
def layer_ops(model: ModelSpec, work: Workload, window: int | None) -> tuple[Op, ...]:
    """Operations of one dense layer with this sliding window, in execution order; the last one is its output."""
    b = Builder(model, work)
    _LAYERS[model.family](b, window)
    last = b.ops.pop()
    return (*b.ops, replace(last, holds=(*last.holds, *carried(model, prologue_ops(model, work)))))


@functools.lru_cache(maxsize=256)
def prologue_ops(model: ModelSpec, work: Workload) -> tuple[Op, ...]:
    """Operations before the first layer; the first layer's input is `first_input` of them."""
    b = Builder(model, work)
    b.ops.extend(position_ops(model, work))
    _PROLOGUES[model.family](b)
    return tuple(b.ops)


def position_ops(model: ModelSpec, work: Workload) -> list[Op]:
    """What numbers the positions and masks the scores: the only operations outside the layers that see kv_len."""
    b = Builder(model, work)
    kernels, rows = _POSITION_KERNELS[model.model_type], work.q_len
    if model.model_type in ("opt", "roberta"):
        rows = work.batch * work.kv_len
    kept = FP32_BYTES + INDEX_BYTES if model.model_type == "opt" else INDEX_BYTES
    cost = OpCost(act_write_bytes=INDEX_BYTES * kernels * rows, kernels=kernels)
    b.add(POSITIONS, "elementwise", cost, [], kept * rows // work.act_bytes)
    add_masks(b)
    return b.ops


@functools.lru_cache(maxsize=256)
def epilogue_ops(model: ModelSpec, work: Workload) -> tuple[Op, ...]:
    """Operations after the last layer, whose output is INPUT; all but the LM head hold the prologue's locals."""
    b = Builder(model, work)
    _epilogue(b)
    held = carried(model, prologue_ops(model, work))
    return tuple(op if op.name == "lm_head" else replace(op, holds=(*op.holds, *held)) for op in b.ops)


def first_input(prologue: tuple[Op, ...]) -> str:
    """Name of the prologue's result that enters the first layer: the last one that is not the rotary tables."""
    return next(op.name for op in reversed(prologue) if op.name != TABLES)


def carried(model: ModelSpec, prologue: tuple[Op, ...]) -> tuple[str, ...]:
    """Names of the prologue's results that locals of the model's forward keep alive through all layers."""
    first = first_input(prologue)
    if model.is_encoder:
        return (first,)
    gone = {first} if model.family is not Family.LLAMA else set()
    if model.embed_dim != model.hidden_size:
        gone.add("model.decoder.embed_tokens")
    return tuple(op.name for op in prologue if op.name not in gone)


def _llama_layer(b: Builder, window: int | None) -> None:
    model, work = b.model, b.work
    q, k, v, o, gate, up, down = model.tensors
    normed = b.norm("input_layernorm", INPUT)

    def projected_heads(tensor: WeightTensor, norm: str, heads: int) -> str:
        source = b.site(tensor, normed, holds=[INPUT])
        rows = work.tokens * heads
        return b.norm(f"self_attn.{norm}", source, rows=rows, columns=model.head_dim) if model.qk_norm else source

    query = projected_heads(q, "q_norm", model.num_heads)
    key = projected_heads(k, "k_norm", model.num_kv_heads)
    value = b.site(v, normed, holds=[INPUT])
    query, key = (_rotate(b, *part) for part in (("q", query, model.q_size, ()), ("k", key, model.kv_size, (query,))))
    context, kept, held = add_attention(b, "self_attn", query, [key, value], window)
    projected = b.site(o, context, holds=[normed, query, *held])
    residual = b.pointwise("add_attention", "add", [INPUT, projected], model.hidden_size)
    normed = b.norm("post_attention_layernorm", residual)
    inner = model.intermediate_size
    gated = b.activation("mlp.act_fn", b.site(gate, normed), inner, holds=[normed])
    product = b.pointwise("mlp.mul", "mul", [gated, b.site(up, normed)], inner, holds=[normed])
    output = b.site(down, product, holds=[normed])
    b.pointwise("add_mlp", "add", [residual, output], model.hidden_size, holds=[INPUT, *_other(kept, context)])


def _rotate(b: Builder, which: str, source: str, columns: int, holds: tuple[str, ...]) -> str:
    cost = elementwise("rotate", b.work.tokens, columns, act_bytes=b.work.act_bytes)
    size = b.work.tokens * columns
    return b.add(f"self_attn.rotary_{which}", "rope", cost, [source, TABLES], size, workspace=2 * size, holds=holds)


def _bert_layer(b: Builder, window: int | None) -> None:
    hidden = b.model.hidden_size
    q, k, v, attn_output, intermediate, output = b.model.tensors
    query, key, value = (b.site(tensor, INPUT) for tensor in (q, k, v))
    context, kept, _ = add_attention(b, "attention.self", query, [key, value], window)
    dense = b.site(attn_output, context)
    added = b.pointwise("attention.output.add", "add", [dense, INPUT], hidden)
    attended = b.norm("attention.output.LayerNorm", added, holds=[dense, context])
    inner = b.activation("intermediate.intermediate_act_fn", b.site(intermediate, attended), b.model.intermediate_size)
    dense = b.site(output, inner)
    added = b.pointwise("output.add", "add", [dense, attended], hidden, holds=[inner])
    b.norm("output.LayerNorm", added, holds=[INPUT, attended, dense, inner, *_other(kept, context)])


def _gpt2_layer(b: Builder, window: int | None) -> None:
    hidden = b.model.hidden_size
    c_attn, attn_proj, c_fc, mlp_proj = b.model.tensors
    normed = b.norm("ln_1", INPUT)
    packed = b.site(c_attn, normed)
    context, kept, _ = add_attention(b, "attn", packed, [packed], window)
    projected = b.site(attn_proj, context, holds=[packed])
    residual = b.pointwise("add_attention", "add", [projected, INPUT], hidden, holds=[normed])
    normed = b.norm("ln_2", residual, holds=[projected])
    inner = b.activation("mlp.act", b.site(c_fc, normed), b.model.intermediate_size)
    output = b.site(mlp_proj, inner)
    b.pointwise("add_mlp", "add", [residual, output], hidden, holds=[INPUT, normed, projected, *_other(kept, context)])


def _opt_layer(b: Builder, window: int | None) -> None:
    model, hidden = b.model, b.model.hidden_size
    q, k, v, out, fc1, fc2 = model.tensors
    source = b.norm("self_attn_layer_norm", INPUT) if model.pre_norm else INPUT
    query = b.pointwise("self_attn.scale_q", "scale", [b.site(q, source)], hidden)
    key, value = b.site(k, source), b.site(v, source)
    context, kept, _ = add_attention(b, "self_attn", query, [key, value], window)
    projected = b.site(out, context, holds=[source, query])
    residual = b.pointwise("add_attention", "add", [INPUT, projected], hidden)
    if not model.pre_norm:
        residual = b.norm("self_attn_layer_norm", residual)
    source = b.norm("final_layer_norm", residual) if model.pre_norm else residual
    inner = b.activation("activation_fn", b.site(fc1, source), model.intermediate_size)
    output = b.site(fc2, inner)
    last = b.pointwise("add_mlp", "add", [residual, output], hidden, holds=[INPUT, *_other(kept, context)])
    if not model.pre_norm:
        b.norm("final_layer_norm", last, holds=[INPUT, residual, *_other(kept, context)])


def _other(kept: str, context: str) -> list[str]:
    return [kept] if kept != context else []


def _llama_prologue(b: Builder) -> None:
    work, head_dim = b.work, b.model.head_dim
    program = "rotary_tables_fp32" if work.act_bytes == FP32_BYTES else "rotary_tables"
    cost = elementwise(program, work.q_len, head_dim, act_bytes=work.act_bytes)
    b.embed("model.embed_tokens", work.tokens, b.model.hidden_size)
    b.add(TABLES, "rope", cost, [POSITIONS], 2 * work.q_len * head_dim)


def _bert_prologue(b: Builder) -> None:
    hidden, tokens = b.model.hidden_size, b.work.tokens
    words = b.embed("embeddings.word_embeddings", tokens, hidden)
    types = b.embed("embeddings.token_type_embeddings", tokens, hidden)
    added = b.pointwise("embeddings.add_token_types", "add", [words, types], hidden)
    rows = tokens if b.model.model_type == "roberta" else b.work.q_len  # RoBERTa numbers each sequence by itself
    positions = b.embed("embeddings.position_embeddings", rows, hidden, [POSITIONS])
    added = b.pointwise("embeddings.add_positions", "add", [added, positions], hidden, holds=[words, types])
    b.norm("embeddings.LayerNorm", added, holds=[words, types, positions, POSITIONS])


def _gpt2_prologue(b: Builder) -> None:
    words = b.embed("transformer.wte", b.work.tokens, b.model.hidden_size)
    positions = b.embed("transformer.wpe", b.work.q_len, b.model.hidden_size, [POSITIONS])
    b.pointwise("transformer.add_positions", "add", [words, positions], b.model.hidden_size)


def _opt_prologue(b: Builder) -> None:
    model, tokens = b.model, b.work.tokens
    words = b.embed("model.decoder.embed_tokens", tokens, model.embed_dim)
    positions = b.embed("model.decoder.embed_positions", tokens, model.hidden_size, [POSITIONS])
    if model.embed_dim != model.hidden_size:
        words = b.linear("model.decoder.project_in", tokens, model.hidden_size, model.embed_dim, words, bias=False)
    b.pointwise("model.decoder.add_positions", "add", [words, positions], model.hidden_size)


def _epilogue(b: Builder) -> None:
    model, work = b.model, b.work
    last = INPUT
    if model.final_norm:
        last = b.norm(_FINAL_NORM[model.family], last)
    if model.embed_dim != model.hidden_size:
        last = b.linear("model.decoder.project_out", work.tokens, model.embed_dim, model.hidden_size, last, bias=False)
    if model.pooler:
        pooled = b.linear("pooler.dense", work.batch, model.hidden_size, model.hidden_size, last, bias=True)
        b.pointwise("pooler.activation", "tanh", [pooled], model.hidden_size, rows=work.batch, holds=[last])
    if not model.is_encoder:
        rows = work.batch if work.lm_head is LmHead.LAST else work.tokens
        b.linear("lm_head", rows, model.vocab_size, model.embed_dim, last, bias=False)


_LAYERS: dict[Family, Callable[[Builder, int | None], None]] = {
    Family.LLAMA: _llama_layer,
    Family.BERT: _bert_layer,
    Family.GPT2: _gpt2_layer,
    Family.OPT: _opt_layer,
}
_PROLOGUES: dict[Family, Callable[[Builder], None]] = {
    Family.LLAMA: _llama_prologue,
    Family.BERT: _bert_prologue,
    Family.GPT2: _gpt2_prologue,
    Family.OPT: _opt_prologue,
}
_FINAL_NORM = {
    Family.LLAMA: "model.norm",
    Family.GPT2: "transformer.ln_f",
    Family.OPT: "model.decoder.final_layer_norm",
}
