"""The Llama family: Llama, Mistral, Qwen2 and Qwen3; RMSNorm before each block, RoPE, grouped heads, a gated MLP.

Defaults of absent fields are those of the configuration classes of transformers 5.23.
"""

from __future__ import annotations

from costmodel.families.fields import Fields
from costmodel.families.heads import classifier
from costmodel.families.rope import longest_sequence
from costmodel.families.rotary import add_rotated, read_layer_types, rotary_row
from costmodel.families.row import FamilyRow
from costmodel.forward.attention import add_attention
from costmodel.forward.frame import INPUT
from costmodel.forward.ops import Builder
from costmodel.model import ModelSpec
from costmodel.tensors import WeightTensor, attention_weight, mlp_weight

_POSITIONS = {"llama": 2048, "mistral": 131072, "qwen2": 32768, "qwen3": 32768}
"""Default of max_position_embeddings in each class."""


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
    """The field `layer_types`, of which these classes have one for each of the configuration's own layers."""
    own = fields.count("num_hidden_layers")
    types, given = read_layer_types(fields, max(own, layers)), fields.data.get("layer_types")
    if isinstance(given, list) and len(given) != own:
        raise fields.error("layer_types", f"one entry for each of {max(own, layers)} layers", f"found: {len(given)}")
    return None if types is None else types[:layers]


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
    turned_query = add_rotated(b, "q", query, model.q_size)
    turned_key = add_rotated(b, "k", key, model.kv_size, holds=[query])
    attended = add_attention(b, "self_attn", turned_query, [turned_key, value], window)
    projected = b.site(o, attended.output, holds=[normed, turned_query, *attended.held])
    residual = b.pointwise("add_attention", "add", [INPUT, projected], model.hidden_size)
    normed = b.norm("post_attention_layernorm", residual)
    inner = model.intermediate_size
    gated = b.activation("mlp.act_fn", b.site(gate, normed), inner, holds=[normed])
    product = b.pointwise("mlp.mul", "mul", [gated, b.site(up, normed)], inner, holds=[normed])
    output = b.site(down, product, holds=[normed])
    b.pointwise("add_mlp", "add", [residual, output], model.hidden_size, holds=[INPUT, *attended.weights])


LLAMA = rotary_row(
    "llama",
    {"llama": "Llama", "mistral": "Mistral", "qwen2": "Qwen2", "qwen3": "Qwen3"},
    _read,
    _tensors,
    _layer,
    verified=True,
    own_heads={
        f"Qwen2For{name}Model": classifier("sequence_classification", "score.0", "score.2", outputs=outputs)
        for name, outputs in (("Reward", 1), ("ProcessReward", 2))
    },
)
