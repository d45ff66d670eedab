"""MiniMax-M3: attention that looks at chosen blocks of positions in some layers, and experts in some."""

from __future__ import annotations

from costmodel.blocks import BlockIndexer
from costmodel.families.decoder import decoder_row
from costmodel.families.decoder_fields import by_kind, decoder_spec
from costmodel.families.experts import read_experts, read_sparse_layers
from costmodel.families.fields import Fields
from costmodel.families.heads import TEXT_HEADS
from costmodel.families.lists import marks_by_layer
from costmodel.families.rotary import read_layer_types
from costmodel.families.row import FamilyRow
from costmodel.model import ModelSpec
from costmodel.words import Words

_FULL, _CHOOSING = "full_attention", "minimax_m3_sparse"
_WORDS = Words(qk_norm="head", ups=("gate_up_proj",), packed_gate=True)
_LEGACY = {
    "sparse_num_index_heads": "index_n_heads",
    "sparse_index_dim": "index_head_dim",
    "sparse_block_size": "index_block_size",
    "sparse_topk_blocks": "index_topk_blocks",
}
"""Field of `sparse_attention_config` -> the same outside it."""


def _read(fields: Fields, row: FamilyRow) -> ModelSpec:
    layers, nested = fields.layers("num_hidden_layers"), fields.nested("sparse_attention_config")
    fields = fields.with_values(**{_LEGACY[name]: nested.data[name] for name in _LEGACY if name in nested.data})
    choosing, shared = _types(fields, nested, layers), fields.count("shared_intermediate_size")
    sparse = marks_by_layer(fields, "moe_layer_freq", layers)
    if fields.given("mlp_layer_types") or sparse is None:
        sparse = read_sparse_layers(fields, layers, 0)
    kinds, own = list[str](), dict[str, dict[str, object]]()
    for chooses, each in zip(choosing, sparse, strict=True):
        kinds.append(f"{'chosen blocks' if chooses else 'all positions'}, {'sparse' if each else 'dense'}")
        own[kinds[-1]] = {**({} if chooses else {"indexer": None}), **({} if each else {"experts": None})}
    width = fields.count("head_dim")
    return decoder_spec(
        fields,
        row,
        _WORDS,
        head_dim=width,
        intermediate_size=fields.count("dense_intermediate_size"),
        activation="silu",
        bias=False,
        mlp_bias=False,
        experts=read_experts(
            fields, "num_local_experts", "num_experts_per_tok", "intermediate_size", shared_intermediate_size=shared
        ),
        indexer=BlockIndexer(
            heads=fields.count("index_n_heads"),
            width=fields.count("index_head_dim"),
            block=fields.count("index_block_size"),
            top=fields.count("index_topk_blocks"),
        ),
        tie_embeddings=fields.flag_or("tie_word_embeddings", False),
        **by_kind(kinds, own),
    )


def _types(fields: Fields, nested: Fields, layers: int) -> list[bool]:
    """Which layers look at chosen blocks alone."""
    types = read_layer_types(fields, layers, (_FULL, _CHOOSING))
    if types is not None:
        return [kind == _CHOOSING for kind in types]
    return marks_by_layer(nested, "sparse_attention_freq", layers) or [False] * layers


MINIMAX_M3 = decoder_row("minimax-m3", {"minimax_m3_vl_text": "MiniMaxM3VL"}, _read, norm="rms_norm", heads=TEXT_HEADS)
