"""DeepSeek-V2 to V3.2, Kimi K2, Mistral 4, A.X K1, GLM-4.7 Flash and GLM-5: latent attention, dense first layers, then
a mixture of experts with shared ones; MiniCPM 3 and Youtu: the same attention, every layer dense.

Defaults of absent fields are those of the configuration classes of transformers 5.23; Kimi K2 has DeepSeek-V3's
classes. What predicts several tokens ahead (`num_nextn_predict_layers`) is no part of the language model and left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from costmodel.blocks import Experts, LatentAttention
from costmodel.families.decoder_fields import by_kind
from costmodel.families.experts import add_mlp, expert_tensors, read_sparse_layers
from costmodel.families.fields import Fields
from costmodel.families.latent_layer import add_latent_block, latent_params, latent_tensors
from costmodel.families.lists import letters, names_by_layer
from costmodel.families.rope import longest_sequence
from costmodel.families.rotary import add_prologue, rotary_row
from costmodel.families.row import FamilyRow
from costmodel.forward.frame import INPUT, Start, add_head
from costmodel.forward.ops import Builder
from costmodel.model import ModelSpec
from costmodel.tensors import WeightTensor

_INDEXED = ("deepseek_v32", "glm_moe_dsa")
"""Types whose attention looks at the positions that an indexer chooses."""
_LISTED = (*_INDEXED, "glm4_moe_lite", "axk1")
"""Types that may list which layers have experts."""
_DENSE = ("minicpm3", "youtu")
"""Types without experts."""
_DEFAULTS: dict[str, dict[str, int]] = {
    "deepseek_v2": {
        "intermediate_size": 11008,
        "moe_intermediate_size": 1407,
        "n_routed_experts": 64,
        "n_shared_experts": 2,
        "first_k_dense_replace": 0,
        "max_position_embeddings": 2048,
    },
    "deepseek_v3": {
        "intermediate_size": 18432,
        "moe_intermediate_size": 2048,
        "n_routed_experts": 256,
        "n_shared_experts": 1,
        "first_k_dense_replace": 3,
        "max_position_embeddings": 4096,
        "num_experts_per_tok": 8,
    },
}


def _read(fields: Fields, row: FamilyRow) -> ModelSpec:
    kind = fields.model_type
    defaults = _DEFAULTS["deepseek_v2" if kind == "deepseek_v2" else "deepseek_v3"]
    fields.require("hidden_size", "num_hidden_layers", "num_attention_heads", "vocab_size")

    if not fields.flag_or("use_mla", True):
        raise fields.error("use_mla", "true: attention without latent vectors is not supported")

    def count(name: str) -> int:
        return fields.count(name, defaults.get(name, -1))

    hidden, heads = fields.count("hidden_size"), fields.count("num_attention_heads")
    layers = fields.layers("num_hidden_layers")
    by_heads = kind == "minicpm3" and not fields.given("v_head_dim")
    latent = LatentAttention(
        query_rank=fields.count_or_none("q_lora_rank", 1536),
        kv_rank=fields.count("kv_lora_rank", 512),
        nope_dim=fields.count("qk_nope_head_dim", 128),
        rope_dim=fields.count("qk_rope_head_dim", 64),
        value_dim=fields.head_dim("num_attention_heads", "hidden_size")
        if by_heads
        else fields.count("v_head_dim", 128),
    )
    mixed: dict[str, Any] = {} if kind in _DENSE else _experts(fields, layers, defaults)
    if kind in _INDEXED:
        latent, mixed = _with_indexer(fields, latent, layers, mixed)
    bias = fields.flag("attention_bias", False)
    return ModelSpec(
        name=fields.name,
        family=row,
        model_type=fields.model_type,
        num_layers=layers,
        hidden_size=hidden,
        intermediate_size=count("intermediate_size"),
        num_heads=heads,
        num_kv_heads=heads,
        head_dim=latent.key_dim,
        vocab_size=fields.count("vocab_size"),
        max_positions=longest_sequence(fields, count("max_position_embeddings")),
        embed_dim=hidden,
        activation=fields.activation("hidden_act", "silu"),
        gated_mlp=True,
        qkv_bias=bias,
        attn_out_bias=bias,
        mlp_bias=fields.flag("mlp_bias", False) if kind in ("deepseek_v2", "minicpm3") else False,
        latent=latent,
        tie_embeddings=fields.flag("tie_word_embeddings", False),
        pre_norm=True,
        final_norm=True,
        sliding_windows=(None,) * layers,
        dtype=fields.dtype(),
        **mixed,
    )


def _experts(fields: Fields, layers: int, defaults: dict[str, int]) -> dict[str, Any]:
    """The mixture of experts, and the kinds of layers where some are dense."""

    def count(name: str) -> int:
        return fields.count(name, defaults.get(name, -1))

    size, number, per_token = count("moe_intermediate_size"), count("n_routed_experts"), count("num_experts_per_tok")
    if per_token > number:
        raise fields.error("num_experts_per_tok", f"at most the {number} experts", f"used: {per_token}")
    experts = Experts(
        number=number,
        per_token=per_token,
        intermediate_size=size,
        shared_intermediate_size=size * count("n_shared_experts"),
    )
    kinds = _kinds(fields, layers, defaults)
    if "dense" not in kinds:
        return {"experts": experts}
    return {"experts": experts, "layer_kinds": kinds, "kind_fields": {"dense": {"experts": None}}}


def _with_indexer(
    fields: Fields, latent: LatentAttention, layers: int, mixed: dict[str, Any]
) -> tuple[LatentAttention, dict[str, Any]]:
    """The sizes with an indexer's, and the kinds of layers where some take the choice of an earlier one."""
    latent = replace(
        latent,
        index_top=fields.count("index_topk"),
        index_heads=fields.count("index_n_heads"),
        index_dim=fields.count("index_head_dim"),
    )
    takes = _takes_choice(fields, layers)
    kinds = mixed.get("layer_kinds") or ("sparse",) * layers
    named = tuple(kind + (", shared choice" if each else "") for kind, each in zip(kinds, takes, strict=True))
    without = {"latent": replace(latent, index_heads=0)}
    own = {
        name: {**({"experts": None} if name.startswith("dense") else {}), **(without if "choice" in name else {})}
        for name in named
    }
    return latent, {"experts": mixed["experts"], **by_kind(named, own)}


def _takes_choice(fields: Fields, layers: int) -> list[bool]:
    """Which layers take the choice of an earlier one: by a list, a pattern of F and S, or a period behind an offset."""
    types = names_by_layer(fields, "indexer_types", layers, ("full", "shared"))
    pattern = letters(fields, "index_topk_pattern", {"F": "full", "S": "shared"})
    given = pattern if types is None else types
    if given is None:
        period, offset = (
            fields.count(name, at, 0) for name, at in (("index_topk_freq", 1), ("index_skip_topk_offset", 2))
        )
        return [max(layer - offset + 1, 0) % max(1, period) != 0 for layer in range(layers)]
    if len(given) < layers:
        raise fields.error("index_topk_pattern", f"a letter for each of {layers} layers")
    return [each == "shared" for each in given[:layers]]


def _kinds(fields: Fields, layers: int, defaults: dict[str, int]) -> tuple[str, ...]:
    """dense or sparse for each layer, by a list where a type has one; without it GLM-4.7's first layer alone is
    dense."""
    kind = fields.model_type
    if kind == "axk1" and fields.count("moe_layer_freq", 1) != 1:
        raise fields.error("moe_layer_freq", "1")
    usual = 1 if kind == "axk1" else defaults["first_k_dense_replace"]
    first = 1 if kind == "glm4_moe_lite" else fields.count("first_k_dense_replace", usual, minimum=0)
    sparse = (
        read_sparse_layers(fields, layers, first) if kind in _LISTED else [layer >= first for layer in range(layers)]
    )
    return tuple("sparse" if each else "dense" for each in sparse)


def _prologue(b: Builder) -> Start:
    """As of all with rotary positions; MiniCPM 3 multiplies the embeddings by a number."""
    start = add_prologue(b)
    if b.model.model_type != "minicpm3":
        return start
    last = b.pointwise("model.embed_tokens.scale", "scale", [start.first], b.model.hidden_size)
    return Start(last, tuple(op.name for op in b.ops))


def _added(b: Builder, which: str, residual: str, source: str, holds: Sequence[str] = ()) -> str:
    """The sum with the residual; MiniCPM 3 multiplies what is added by a number."""
    if b.model.model_type == "minicpm3":
        source = b.pointwise(f"scale_{which}", "scale", [source], b.model.hidden_size, holds=[residual])
    return b.pointwise(f"add_{which}", "add", [residual, source], b.model.hidden_size, holds=holds)


def _epilogue(b: Builder) -> None:
    """The final norm and the LM head; MiniCPM 3 multiplies what the head reads by a number."""
    last = b.norm("model.norm", INPUT)
    if b.model.model_type == "minicpm3":
        last = b.pointwise("model.norm.scale", "scale", [last], b.model.hidden_size)
    add_head(b, last)


def _tensors(spec: ModelSpec) -> tuple[WeightTensor, ...]:
    return (*latent_tensors(spec), *expert_tensors(spec))


def _other_params(spec: ModelSpec) -> int:
    """What latent attention has beside its linears, the router, and in A.X K1 a norm behind the experts."""
    rows = spec.experts.number + (spec.model_type == "axk1") if spec.experts else 0
    return latent_params(spec) + rows * spec.hidden_size


def _layer(b: Builder, window: int | None) -> None:
    normed = b.norm("input_layernorm", INPUT)
    projected, weights = add_latent_block(b, normed, window)
    residual = _added(b, "attention", INPUT, projected)
    normed = b.norm("post_attention_layernorm", residual)
    output = add_mlp(b, normed)
    if b.model.model_type == "axk1" and b.model.experts:
        output = b.norm("mlp.post_mlp_layernorm", output)
    _added(b, "mlp", residual, output, holds=[INPUT, *weights])


DEEPSEEK = rotary_row(
    "deepseek",
    {
        "deepseek_v2": "DeepseekV2",
        "deepseek_v3": "DeepseekV3",
        "deepseek_v32": "DeepseekV32",
        "glm_moe_dsa": "GlmMoeDsa",
        "kimi_k2": "DeepseekV3",
        "glm4_moe_lite": "Glm4MoeLite",
        "mistral4": "Mistral4",
        "axk1": "AXK1",
        "minicpm3": "MiniCPM3",
        "youtu": "Youtu",
    },
    _read,
    _tensors,
    _layer,
    other_params=_other_params,
    prologue=_prologue,
    epilogue=_epilogue,
)
