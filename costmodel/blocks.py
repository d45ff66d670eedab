"""Sizes of what stands in a layer in place of plain attention and of a plain MLP."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Experts:
    """A mixture of experts: a router sends each token through `per_token` of `number` MLPs."""

    number: int
    per_token: int
    intermediate_size: int
    shared_intermediate_size: int = 0
    """Of the MLP that every token passes beside its experts, all shared experts together; 0 where there is none."""
    gated: bool = True
    """Whether an expert is down(act(gate(x)) * up(x)), else down(act(up(x)))."""
    width: int = 0
    """Of what experts read and write, where two linears lead there and back (Nemotron 3); 0 for hidden_size."""
    width_names: tuple[str, str] = ("fc1_latent_proj", "fc2_latent_proj")
    """Names of these two linears below the mixture of experts."""
    width_norm: str = ""
    """Name of a norm over what the second one reads (Kimi K3); empty for none."""
    router_bias: bool = False
    """Whether a number for each expert corrects the router's choice, as a parameter."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LatentAttention:
    """Multi-head latent attention (DeepSeek-V2, arXiv 2405.04434): keys and values of all heads from one narrow vector
    of each token, which is what the cache keeps, beside one key of rope_dim that all heads share."""

    query_rank: int | None
    """Width of the queries' own narrow vector; None where they come from the hidden states."""
    kv_rank: int
    nope_dim: int
    """Part of a head's query and key that RoPE does not turn."""
    rope_dim: int
    value_dim: int
    index_top: int = 0
    """Positions that attention looks at, those of the highest scores of an indexer (DeepSeek-V3.2); 0 for all."""
    index_heads: int = 0
    """Of the indexer; 0 where there is none, or the layer takes the choice of an earlier one."""
    index_dim: int = 0
    """Width of a head of the indexer, and of the one key of each position that it caches."""

    @property
    def key_dim(self) -> int:
        """Width of a head's query and key."""
        return self.nope_dim + self.rope_dim

    @property
    def cached(self) -> int:
        """Elements that keys and values are made from, of each token."""
        return self.kv_rank + self.rope_dim

    @property
    def index_cached(self) -> int:
        """Elements that the indexer caches of each token."""
        return self.index_dim if self.index_heads else 0


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockIndexer:
    """What chooses the blocks of positions that a query looks at, those of the highest scores of a few heads against
    one cached key of each position (MiniMax-M3)."""

    heads: int
    width: int
    """Of a head, and of the key."""
    block: int
    """Positions of a block."""
    top: int
    """Blocks that a query looks at."""

    @property
    def seen(self) -> int:
        """Positions that a query looks at."""
        return self.block * self.top


@dataclass(frozen=True, slots=True, kw_only=True)
class DeltaNet:
    """Linear attention by the gated delta rule (Yang et al., arXiv 2412.06464): a matrix of key_dim x value_dim for
    each value head in place of a cache that grows, behind a short causal convolution of queries, keys and values."""

    key_heads: int
    value_heads: int
    key_dim: int
    """Of one head."""
    value_dim: int
    """Of one head."""
    kernel: int
    """Positions that the convolution sees."""
    by_channel: bool = False
    """Whether each feature of a key decays by itself (Kimi Delta Attention, arXiv 2510.26692), not each head."""
    decay_rank: int = 0
    """Features between the two linears that make decays; 0 for one linear."""
    gate_rank: int = 0
    """Features between the two linears that make the gate of the result; 0 for one linear."""

    @property
    def decays(self) -> int:
        """Decays of all heads together."""
        return self.value_heads * (self.key_dim if self.by_channel else 1)

    @property
    def keys(self) -> int:
        """Features of all key heads together."""
        return self.key_heads * self.key_dim

    @property
    def values(self) -> int:
        """Features of all value heads together."""
        return self.value_heads * self.value_dim

    @property
    def convolved(self) -> int:
        """Features that the convolution runs over."""
        return 2 * self.keys + self.values

    @property
    def state(self) -> int:
        """Elements that are kept of each sequence, whatever its length."""
        return self.value_heads * self.key_dim * self.value_dim + self.convolved * self.kernel


@dataclass(frozen=True, slots=True, kw_only=True)
class Lightning:
    """Linear attention with a decay of each head that is no parameter (Lightning Attention, arXiv 2401.04658): a matrix
    of head_dim x head_dim for each head in place of a cache that grows, a norm over all heads and a gate behind."""

    heads: int
    head_dim: int
    chunk: int
    """Positions of a prompt that run at once."""
    qk_norm: bool = False
    """Whether q and k pass a norm over head_dim and rotary positions."""

    @property
    def values(self) -> int:
        """Features of all heads together."""
        return self.heads * self.head_dim

    @property
    def state(self) -> int:
        """Elements that are kept of each sequence, whatever its length."""
        return self.values * self.head_dim


@dataclass(frozen=True, slots=True, kw_only=True)
class StateSpace:
    """A selective state space: a state of head_dim x state_dim for each head in place of a cache that grows, behind a
    short causal convolution. Mamba-2 (arXiv 2405.21060) runs a prompt in chunks; Mamba (arXiv 2312.00752), whose heads
    are single features, makes step sizes from `rank` features and runs position by position."""

    heads: int
    head_dim: int
    groups: int = 1
    """Heads of a group share what enters and leaves their states."""
    state_dim: int
    kernel: int
    """Positions that the convolution sees."""
    chunk: int = 0
    """Positions that run at once; 0 for Mamba."""
    rank: int = 0
    """Features that step sizes are made from; 0 for Mamba-2, where they come from the hidden states."""
    conv_bias: bool = True
    bias: bool = False
    """Of the linear that reads the hidden states."""
    out_bias: bool = False
    """Of the one that writes them."""
    normed: bool = True
    """Whether a gated norm follows (Mamba-2), or norms of what step sizes and states are made from (Jamba's Mamba)."""

    @property
    def values(self) -> int:
        """Features of all heads together."""
        return self.heads * self.head_dim

    @property
    def convolved(self) -> int:
        """Features that the convolution runs over."""
        return self.values + (0 if self.rank else 2 * self.groups * self.state_dim)

    @property
    def state(self) -> int:
        """Elements that are kept of each sequence, whatever its length."""
        return self.values * self.state_dim + self.convolved * self.kernel


@dataclass(frozen=True, slots=True, kw_only=True)
class ShortConv:
    """A gated causal convolution over a few positions in place of attention (LFM2, arXiv 2511.23404)."""

    width: int
    kernel: int
    """Positions that it sees."""
    bias: bool = False
    """Of the convolution and of the linears around it."""

    @property
    def state(self) -> int:
        """Elements that are kept of each sequence, whatever its length."""
        return self.width * self.kernel


@dataclass(frozen=True, slots=True, kw_only=True)
class LinearUnit:
    """A real-gated linear recurrent unit (RG-LRU, arXiv 2402.19427): one number of each feature in place of a cache
    that grows, behind a short causal convolution; its two gates read the features of one head each."""

    width: int
    heads: int
    kernel: int
    """Positions that the convolution sees."""

    @property
    def state(self) -> int:
        """Elements that are kept of each sequence, whatever its length."""
        return self.width * self.kernel


@dataclass(frozen=True, slots=True, kw_only=True)
class AltUp:
    """Several streams of hidden states, of which a layer passes one and predicts and corrects the others (AltUp, arXiv
    2301.13310), and a low-rank linear path beside attention (LAuReL, arXiv 2411.07501), as in Gemma 3n."""

    streams: int
    rank: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CompressedAttention:
    """Attention of DeepSeek-V4: one key of all heads, which is the value, too; the last `window` positions as they are,
    and those before as one entry for `rate` positions; streams of hidden states (manifold-constrained
    hyper-connections, arXiv 2512.24880) around attention and experts."""

    query_rank: int
    """Width of the queries' own narrow vector."""
    rope_dim: int
    """Features of a head that RoPE turns."""
    out_groups: int
    """Groups of heads that are projected each by itself."""
    out_rank: int
    """Features that a group is projected to."""
    streams: int
    window: int
    rate: int = 0
    """Positions of an entry; 0 where positions before the window are not seen."""
    index_top: int = 0
    """Entries that attention looks at, those of the highest scores of an indexer; 0 for all."""
    index_heads: int = 0
    index_dim: int = 0
    """Width of a head of the indexer, and of the one key of each entry that it caches."""

    @property
    def series(self) -> int:
        """Vectors that a position gives: to one entry, or with an indexer to this and the next."""
        return 2 if self.index_heads else 1

    def cached(self, head_dim: int) -> int:
        """Elements that the cache grows by for each position, rounded up."""
        return -(-(head_dim + self.index_dim) // self.rate) if self.rate else head_dim

    def state(self, head_dim: int) -> int:
        """Elements that are kept of each sequence beside the entries: the window."""
        return self.window * head_dim if self.rate else 0
