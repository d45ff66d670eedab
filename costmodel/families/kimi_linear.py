"""Kimi Linear, Kimi K3 and Ling 3: several layers of linear attention, whose every channel decays by itself, to one of
latent attention, and a mixture of experts behind the first ones (arXiv 2510.26692).

Kimi K3, a kimi_linear of the repository's own code, has gates of full rank, experts of narrow vectors, and layers that
read weighed sums of the blocks of layers before.
What predicts several tokens ahead is no part of the language model and left out.
"""

from __future__ import annotations

from dataclasses import replace

from costmodel.blocks import DeltaNet, Experts, LatentAttention
from costmodel.families.decoder import decoder_row
from costmodel.families.decoder_fields import by_kind, decoder_spec
from costmodel.families.experts import read_experts, read_sparse_layers
from costmodel.families.fields import Fields
from costmodel.families.lists import layer_numbers
from costmodel.families.rotary import read_layer_types
from costmodel.families.row import FamilyRow
from costmodel.model import ModelSpec
from costmodel.words import Words

_LINEAR, _FULL = "linear_attention", "full_attention"
_KIMI = Words(mixer="self_attn", rotary=False)
_LING = Words(mixer="self_attn", gate="g_proj", gate_by_head=True)


def _read(fields: Fields, row: FamilyRow) -> ModelSpec:
    kimi, layers = fields.model_type == "kimi_linear", fields.layers("num_hidden_layers")
    heads, block = fields.count("num_attention_heads"), fields.count_or_none("attn_res_block_size")
    latent = LatentAttention(
        query_rank=fields.count_or_none("q_lora_rank"),
        kv_rank=fields.count("kv_lora_rank"),
        nope_dim=fields.count("qk_nope_head_dim"),
        rope_dim=fields.count("qk_rope_head_dim"),
        value_dim=fields.count("v_head_dim"),
    )
    if not fields.flag_or("mla_use_nope", True):
        raise fields.error("mla_use_nope", "true")
    fields.refuse("tie_word_embeddings", "its LM head is a matrix of its own")
    types = _kimi_types(fields, layers) if kimi else _ling_types(fields, layers)
    sparse = read_sparse_layers(fields, layers, fields.count("first_k_dense_replace", 1, minimum=0))
    words = replace(_KIMI, gate="g_proj" if fields.flag_or("mla_use_output_gate", False) else "") if kimi else _LING
    kinds, own = list[str](), dict[str, dict[str, object]]()
    for layer, (kind, each) in enumerate(zip(types, sparse, strict=True)):
        blocks = layer // block + 2 if block else 0
        kinds.append(f"{kind}, {'sparse' if each else 'dense'}" + (f", {blocks} sums" if block else ""))
        own[kinds[-1]] = {
            **({"attends": False} if kind == _LINEAR else {"recurrent": None}),
            **({} if each else {"experts": None}),
            **({"words": _k3_words(words, blocks, sparse=each)} if block else {}),
        }
    own_act, experts = fields.says("hidden_act", "situ"), _experts(fields)
    hidden = fields.count("hidden_size")
    return decoder_spec(
        fields.with_values(hidden_act="silu") if own_act else fields,
        row,
        replace(words, residual_blocks=(layers - 1) // block + 2) if block else words,
        num_kv_heads=heads,
        head_dim=latent.key_dim,
        latent=latent,
        recurrent=_kimi_delta(fields) if kimi else _ling_delta(fields, heads),
        experts=experts,
        mlp_bias=False,
        tie_embeddings=False,
        other_outer_params=2 * hidden if block else 0,
        plain_tensors=frozenset(experts.width_names) if experts.width else frozenset(),
        notes=("its activation situ is priced as silu is, one element-wise kernel",) if own_act else (),
        **by_kind(kinds, own),
    )


def _k3_words(words: Words, blocks: int, *, sparse: bool) -> Words:
    """With experts under a name of their own, and the number of sums that a layer reads."""
    words = replace(words, residual_blocks=blocks)
    return replace(words, experts="block_sparse_moe", ups=()) if sparse else words


def _kimi_delta(fields: Fields) -> DeltaNet:
    """The sizes of linear attention, out of `linear_attn_config` where there is one."""
    nested = fields.nested("linear_attn_config")
    names = {"head_dim": "linear_head_dim", "num_heads": "linear_num_heads"}
    names["short_conv_kernel_size"] = "linear_conv_kernel_dim"
    fields = fields.with_values(**{names[name]: nested.data[name] for name in names if name in nested.data})
    width = fields.count("linear_head_dim")
    delta = _delta(fields.count("linear_num_heads"), width, fields.count("linear_conv_kernel_dim"), width)
    return replace(delta, gate_rank=0) if nested.flag_or("use_full_rank_gate", False) else delta


def _ling_delta(fields: Fields, heads: int) -> DeltaNet:
    """The sizes of linear attention; what transformers writes has them apart, and another width under head_dim."""
    width = fields.count_or_none("linear_head_dim") or fields.count("head_dim")
    kernel = fields.count_or_none("linear_conv_kernel_dim") or fields.count("short_conv_kernel_size")
    return _delta(fields.count_or_none("linear_num_heads") or heads, width, kernel, 0)


def _delta(heads: int, width: int, kernel: int, rank: int) -> DeltaNet:
    return DeltaNet(
        key_heads=heads,
        value_heads=heads,
        key_dim=width,
        value_dim=width,
        kernel=kernel,
        by_channel=True,
        decay_rank=rank,
        gate_rank=rank,
    )


def _kimi_types(fields: Fields, layers: int) -> list[str]:
    """The type of each layer by `layer_types`, by the numbers from 1 on of `linear_attn_config`, else every fourth
    behind the first sees all."""
    given = read_layer_types(fields, layers, (_LINEAR, _FULL))
    if given:
        return given
    nested = fields.nested("linear_attn_config")
    full, linear = (layer_numbers(nested, name, first=1) for name in ("full_attn_layers", "kda_layers"))
    if full is None and linear is None:
        return [_FULL if layer and layer % 4 == 0 else _LINEAR for layer in range(layers)]
    listed = sorted([*(full or []), *(linear or [])])
    if listed != [*range(1, len(listed) + 1)] or len(listed) < layers:
        allowed = f"each of the layers 1 to {layers} in one of full_attn_layers and kda_layers"
        raise fields.error("linear_attn_config", allowed)
    return [_FULL if layer + 1 in (full or []) else _LINEAR for layer in range(layers)]


def _ling_types(fields: Fields, layers: int) -> list[str]:
    """The type of each layer by `layer_types`, else the last of each group sees all."""
    size = fields.count("layer_group_size")
    given = read_layer_types(fields, layers, (_LINEAR, _FULL))
    return given or [_LINEAR if (layer + 1) % size else _FULL for layer in range(layers)]


def _experts(fields: Fields) -> Experts:
    size, width = fields.count("moe_intermediate_size"), fields.count_or_none("routed_expert_hidden_size") or 0
    shared = fields.count_or_none("moe_shared_expert_intermediate_size") or size
    return read_experts(
        fields,
        "num_local_experts",
        "num_experts_per_tok",
        "moe_intermediate_size",
        shared_intermediate_size=shared * fields.count("n_shared_experts", minimum=0),
        width=width,
        width_names=("routed_expert_down_proj", "routed_expert_up_proj"),
        width_norm="routed_expert_norm" if width and fields.flag_or("latent_moe_use_norm", True) else "",
    )


KIMI_LINEAR = decoder_row(
    "kimi-linear", {"kimi_linear": "KimiLinear", "bailing_hybrid": "BailingHybrid"}, _read, norm="rms_norm"
)
