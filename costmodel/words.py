"""How the layer of a transformer is put together, in words: where norms stand, what is packed, what turns q and k.

Two types whose words are the same are the same row of operations; sizes are `ModelSpec`'s.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Placing = Literal["pre", "post", "sandwich", "parallel", "after"]
"""Where norms stand: before attention and MLP (pre), behind each (post), on both sides (sandwich), before both at once,
whose results are added to the same residual (parallel, with one norm or with one for each), or over the sum of the
residual and each block's result (after: BERT and its kin)."""
Clip = Literal["none", "in_place", "copied"]
"""Whether q, k and v are clamped to a range, behind the norms of q and k, and where the result is written."""
QkNorm = Literal["none", "head", "whole", "each_head"]
"""Norms of q and k: none, one weight of head_dim for all heads, one over all heads together, one weight for each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Words:
    """A layer, and what stands around the layers. The defaults are Llama's."""

    placing: Placing = "pre"
    norms: tuple[str, ...] = ("input_layernorm", "post_attention_layernorm")
    """Module paths of the norms over hidden_size in the order in which they run; an empty one stands for none there."""
    attention: str = "self_attn"
    """Module path of attention."""
    qkv: tuple[str, ...] = ("q_proj", "k_proj", "v_proj")
    """Module names below `attention` of the projections to q, k and v: three, one of all, two where values are the
    keys, or one of q alone with a shared cache."""
    shared_cache: bool = False
    """Whether keys and values are those of an earlier layer (Gemma 3n)."""
    v_norm: bool = False
    """Whether values pass a norm without weights."""
    out: str = "o_proj"
    """Module name below `attention` of the projection of its result."""
    gate: str = ""
    """Module name below `attention` of a projection of its input that multiplies its result; empty for none."""
    gate_by_head: bool = False
    """Whether the gate is one number for each head, not one for each feature."""
    sinks: bool = False
    """Whether each head has a number that takes part in the softmax (gpt-oss)."""
    attention_norm: str = ""
    """Module name below `attention` of a norm over what `out` reads (BitNet); empty for none."""
    mixer: str = "mixer"
    """Module path of a state space or short convolution, in layers that have one."""
    linear: tuple[str, str, str, str] = ("qkv_proj", "output_gate", "norm", "out_proj")
    """Module names below `mixer` of Lightning Attention's linear to q, k and v, its gate, its norm and the linear
    back."""
    experts: str = ""
    """Module path of a mixture of experts beside the MLP; empty where it stands in the MLP's place, under its path."""
    shared: str = "shared_experts"
    """Name below the mixture of experts of the MLP that every token passes."""
    mlp: str = "mlp"
    """Module path of the MLP; empty where its linears stand in the layer itself."""
    ups: tuple[str, ...] = ("gate_proj", "up_proj")
    """Module names of the projections to intermediate_size: gate and up, one of both (packed), one without gate, or
    none where a layer has no MLP."""
    packed_gate: bool = False
    """Whether the one of `ups` makes gate and up."""
    down: str = "down_proj"
    """Module name of the projection back."""
    mlp_norm: str = ""
    """Module name below `mlp` of a norm over what `down` reads (BitNet); empty for none."""
    names: tuple[tuple[str, str], ...] = ()
    """Module name -> name of the tensor, where the module's is not clear by itself: c_proj of attention and MLP."""
    qk_norm: QkNorm = "none"
    qk_norm_bias: bool = False
    """Whether the norms of q and k have a bias."""
    qk_norm_names: tuple[str, str] = ("q_norm", "k_norm")
    qkv_clip: Clip = "none"
    rotary: bool = True
    """Whether positions turn q and k; else they are learned, or slopes in attention (ALiBi)."""
    rotary_share: float = 1.0
    """Share of head_dim that is turned."""
    relative: tuple[str, ...] = ()
    """Products with projected relative positions that are added to the scores (DeBERTa)."""
    relative_shared: bool = False
    """Whether the projections of queries and keys project the relative positions, too."""
    out_bias: bool | None = None
    """Bias of attention's result projection where it is not `ModelSpec.attn_out_bias`."""
    down_bias: bool | None = None
    """Bias of the projection back where it is not that of the projections up."""
    embedding_scale: bool = False
    """Whether embeddings are multiplied by a number (Gemma, Granite)."""
    residual_scale: bool = False
    """Whether what is added to the residual is multiplied by a number (Granite)."""
    residual_blocks: int = 0
    """Sums of earlier blocks of layers that a layer's inputs are weighed from, its own among them (attention residuals,
    Kimi K3); 0 for none."""
    logit_kernels: int = 0
    """Element-wise kernels on the logits: a multiplier 1, a soft cap 3."""
    embedding: str = "model.embed_tokens"
    token_types: str = "embeddings.token_type_embeddings"
    position_table: str = "model.embed_positions"
    embedding_norm: str = "model.embedding_norm"
    projection: str = "embeddings_project"
    """The linear from narrow embeddings to hidden_size, where there is one."""
    tables: str = "model.rotary_emb"
    final_norm: str = "model.norm"
    lm_head: str = "lm_head"
    layers: str = "model.layers"
    """Module paths outside the layers."""
