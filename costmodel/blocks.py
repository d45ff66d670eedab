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

    @property
    def key_dim(self) -> int:
        """Width of a head's query and key."""
        return self.nope_dim + self.rope_dim

    @property
    def cached(self) -> int:
        """Elements of the cache for each token."""
        return self.kv_rank + self.rope_dim


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
