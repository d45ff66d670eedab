"""The layer of a model that words describe: its tensors and its operations.

A layer mixes positions by attention, by a state space or short convolution, or by both at once, and passes an MLP, a
mixture of experts, or both; a layer may have one of the two alone (Mamba, Nemotron-H).
"""

from __future__ import annotations

from collections.abc import Sequence

from costmodel.families.experts import add_mlp, expert_tensors
from costmodel.families.indexer_layer import add_block_indexer, indexer_params, indexer_tensors
from costmodel.families.latent_layer import add_latent_block, latent_params, latent_tensors
from costmodel.families.recurrent_layer import add_mixer, mixer_params, mixer_tensors
from costmodel.families.residuals import add_weighed, residual_params
from costmodel.families.rotary import add_clip
from costmodel.forward.attention import add_attention
from costmodel.forward.cost import OpCost, elementwise
from costmodel.forward.frame import INPUT
from costmodel.forward.ops import Builder
from costmodel.model import ModelSpec
from costmodel.tensors import WeightTensor, attention_weight, mlp_weight
from costmodel.words import Words


def words_of(spec: ModelSpec) -> Words:
    """The words of a model that a row of `decoder_row` has read."""
    assert spec.words is not None
    return spec.words


def decoder_tensors(spec: ModelSpec) -> tuple[WeightTensor, ...]:
    """Those of linear attention, a state space or convolution; of attention; of experts; of the MLP."""
    words, attention = words_of(spec), tuple[WeightTensor, ...]()
    mixer = mixer_tensors(spec)
    if spec.attends:
        attention = latent_tensors(spec) if spec.latent else attention_tensors(spec)
    experts = expert_tensors(spec, words.experts or words.mlp, words.shared) if spec.experts else ()
    return (*mixer, *attention, *experts, *(mlp_tensors(spec) if _has_mlp(spec) else ()))


def attention_tensors(spec: ModelSpec) -> tuple[WeightTensor, ...]:
    """q, k, v or all at once, a gate, and attention's output."""
    words, hidden = words_of(spec), spec.hidden_size
    wide = (spec.q_size, spec.kv_size, spec.value_size)[: len(words.qkv)]
    if len(words.qkv) == 1 and not words.shared_cache:
        wide = (spec.q_size + spec.kv_size + spec.value_size,)
    out_bias = spec.attn_out_bias if words.out_bias is None else words.out_bias
    out = _name(words, words.attention, words.out)
    return (
        *(
            attention_weight(_name(words, "", leaf), f"{words.attention}.{leaf}", size, hidden, bias=spec.qkv_bias)
            for leaf, size in zip(words.qkv, wide, strict=True)
        ),
        *indexer_tensors(spec, words.attention),
        *_gate_tensors(spec),
        attention_weight(out, f"{words.attention}.{words.out}", hidden, spec.mixed_size, bias=out_bias),
    )


def _gate_tensors(spec: ModelSpec) -> tuple[WeightTensor, ...]:
    """The projection to the gate of attention's result, where there is one."""
    words = words_of(spec)
    if not words.gate:
        return ()
    wide = spec.num_heads if words.gate_by_head else spec.mixed_size
    path = f"{words.attention}.{words.gate}"
    return (attention_weight(_name(words, words.attention, words.gate), path, wide, spec.hidden_size, bias=False),)


def mlp_tensors(spec: ModelSpec) -> tuple[WeightTensor, ...]:
    """Those to intermediate_size, and the one back."""
    words, hidden, inner = words_of(spec), spec.hidden_size, spec.intermediate_size
    down_bias = spec.mlp_bias if words.down_bias is None else words.down_bias
    path, wide = f"{words.mlp}." if words.mlp else "", (1 + words.packed_gate) * inner
    down = _name(words, words.mlp, words.down)
    return (
        *(mlp_weight(_name(words, "", leaf), path + leaf, wide, hidden, bias=spec.mlp_bias) for leaf in words.ups),
        mlp_weight(down, path + words.down, hidden, inner, bias=down_bias),
    )


def _name(words: Words, path: str, leaf: str) -> str:
    """What a tensor is called: as its module, or as the words say of it."""
    called = dict(words.names)
    return called.get(f"{path}.{leaf}", called.get(leaf, leaf))


def _has_mlp(spec: ModelSpec) -> bool:
    """Whether a plain MLP stands in a layer, alone or beside experts."""
    words = words_of(spec)
    return bool(words.ups) and (spec.experts is None or bool(words.experts))


def extra_params(spec: ModelSpec) -> int:
    """Parameters of one layer beside its tensors and its norms over hidden_size: other norms, sinks, a router, a state
    space's own."""
    words = words_of(spec)
    sizes = {
        "none": 0,
        "head": 2 * spec.head_dim,
        "whole": spec.q_size + spec.kv_size,
        "each_head": spec.q_size + spec.kv_size,
    }
    norms = sizes[words.qk_norm] * (2 if words.qk_norm_bias else 1)
    norms = norms // 2 if words.shared_cache else norms
    norms = (norms + (spec.mixed_size if words.attention_norm else 0)) * spec.norm_affine
    norms = latent_params(spec) if spec.latent else norms
    norms += indexer_params(spec.indexer)
    attention = norms + (spec.num_heads if words.sinks else 0) if spec.attends else 0
    inner = spec.intermediate_size if words.mlp_norm and _has_mlp(spec) else 0
    router = spec.experts.number * (spec.hidden_size + spec.experts.router_bias) if spec.experts else 0
    if spec.experts and spec.experts.width_norm:
        inner += spec.experts.width
    if words.residual_blocks:
        inner += 2 * residual_params(spec)
    return attention + inner + router + mixer_params(spec)


def add_layer(b: Builder, window: int | None) -> None:
    """The operations of one layer; of one that has neither block an empty one."""
    words, hidden = words_of(b.model), b.model.hidden_size
    norms = iter(words.norms)

    def normed(source: str, holds: Sequence[str] = ()) -> str:
        path = next(norms)
        return b.norm(path, source, holds=holds) if path else source

    before, behind = words.placing in ("pre", "sandwich", "parallel"), words.placing in ("post", "sandwich")
    if words.placing == "parallel":
        first = normed(INPUT)
        mixed, weights = _mix(b, first, window)
        source = first if len(words.norms) == 1 else normed(INPUT)
        added = b.pointwise("add_attention", "add", [INPUT, mixed], hidden)
        b.pointwise("add_mlp", "add", [added, _feed_forward(b, source)], hidden, holds=[INPUT, *weights])
        return
    if not _mixes(b.model) and not _feeds(b.model):
        b.add("passed", "elementwise", OpCost(), [INPUT], b.work.tokens * hidden)
        return
    residual, held, weights = INPUT, list[str](), tuple[str, ...]()
    for which in ("attention", "mlp"):
        if not (_mixes(b.model) if which == "attention" else _feeds(b.model)):
            continue
        read = add_weighed(b, f"{which}_res", residual)
        source = normed(read) if before else read
        if which == "attention":
            result, weights = _mix(b, source, window)
        else:
            result, held = _feed_forward(b, source), [INPUT, *weights]
        result = _scaled(b, which, normed(result) if behind else result)
        residual = b.pointwise(f"add_{which}", "add", [residual, result], hidden, holds=held)
        if words.placing == "after":
            residual = normed(residual, held)


def _mixes(spec: ModelSpec) -> bool:
    return spec.attends or spec.recurrent is not None


def _feeds(spec: ModelSpec) -> bool:
    return spec.experts is not None or bool(words_of(spec).ups)


def _scaled(b: Builder, which: str, source: str) -> str:
    if not words_of(b.model).residual_scale:
        return source
    return b.pointwise(f"scale_{which}", "scale", [source], b.model.hidden_size)


def _mix(b: Builder, normed: str, window: int | None) -> tuple[str, tuple[str, ...]]:
    """What mixes positions: its result, and attention weights that live to the end of the layer."""
    if b.model.attends:
        add = add_latent_block if b.model.latent else add_attention_block
        if b.model.recurrent is None:
            return add(b, normed, window)
        result = add_mixer(b, normed)
        attended, weights = add(b, normed, window)
        return b.pointwise("add_mixers", "add", [result, attended], b.model.hidden_size), weights
    return add_mixer(b, normed), ()


def add_attention_block(b: Builder, normed: str, window: int | None) -> tuple[str, tuple[str, ...]]:
    """Attention and the linears around it: its result, and weights that live to the end of the layer."""
    model, words = b.model, words_of(b.model)
    tensors = {each.path: each for each in model.tensors}

    def site(leaf: str, source: str, holds: Sequence[str]) -> str:
        return b.site(tensors[f"{words.attention}.{leaf}"], source, holds=holds)

    made = [site(leaf, normed, [INPUT]) for leaf in words.qkv]
    query, key, value = made[0], made[min(1, len(made) - 1)], made[-1]
    own = not words.shared_cache
    if words.qkv_clip != "none" and len(made) == 1:
        query = key = value = add_clip(
            b, words.attention, "qkv", query, model.q_size + model.kv_size + model.value_size
        )
    if words.qk_norm != "none":
        query = _qk_norm(b, words.qk_norm_names[0], query, model.num_heads)
        key = _qk_norm(b, words.qk_norm_names[1], key, model.num_kv_heads) if own else query
    if words.qkv_clip != "none" and len(made) == 3:
        query = add_clip(b, words.attention, "q", query, model.q_size)
        key = add_clip(b, words.attention, "k", key, model.kv_size)
        value = add_clip(b, words.attention, "v", value, model.value_size)
    if words.rotary:
        query = _rotated(b, "q", query, model.q_size)
        key = _rotated(b, "k", key, model.kv_size) if own else query
    if words.v_norm and own:
        value = b.norm(
            f"{words.attention}.v_norm", value, rows=b.work.tokens * model.num_kv_heads, columns=model.head_dim
        )
    add_block_indexer(b, words.attention, normed)
    keys_values = list(dict.fromkeys([key, value])) if own else [query]  # those of another layer are not this one's
    attended = add_attention(b, words.attention, query, keys_values, window, append=own)
    result = attended.output
    if words.attention_norm:
        result = b.norm(f"{words.attention}.{words.attention_norm}", result, columns=model.mixed_size)
    if words.gate:
        gate = site(words.gate, normed, [result])
        result = b.pointwise(f"{words.attention}.gated", "mul", [result, gate], model.mixed_size)
    return site(words.out, result, [normed, query, *attended.held]), attended.weights


def _qk_norm(b: Builder, leaf: str, source: str, heads: int) -> str:
    words, width, rows = words_of(b.model), b.model.head_dim, b.work.tokens * heads
    if words.qk_norm == "whole":
        width, rows = width * heads, b.work.tokens
    return b.norm(f"{words.attention}.{leaf}", source, rows=rows, columns=width)


def _rotated(b: Builder, which: str, source: str, columns: int) -> str:
    words = words_of(b.model)
    turned = max(2, int(columns * words.rotary_share))
    cost = elementwise("rotate", b.work.tokens, turned, act_bytes=b.work.act_bytes)
    size, name = b.work.tokens * columns, f"{words.attention}.rotary_{which}"
    return b.add(name, "rope", cost, [source, words.tables], size, workspace=2 * b.work.tokens * turned)


def _feed_forward(b: Builder, source: str) -> str:
    """A plain MLP, a mixture of experts, or the sum of both."""
    words = words_of(b.model)
    if b.model.experts is None:
        return add_plain_mlp(b, source)
    routed = add_mlp(b, source, words.experts or words.mlp, words.shared)
    if not _has_mlp(b.model):
        return routed
    return b.pointwise("add_experts", "add", [routed, add_plain_mlp(b, source)], b.model.hidden_size)


def add_plain_mlp(b: Builder, source: str) -> str:
    """The linears to and from intermediate_size and what is between them."""
    model, words = b.model, words_of(b.model)
    path, inner = f"{words.mlp}." if words.mlp else "", model.intermediate_size
    tensors = {each.path: each for each in model.tensors}
    made = [b.site(tensors[path + leaf], source) for leaf in words.ups]
    last = b.activation(f"{path}act_fn", made[0], inner)
    if model.gated_mlp:
        last = b.pointwise(f"{path}mul", "mul", [last, made[-1]], inner)
    if words.mlp_norm:
        last = b.norm(path + words.mlp_norm, last, columns=inner)
    return b.site(tensors[path + words.down], last, holds=[source])
