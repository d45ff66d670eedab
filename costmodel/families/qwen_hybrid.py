"""Qwen3-Next and Qwen3.5: three layers of linear attention to one of gated full attention, dense or with experts.

Defaults of absent fields are those of the configuration classes of transformers 5.23. What predicts several tokens
ahead is no part of the language model and left out.
"""

from __future__ import annotations

from costmodel.blocks import DeltaNet, Experts
from costmodel.families.experts import add_mlp, expert_tensors
from costmodel.families.fields import Fields
from costmodel.families.heads import TEXT_HEADS
from costmodel.families.lists import layer_numbers
from costmodel.families.rope import longest_sequence
from costmodel.families.rotary import add_rotated, read_layer_types, rotary_row
from costmodel.families.row import FamilyRow
from costmodel.forward.attention import add_attention
from costmodel.forward.delta import add_delta_rule, delta_of
from costmodel.forward.frame import INPUT
from costmodel.forward.ops import Builder
from costmodel.model import ModelSpec
from costmodel.tensors import WeightTensor, attention_weight

_LINEAR, _FULL = "linear_attention", "full_attention"
_DEFAULTS: dict[str, dict[str, int]] = {
    "qwen3_next": {"num_key_value_heads": 2, "num_experts": 512, "num_experts_per_tok": 10, "intermediate_size": 5632},
    "qwen3_5_text": {"num_key_value_heads": 4, "intermediate_size": 12288},
    "qwen3_5_moe_text": {"num_key_value_heads": 2, "num_experts": 256, "num_experts_per_tok": 8},
}


def _read(fields: Fields, row: FamilyRow) -> ModelSpec:
    defaults = _DEFAULTS[fields.model_type]
    fields.require("hidden_size", "num_hidden_layers", "num_attention_heads", "vocab_size")
    hidden, heads = fields.count("hidden_size"), fields.count("num_attention_heads")
    layers = fields.layers("num_hidden_layers")
    kv_heads = fields.count("num_key_value_heads", defaults["num_key_value_heads"])
    if heads % kv_heads:
        raise fields.error("num_key_value_heads", f"a divisor of num_attention_heads {heads}", f"used: {kv_heads}")
    delta = DeltaNet(
        key_heads=fields.count("linear_num_key_heads", 16),
        value_heads=fields.count("linear_num_value_heads", 32),
        key_dim=fields.count("linear_key_head_dim", 128),
        value_dim=fields.count("linear_value_head_dim", 128),
        kernel=fields.count("linear_conv_kernel_dim", 4),
    )
    experts = None
    if "num_experts" in defaults:
        experts = Experts(
            number=fields.count("num_experts", defaults["num_experts"]),
            per_token=fields.count("num_experts_per_tok", defaults["num_experts_per_tok"]),
            intermediate_size=fields.count("moe_intermediate_size", 512),
            shared_intermediate_size=fields.count("shared_expert_intermediate_size", 512),
        )
    interval = fields.count("full_attention_interval", 4)
    types = read_layer_types(fields, layers, (_LINEAR, _FULL))
    types = types or [_FULL if (layer + 1) % interval == 0 else _LINEAR for layer in range(layers)]
    sparse = _sparse(fields, layers) if fields.model_type == "qwen3_next" else [experts is not None] * layers
    dense = [experts is not None and not each for each in sparse]
    kinds = tuple(f"{kind}, dense" if each else kind for kind, each in zip(types, dense, strict=True))
    changed: dict[str, dict[str, object]] = {
        kind: {"attends": False} if kind.startswith(_LINEAR) else {"recurrent": None} for kind in kinds
    }
    for kind in kinds:
        changed[kind] |= {"experts": None} if kind.endswith("dense") else {}
    bias = fields.flag("attention_bias", False)
    return ModelSpec(
        name=fields.name,
        family=row,
        model_type=fields.model_type,
        num_layers=layers,
        hidden_size=hidden,
        intermediate_size=fields.count("intermediate_size", defaults.get("intermediate_size", 512)),
        num_heads=heads,
        num_kv_heads=kv_heads,
        head_dim=fields.count("head_dim", 256),
        vocab_size=fields.count("vocab_size"),
        max_positions=longest_sequence(fields, fields.count("max_position_embeddings", 32768)),
        embed_dim=hidden,
        activation=fields.activation("hidden_act", "silu"),
        gated_mlp=True,
        qkv_bias=bias,
        attn_out_bias=bias,
        mlp_bias=False,
        qk_norm=True,
        experts=experts,
        recurrent=delta,
        tie_embeddings=fields.flag("tie_word_embeddings", False),
        pre_norm=True,
        final_norm=True,
        sliding_windows=(None,) * layers,
        dtype=fields.dtype(),
        layer_kinds=kinds,
        kind_fields=changed,
    )


def _sparse(fields: Fields, layers: int) -> list[bool]:
    step, dense = fields.count("decoder_sparse_step", 1), layer_numbers(fields, "mlp_only_layers") or []
    return [layer not in dense and (layer + 1) % step == 0 for layer in range(layers)]


def _tensors(spec: ModelSpec) -> tuple[WeightTensor, ...]:
    hidden, delta = spec.hidden_size, delta_of(spec)
    mlp = expert_tensors(spec, shared="shared_expert")
    if delta is None:
        shapes = {"q_proj": 2 * spec.q_size, "k_proj": spec.kv_size, "v_proj": spec.kv_size}
        first = [
            attention_weight(name, f"self_attn.{name}", n, hidden, bias=spec.qkv_bias) for name, n in shapes.items()
        ]
        last = attention_weight("o_proj", "self_attn.o_proj", hidden, spec.q_size, bias=spec.attn_out_bias)
        return (*first, last, *mlp)
    if spec.model_type == "qwen3_next":
        shapes = {"in_proj_qkvz": delta.convolved + delta.values, "in_proj_ba": 2 * delta.value_heads}
    else:
        shapes = {"in_proj_qkv": delta.convolved, "in_proj_z": delta.values}
        shapes |= {"in_proj_b": delta.value_heads, "in_proj_a": delta.value_heads}
    first = [attention_weight(name, f"linear_attn.{name}", n, hidden, bias=False) for name, n in shapes.items()]
    return (*first, attention_weight("out_proj", "linear_attn.out_proj", hidden, delta.values, bias=False), *mlp)


def _other_params(spec: ModelSpec) -> int:
    """The router and the shared expert's gate; of linear attention the convolution, a decay and a step of each head,
    and its norm, in place of the norms of q and k."""
    experts, delta = spec.experts, delta_of(spec)
    router = (experts.number + 1) * spec.hidden_size if experts else 0
    if delta is None:
        return router
    own = delta.convolved * delta.kernel + 2 * delta.value_heads + delta.value_dim
    return router + own - 2 * spec.head_dim


def _layer(b: Builder, window: int | None) -> None:
    model = b.model
    normed = b.norm("input_layernorm", INPUT)
    output, held = (_full if model.attends else _linear)(b, normed, window)
    residual = b.pointwise("add_attention", "add", [INPUT, output], model.hidden_size)
    normed = b.norm("post_attention_layernorm", residual)
    output = add_mlp(b, normed, shared="shared_expert")
    b.pointwise("add_mlp", "add", [residual, output], model.hidden_size, holds=[INPUT, *held])


def _linear(b: Builder, normed: str, window: int | None) -> tuple[str, tuple[str, ...]]:
    delta = delta_of(b.model)
    assert delta is not None
    *inputs, out = (tensor for tensor in b.model.tensors if tensor.path.startswith("linear_attn."))
    projected = [b.site(tensor, normed, holds=[INPUT]) for tensor in inputs]
    result = add_delta_rule(b, "linear_attn", projected)
    rows = b.work.tokens * delta.value_heads
    result = b.norm("linear_attn.norm", result, rows=rows, columns=delta.value_dim, holds=projected)
    gated = b.pointwise("linear_attn.gate", "mul", [result, projected[0]], delta.values)
    return b.site(out, gated, holds=[normed]), ()


def _full(b: Builder, normed: str, window: int | None) -> tuple[str, tuple[str, ...]]:
    model, work = b.model, b.work
    q, k, v, o = model.tensors[:4]
    packed = b.site(q, normed, holds=[INPUT])
    query = b.norm("self_attn.q_norm", packed, rows=work.tokens * model.num_heads, columns=model.head_dim)
    key = b.site(k, normed, holds=[INPUT, packed])
    key = b.norm("self_attn.k_norm", key, rows=work.tokens * model.num_kv_heads, columns=model.head_dim)
    value = b.site(v, normed, holds=[INPUT, packed])
    query = add_rotated(b, "q", query, model.q_size, holds=[packed])
    key = add_rotated(b, "k", key, model.kv_size, holds=[query, packed])
    attended = add_attention(b, "self_attn", query, [key, value], window)
    gated = b.pointwise("self_attn.gate", "mul", [attended.output, packed], model.q_size)
    return b.site(o, gated, holds=[normed, query, *attended.held]), attended.weights


QWEN_HYBRID = rotary_row(
    "qwen-hybrid",
    {"qwen3_next": "Qwen3Next", "qwen3_5_text": "Qwen3_5", "qwen3_5_moe_text": "Qwen3_5Moe"},
    _read,
    _tensors,
    _layer,
    other_params=_other_params,
    heads=TEXT_HEADS,
)
