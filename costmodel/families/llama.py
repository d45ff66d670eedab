"""The Llama family: Llama, Mistral, Qwen2 and Qwen3; RMSNorm before each block, RoPE, grouped heads, a gated MLP.

Defaults of absent fields are those of the configuration classes of transformers 5.23.
"""

from __future__ import annotations

from costmodel.families.fields import Fields
from costmodel.families.rope import longest_sequence
from costmodel.families.row import FamilyRow
from costmodel.forward.attention import add_attention
from costmodel.forward.cost import FP32_BYTES, elementwise
from costmodel.forward.frame import INPUT, POSITIONS, Start, add_head, add_positions
from costmodel.forward.ops import Builder
from costmodel.model import ModelSpec
from costmodel.tensors import WeightTensor, attention_weight, mlp_weight

_POSITIONS = {"llama": 2048, "mistral": 131072, "qwen2": 32768, "qwen3": 32768}
"""Default of max_position_embeddings in each class."""
_TABLES = "model.rotary_emb"


def _read(fields: Fields, row: FamilyRow) -> ModelSpec:
    model_type = fields.model_type
    fields.require("hidden_size", "num_hidden_layers", "num_attention_heads", "vocab_size", "intermediate_size")
    hidden, heads = fields.count("hidden_size"), fields.count("num_attention_heads")
    layers = fields.layers("num_hidden_layers")
    own_head_dim = fields.count("head_dim", 128) if model_type == "qwen3" else fields.count_or_none("head_dim")
    head_dim = own_head_dim or fields.head_dim("num_attention_heads", "hidden_size")
    if model_type == "mistral":
        kv_heads: int | None = fields.count("num_key_value_heads", 8)
    else:
        kv_heads = fields.count_or_none("num_key_value_heads", None if model_type == "llama" else 32)
    kv_heads = heads if kv_heads is None else kv_heads
    if heads % kv_heads:
        raise fields.error("num_key_value_heads", f"a divisor of num_attention_heads {heads}", f"used: {kv_heads}")
    if head_dim % 2:
        raise fields.error("head_dim", "an even number, for RoPE turns pairs", f"used: {head_dim}")
    bias = fields.flag("attention_bias", False) if model_type in ("llama", "qwen3") else False
    return ModelSpec(
        name=fields.name,
        family=row,
        model_type=model_type,
        num_layers=layers,
        hidden_size=hidden,
        intermediate_size=fields.count("intermediate_size"),
        num_heads=heads,
        num_kv_heads=kv_heads,
        head_dim=head_dim,
        vocab_size=fields.count("vocab_size"),
        max_positions=longest_sequence(fields, fields.count("max_position_embeddings", _POSITIONS[model_type])),
        embed_dim=hidden,
        activation=fields.activation("hidden_act", "silu"),
        gated_mlp=True,
        qkv_bias=bias or model_type == "qwen2",
        attn_out_bias=bias,
        mlp_bias=fields.flag("mlp_bias", False) if model_type == "llama" else False,
        qk_norm=model_type == "qwen3",
        tie_embeddings=fields.flag_or("tie_word_embeddings", False),
        pre_norm=True,
        final_norm=True,
        sliding_windows=_sliding_windows(fields, model_type, layers),
        dtype=fields.dtype(),
    )


def _sliding_windows(fields: Fields, model_type: str, layers: int) -> tuple[int | None, ...]:
    """The window of each layer: none in Llama, one for all in Mistral, by layer in Qwen if switched on."""
    if model_type == "llama":
        return (None,) * layers
    window = fields.count_or_none("sliding_window", 4096)
    if model_type != "mistral" and not fields.flag("use_sliding_window", False):
        window = None
    types = _layer_types(fields, layers)
    if model_type == "mistral":
        if types is not None and any((kind == "sliding_attention") != (window is not None) for kind in types):
            raise fields.error("layer_types", f"one type for all Mistral layers, that of sliding_window {window}")
        return (window,) * layers
    if types is None:
        first = fields.count("max_window_layers", 28, minimum=0)
        return tuple(window if layer >= first else None for layer in range(layers))
    if window is None and "sliding_attention" in types:
        raise fields.error("layer_types", "full_attention only, unless use_sliding_window and sliding_window are set")
    return tuple(window if kind == "sliding_attention" else None for kind in types)


def _layer_types(fields: Fields, layers: int) -> list[str] | None:
    """The field `layer_types`, cut to the overriding number of layers if there is one; None when absent or null."""
    types = fields.data.get("layer_types")
    if types is None:
        return None
    known = ("full_attention", "sliding_attention")
    if not isinstance(types, list) or not all(kind in known for kind in types):
        raise fields.error("layer_types", f"a list of {' and '.join(known)}")
    own = fields.count("num_hidden_layers")
    if len(types) != own or layers > own:
        raise fields.error("layer_types", f"one entry for each of {max(own, layers)} layers", f"found: {len(types)}")
    return types[:layers]


def _tensors(spec: ModelSpec) -> tuple[WeightTensor, ...]:
    hidden, inner, queries, keys = spec.hidden_size, spec.intermediate_size, spec.q_size, spec.kv_size
    return (
        attention_weight("q_proj", "self_attn.q_proj", queries, hidden, bias=spec.qkv_bias),
        attention_weight("k_proj", "self_attn.k_proj", keys, hidden, bias=spec.qkv_bias),
        attention_weight("v_proj", "self_attn.v_proj", keys, hidden, bias=spec.qkv_bias),
        attention_weight("o_proj", "self_attn.o_proj", hidden, queries, bias=spec.attn_out_bias),
        mlp_weight("gate_proj", "mlp.gate_proj", inner, hidden, bias=spec.mlp_bias),
        mlp_weight("up_proj", "mlp.up_proj", inner, hidden, bias=spec.mlp_bias),
        mlp_weight("down_proj", "mlp.down_proj", hidden, inner, bias=spec.mlp_bias),
    )


def _positions(b: Builder) -> None:
    add_positions(b, kernels=2)


def _prologue(b: Builder) -> Start:
    work, head_dim = b.work, b.model.head_dim
    words = b.embed("model.embed_tokens", work.tokens, b.model.hidden_size)
    program = "rotary_tables_fp32" if work.act_bytes == FP32_BYTES else "rotary_tables"
    cost = elementwise(program, work.q_len, head_dim, act_bytes=work.act_bytes)
    b.add(_TABLES, "rope", cost, [POSITIONS], 2 * work.q_len * head_dim)
    return Start(words, tuple(op.name for op in b.ops))


def _layer(b: Builder, window: int | None) -> None:
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
    turned_query = _rotate(b, "q", query, model.q_size)
    turned_key = _rotate(b, "k", key, model.kv_size, holds=(query,))
    attended = add_attention(b, "self_attn", turned_query, [turned_key, value], window)
    projected = b.site(o, attended.output, holds=[normed, turned_query, *attended.held])
    residual = b.pointwise("add_attention", "add", [INPUT, projected], model.hidden_size)
    normed = b.norm("post_attention_layernorm", residual)
    inner = model.intermediate_size
    gated = b.activation("mlp.act_fn", b.site(gate, normed), inner, holds=[normed])
    product = b.pointwise("mlp.mul", "mul", [gated, b.site(up, normed)], inner, holds=[normed])
    output = b.site(down, product, holds=[normed])
    b.pointwise("add_mlp", "add", [residual, output], model.hidden_size, holds=[INPUT, *attended.weights])


def _rotate(b: Builder, which: str, source: str, columns: int, holds: tuple[str, ...] = ()) -> str:
    cost = elementwise("rotate", b.work.tokens, columns, act_bytes=b.work.act_bytes)
    size = b.work.tokens * columns
    return b.add(f"self_attn.rotary_{which}", "rope", cost, [source, _TABLES], size, workspace=2 * size, holds=holds)


def _epilogue(b: Builder) -> None:
    add_head(b, b.norm("model.norm", INPUT))


LLAMA = FamilyRow(
    name="llama",
    classes={"llama": "Llama", "mistral": "Mistral", "qwen2": "Qwen2", "qwen3": "Qwen3"},
    read=_read,
    tensors=_tensors,
    layer_path="model.layers",
    norm="rms_norm",
    verified=True,
    upcasts_softmax=True,
    positions=_positions,
    prologue=_prologue,
    layer=_layer,
    epilogue=_epilogue,
)
