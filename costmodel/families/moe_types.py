"""What tells the decoders of mixtures of experts with grouped-query attention apart, as a table.

Defaults of absent fields are those of the configuration classes of transformers 5.23.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class MoeType:
    """What tells a model_type from the others."""

    prefix: str
    positions: int
    kv_heads: int | None = None
    number: tuple[str, int]
    """Field of the number of experts, and its default."""
    per_token: int
    per_token_field: str = "num_experts_per_tok"
    size: tuple[str, int]
    """Field of an expert's width, and its default."""
    head_dim: int | None = None
    """Default where it is not hidden_size / heads."""
    qkv_bias: bool | None = None
    """None where `attention_bias` says so."""
    out_bias: bool | None = False
    bias: bool = False
    """Of the experts' linears and of the router."""
    router_bias: bool = False
    """Whether the router has a number for each expert that corrects its choice, as a parameter."""
    norms: str = ""
    """`head`: RMSNorm over each head of q and k; `all`: over all of q and all of k."""
    block: str = "mlp"
    shared: str = "shared_experts"
    shared_number: tuple[str, int] | None = None
    """Field of the number of shared experts, all of an expert's width, and its default; None where there is none."""
    first_dense: int | None = None
    """Default of `first_k_dense_replace`; None where there is no such field."""
    sinks: bool = False
    tied: bool = False
    windowed: bool = False
    """Whether a `sliding_window` holds for all layers."""


MOE_TYPES = {
    "mixtral": MoeType(
        prefix="Mixtral",
        positions=131072,
        kv_heads=8,
        number=("num_local_experts", 8),
        per_token=2,
        size=("intermediate_size", 14336),
        qkv_bias=False,
        windowed=True,
    ),
    "qwen2_moe": MoeType(
        prefix="Qwen2Moe",
        positions=32768,
        kv_heads=16,
        number=("num_experts", 60),
        per_token=4,
        size=("moe_intermediate_size", 1408),
        qkv_bias=True,
        shared="shared_expert",
    ),
    "qwen3_moe": MoeType(
        prefix="Qwen3Moe",
        positions=32768,
        kv_heads=4,
        number=("num_experts", 128),
        per_token=8,
        size=("moe_intermediate_size", 768),
        out_bias=None,
        norms="head",
    ),
    "qwen3_vl_moe_text": MoeType(
        prefix="Qwen3VLMoeText",
        positions=128000,
        kv_heads=16,
        number=("num_experts", 60),
        per_token=4,
        size=("moe_intermediate_size", 1408),
        out_bias=None,
        norms="head",
        tied=True,
    ),
    "qwen3_omni_moe_text": MoeType(
        prefix="Qwen3OmniMoeThinkerText",
        positions=32768,
        kv_heads=4,
        number=("num_experts", 128),
        per_token=8,
        size=("moe_intermediate_size", 768),
        out_bias=None,
        norms="head",
    ),
    "gpt_oss": MoeType(
        prefix="GptOss",
        positions=131072,
        kv_heads=8,
        number=("num_local_experts", 128),
        per_token=4,
        size=("intermediate_size", 2880),
        head_dim=64,
        out_bias=None,
        bias=True,
        sinks=True,
    ),
    "olmoe": MoeType(
        prefix="Olmoe",
        positions=4096,
        number=("num_experts", 64),
        per_token=8,
        size=("intermediate_size", 2048),
        out_bias=None,
        norms="all",
    ),
    "granitemoe": MoeType(
        prefix="GraniteMoe",
        positions=2048,
        number=("num_local_experts", 8),
        per_token=2,
        size=("intermediate_size", 11008),
        out_bias=None,
        block="block_sparse_moe",
    ),
    "minimax_m2": MoeType(
        prefix="MiniMaxM2",
        positions=196608,
        kv_heads=8,
        number=("num_local_experts", 256),
        per_token=8,
        size=("intermediate_size", 1536),
        head_dim=128,
        qkv_bias=False,
        norms="all",
    ),
    "glm4_moe": MoeType(
        prefix="Glm4Moe",
        positions=131072,
        kv_heads=8,
        number=("n_routed_experts", 128),
        per_token=8,
        size=("moe_intermediate_size", 1408),
        shared_number=("n_shared_experts", 1),
        first_dense=1,
    ),
    "glm4v_moe_text": MoeType(
        prefix="Glm4vMoeText",
        positions=65536,
        kv_heads=8,
        number=("n_routed_experts", 128),
        per_token=8,
        size=("moe_intermediate_size", 1408),
        shared_number=("n_shared_experts", 1),
        first_dense=1,
    ),
    "exaone_moe": MoeType(
        prefix="ExaoneMoe",
        positions=2048,
        kv_heads=32,
        number=("num_experts", 64),
        per_token=8,
        size=("moe_intermediate_size", 1024),
        qkv_bias=False,
        norms="head",
        shared_number=("num_shared_experts", 1),
        first_dense=1,
    ),
    "dots1": MoeType(
        prefix="Dots1",
        positions=2048,
        kv_heads=32,
        number=("n_routed_experts", -1),
        per_token=-1,
        size=("moe_intermediate_size", 1408),
        out_bias=None,
        norms="head",
        shared_number=("n_shared_experts", 0),
        first_dense=0,
    ),
    "solar_open": MoeType(
        prefix="SolarOpen",
        positions=131072,
        kv_heads=8,
        number=("n_routed_experts", 128),
        per_token=8,
        size=("moe_intermediate_size", 1280),
        head_dim=128,
        shared_number=("n_shared_experts", 1),
    ),
    "ernie4_5_moe": MoeType(
        prefix="Ernie4_5_Moe",
        positions=131072,
        kv_heads=4,
        number=("moe_num_experts", 64),
        per_token=6,
        per_token_field="moe_k",
        size=("moe_intermediate_size", 1536),
        router_bias=True,
        shared_number=("moe_num_shared_experts", 2),
        tied=True,
    ),
    "deepseek": MoeType(
        prefix="Deepseek",
        positions=2048,
        number=("n_routed_experts", -1),
        per_token=-1,
        size=("moe_intermediate_size", 1407),
        out_bias=None,
        shared_number=("n_shared_experts", 0),
        first_dense=0,
    ),
    "phimoe": MoeType(
        prefix="Phimoe",
        positions=131072,
        kv_heads=8,
        number=("num_local_experts", 16),
        per_token=2,
        size=("intermediate_size", 6400),
        out_bias=None,
        windowed=True,
    ),
    "llama4_text": MoeType(
        prefix="Llama4",
        positions=131072,
        kv_heads=8,
        number=("num_local_experts", 16),
        per_token=1,
        size=("intermediate_size", 8192),
        head_dim=128,
        out_bias=None,
        block="feed_forward",
        shared="shared_expert",
    ),
}
