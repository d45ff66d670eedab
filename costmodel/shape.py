"""What a configuration says of a transformer's structure: sizes, and which parts there are. No weights, no costs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from costmodel.head import CAUSAL_LM, Head
from costmodel.units import DType

if TYPE_CHECKING:  # of the models that have them alone, which import them
    from costmodel.blocks import (
        AltUp,
        BlockIndexer,
        CompressedAttention,
        DeltaNet,
        Experts,
        LatentAttention,
        Lightning,
        LinearUnit,
        ShortConv,
        StateSpace,
    )
    from costmodel.weights import FactoredWeights, WeightFormat
    from costmodel.words import Words


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Shape:
    """Fields of `ModelSpec` and the widths that follow from them, in elements."""

    name: str
    """Built-in name, or the name of the folder or file that it was read from."""
    model_type: str
    """Hugging Face's `model_type`, one of its family's."""
    num_layers: int
    loops: int = 1
    """How often the layers run one after another with the same weights (ALBERT)."""
    hidden_size: int
    intermediate_size: int
    num_heads: int
    num_kv_heads: int
    """Heads of keys and values; fewer than num_heads with grouped-query attention."""
    head_dim: int
    """Width of one head; num_heads x head_dim need not be hidden_size (Qwen3, some Mistrals)."""
    value_dim: int = 0
    """Width of one head's values where it is not that of its keys (MiMo-V2), else 0."""
    vocab_size: int
    max_positions: int
    """Longest sequence that the model was made for."""
    position_rows: int = 0
    """Rows of the learned position table, 0 with RoPE. OPT has 2 more than positions, RoBERTa pad_token_id + 1 more."""
    token_types: int = 0
    """Rows of BERT's token-type table, 0 where there is none."""
    embed_dim: int
    """Width of the token embedding and of the LM head's input; differs from hidden_size in OPT-350m only."""
    narrow_embeddings: bool = False
    """Whether positions, token types and the norm behind them are embed_dim wide, too, and a linear with bias follows
    (ELECTRA)."""
    head_width: int = 0
    """Width of what a masked LM's last linear reads where it is of its own (RemBERT)."""
    layer_inputs: int = 0
    """Width of the embedding that each layer has of its own (Gemma 3n, 4), 0 where there is none."""
    altup: AltUp | None = None
    """The sizes of several streams of hidden states (Gemma 3n), None for one."""
    relative_rows: int = 0
    """Rows of a table of relative positions that each layer projects (DeBERTa), 0 where there is none."""
    other_outer_params: int = 0
    """Parameters outside the layers that no other field counts: a table of relative positions."""
    activation: str
    """Hugging Face's name of the MLP activation: silu, gelu, gelu_new, relu, ..."""
    gated_mlp: bool = False
    """Whether the MLP is down(act(gate(x)) * up(x)) instead of fc2(act(fc1(x)))."""
    qkv_bias: bool
    attn_out_bias: bool
    mlp_bias: bool
    qk_norm: bool = False
    """Whether q and k pass an RMSNorm over head_dim (Qwen3)."""
    lm_head_bias: bool = False
    """Whether the LM head has a bias (Phi, GPT-J, ModernBERT)."""
    experts: Experts | None = None
    """The mixture of experts in place of the MLP, None in dense layers."""
    latent: LatentAttention | None = None
    """The sizes of latent attention, None where keys and values are projected as they are."""
    indexer: BlockIndexer | None = None
    """The sizes of what chooses blocks of positions for plain attention, None where it looks at all."""
    compressed: CompressedAttention | None = None
    """The sizes of attention to compressed entries (DeepSeek-V4), None where there is none."""
    recurrent: DeltaNet | Lightning | LinearUnit | StateSpace | ShortConv | None = None
    """The sizes of linear attention, of a state space or of a short convolution, None where there is none."""
    attends: bool = True
    """Whether attention looks back at a cache; a layer may do so beside a state space (Falcon-H1)."""
    own_experts: tuple[tuple[str, int], ...] = ()
    """(name of a stack, number of an expert) of experts that are factored apart from the rest of their stack."""
    tie_embeddings: bool
    """Whether the LM head is the token embedding; always False for an encoder, which has no head."""
    pre_norm: bool
    """Norm before attention and MLP (True) or after the residual add (False: BERT, OPT-350m)."""
    final_norm: bool
    """Whether a norm follows the last layer."""
    norm_affine: bool = True
    """Whether norms have learned weights (False only in OPT without layer_norm_elementwise_affine)."""
    norm_bias: bool = True
    """Whether LayerNorms have a bias (Cohere's and MPT's have none)."""
    layer_norms: int = 2
    """Norms over hidden_size in a layer: one of attention and one of the MLP, two of each where they stand around."""
    embedding_norm: bool = False
    """Whether a norm follows the embeddings (BERT)."""
    pooler: bool = False
    """Whether a dense layer with tanh follows on the first token (encoders)."""
    words: Words | None = None
    """How a decoder's layer is put together, where the family's row is one of `costmodel.families.decoder`."""
    head: Head = CAUSAL_LM
    """What follows the last layer: the head of the class that the configuration names."""
    bidirectional: bool = False
    """Whether a decoder's attention is told to see both sides (`is_causal: false`)."""
    sliding_windows: tuple[int | None, ...]
    """For each layer the number of most recent positions that attention sees, None for all."""
    dtype: DType | None = None
    """Type that the checkpoint's weights are stored in, where the config says so."""
    weights: WeightFormat | None = None
    """How a quantised checkpoint holds the weights of its layers; None for plain ones."""
    factored: FactoredWeights | None = None
    """The factors that its folder holds in place of weights, None for a dense checkpoint."""
    plain_tensors: frozenset[str] = frozenset()
    """Names of the weights that a quantised checkpoint holds in the activations' type."""
    tensor_forms: tuple[tuple[str, WeightFormat], ...] = ()
    """Names of the weights that it holds otherwise than `weights` says, and how."""
    inside: str = ""
    """model_type of the larger model that this is the language model of; empty for a model of its own."""
    notes: tuple[str, ...] = ()
    """What of the configuration is not priced, in words for the answer's assumptions."""
    layer_kinds: tuple[str, ...] = ()
    """For each layer the name of its kind; empty where all layers are alike but for their windows."""
    kind_fields: Mapping[str, Mapping[str, object]] = field(default_factory=dict, repr=False)
    """Name of a kind -> the fields of this class that its layers have with other values than the model."""

    @property
    def q_size(self) -> int:
        """Features of all query heads together."""
        return self.num_heads * self.head_dim

    @property
    def kv_size(self) -> int:
        """Features of all key heads together."""
        return self.num_kv_heads * self.head_dim

    @property
    def value_width(self) -> int:
        """Features of one head's values."""
        return self.value_dim or self.head_dim

    @property
    def value_size(self) -> int:
        """Features of all value heads together."""
        return self.num_kv_heads * self.value_width

    @property
    def mixed_size(self) -> int:
        """Features of attention's result, all query heads together."""
        return self.num_heads * self.value_width

    @property
    def rotary_dim(self) -> int:
        """Features of a head that rotary positions turn."""
        block = self.latent or self.compressed
        return block.rope_dim if block else self.head_dim

    @property
    def cache_width(self) -> int:
        """Elements that the KV cache of a layer keeps of each position: its keys and values, or what they come from."""
        if not self.attends or (self.words is not None and self.words.shared_cache):
            return 0
        if self.compressed is not None:
            return self.compressed.cached(self.head_dim)
        if self.latent is not None:
            return self.latent.cached + self.latent.index_cached
        return self.kv_size + self.value_size + (self.indexer.width if self.indexer else 0)

    @property
    def state_size(self) -> int:
        """Elements that a layer keeps of each sequence whatever its length."""
        if self.compressed is not None:
            return self.compressed.state(self.head_dim)
        return self.recurrent.state if self.recurrent else 0
