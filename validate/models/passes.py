"""One forward pass of a workload as a callable that does the same work every time it is called."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from transformers import DynamicCache
from transformers.cache_utils import Cache, DynamicLayer

from costmodel.decomposition.factors import Decomposition
from costmodel.forward.workload import LmHead, Phase, Workload
from costmodel.model import ModelSpec
from validate.models.build import TORCH_DTYPES

Pass = Callable[[], torch.Tensor]


class FixedLayer(DynamicLayer):
    """A static KV cache of one layer that stands at the same position in every step.

    It holds kv_len positions, the last of which each step overwrites: two copies a step, as the cost model counts.
    transformers' StaticLayer advances instead, and makes masked attention over its whole length that copies grouped
    heads; here nothing is masked, since every position held is visible.

    Args:
        batch, heads, positions: of the keys and values held, the new token included.
        widths: of one head's keys, and of its values.
        past: tokens seen before the step; more than positions - 1 in a sliding window.
        sliding: whether the layer has a window: models with both kinds make a mask for each.
    """

    is_compileable = False

    def __init__(
        self,
        batch: int,
        heads: int,
        positions: int,
        widths: tuple[int, int],
        past: int,
        sliding: bool,
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        generator = torch.Generator().manual_seed(positions)
        drawn = torch.randn(1, 1, positions, max(widths), generator=generator).to(dtype=dtype, device=device)
        keys, values = (drawn[..., :width].expand(batch, heads, positions, width).contiguous() for width in widths)
        self.keys: torch.Tensor = keys
        self.values: torch.Tensor = values
        self.dtype, self.device, self.is_initialized = dtype, device, True
        self._past, self._positions, self.is_sliding = past, positions, sliding

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Write the new token's keys and values, (batch, heads, 1, width), over the last position; return all."""
        self.keys[:, :, -1:].copy_(key_states)
        self.values[:, :, -1:].copy_(value_states)
        return self.keys, self.values

    def get_seq_length(self, *args: Any) -> int:
        """Tokens seen before the step."""
        return self._past

    def get_mask_sizes(self, *args: Any) -> tuple[int, int]:
        """Positions held, and the position of the first of them."""
        return self._positions, self._past + 1 - self._positions

    def get_max_cache_shape(self) -> int:
        """Positions held."""
        return self._positions


def make_pass(
    model: nn.Module, spec: ModelSpec, decomposition: Decomposition, work: Workload, device: torch.device, seed: int = 0
) -> Pass:
    """The pass of `work` over seeded random tokens.

    Args:
        model: of `spec`, with `decomposition` applied.
        spec, decomposition: say which layers keep keys and values, and how many positions.
        work: prefill starts without a cache and fills one; decode adds one token at kv_len - 1.
        device: of the model; meta works.

    Returns:
        A function of no arguments; its result is the logits, or an encoder's pooled output (batch, hidden) or, where it
        has no pooler, hidden states.
    """
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randint(0, spec.vocab_size, (work.batch, work.q_len), generator=generator).to(device)
    if spec.is_encoder:
        return lambda: model(tokens).pooler_output if spec.pooler else model(tokens).last_hidden_state
    keep = 1 if work.lm_head is LmHead.LAST else 0
    if work.phase is Phase.PREFILL:
        config: Any = model.config
        return lambda: (
            model(tokens, past_key_values=DynamicCache(config=config), use_cache=True, logits_to_keep=keep).logits
        )
    cache = fixed_cache(spec, decomposition, work, device)
    positions = torch.full((1, 1), work.kv_len - 1, dtype=torch.long, device=device)

    def step() -> torch.Tensor:
        return model(tokens, past_key_values=cache, use_cache=True, position_ids=positions, logits_to_keep=keep).logits  # type: ignore[no-any-return]

    return step


def fixed_cache(spec: ModelSpec, decomposition: Decomposition, work: Workload, device: torch.device) -> Cache:
    """The cache of one decode step: a FixedLayer per kept layer, of kv_len positions or of the layer's window."""
    dtype = TORCH_DTYPES[work.dtype]
    layers: list[Any] = []
    for index, window in enumerate(spec.sliding_windows):
        if index not in decomposition.dropped:
            held = work.kv_len if window is None else min(work.kv_len, window)
            heads, widths = _cached(spec.kind_of(index))
            layers.append(
                FixedLayer(work.batch, heads, held, widths, work.kv_len - 1, window is not None, dtype, device)
            )
    return Cache(layers=layers)


def _cached(kind: ModelSpec) -> tuple[int, tuple[int, int]]:
    """Heads whose keys and values a layer caches, and their widths; of latent attention the narrow vector and the key
    that all heads share."""
    if kind.latent is not None:
        return 1, (kind.latent.kv_rank, kind.latent.rope_dim)
    return kind.num_kv_heads, (kind.head_dim, kind.head_dim)


def cache_bytes(spec: ModelSpec, decomposition: Decomposition, work: Workload) -> int:
    """Bytes of keys and values at the end of the pass, from the tensors that hold them (on the meta device)."""
    if spec.is_encoder:
        return 0
    layers: list[Any] = fixed_cache(spec, decomposition, work, torch.device("meta")).layers
    return sum(layer.keys.nbytes + layer.values.nbytes for layer in layers)
