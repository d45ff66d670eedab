"""What is trained and how: one value that, with the corpus, fixes every weight of the result."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from typing import Any

import torch
from torch import nn

from costmodel.errors import InputError
from studies.models.start import prepare_bert


class Family(StrEnum):
    """The kinds of model that can be trained."""

    LLAMA = "llama"
    BERT = "bert"


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """A model and its training; every step sees `batch * length` tokens.

    Attributes:
        family: Llama predicts the next token, BERT masked ones.
        vocab_size: tokens of the vocabulary.
        layers, hidden, intermediate, heads, kv_heads: the model's shape; `kv_heads` counts for Llama alone.
        length: tokens of a sequence.
        batch: sequences of a step.
        steps: of the optimiser.
        warmup: steps in which the learning rate rises; then it falls, linearly, to zero.
        matrix_rate: learning rate of Muon, for the matrices of the layers; 0 gives them to AdamW.
        rate: learning rate of AdamW, for everything else.
        weight_decay: of matrices and embeddings, decoupled.
        clip: largest norm of the gradient.
        masked_share: share of tokens that BERT is asked for.
        max_bytes: of the corpus; None for all.
        seed: of initial weights, order and masks.
        threads: sums are split by threads, so other numbers of threads give other roundings.
        mixed: whether products are in bfloat16, which processors without instructions for it take long to emulate.
    """

    family: Family
    vocab_size: int = 2048
    layers: int = 8
    hidden: int = 256
    intermediate: int = 704
    heads: int = 4
    kv_heads: int = 2
    length: int = 256
    batch: int = 8
    steps: int = 3400
    warmup: int = 200
    matrix_rate: float = 1e-2
    rate: float = 5e-3
    weight_decay: float = 0.1
    clip: float = 1.0
    masked_share: float = 0.15
    max_bytes: int | None = None
    seed: int = 0
    threads: int = 2
    mixed: bool = True

    @property
    def is_masked(self) -> bool:
        return self.family is Family.BERT

    @property
    def digest(self) -> str:
        """SHA-256 of all fields: runs with equal digests do the same steps."""
        return hashlib.sha256(json.dumps(self.to_json(), sort_keys=True).encode()).hexdigest()

    def to_json(self) -> dict[str, Any]:
        """The fields; `mixed` only where it is not, so that records from before there was a choice are of the same."""
        found = {**asdict(self), "family": str(self.family)}
        return {name: value for name, value in found.items() if name != "mixed" or not value}

    def check(self) -> Recipe:
        """The recipe itself.

        Raises:
            InputError: when a field cannot be, naming it.
        """
        for name in ("layers", "hidden", "intermediate", "heads", "kv_heads", "batch", "steps", "threads"):
            if getattr(self, name) < 1:
                raise InputError(f"recipe: {name}", value=getattr(self, name), allowed="at least 1")
        if self.hidden % self.heads or self.heads % self.kv_heads:
            raise InputError("recipe: heads", value=(self.heads, self.kv_heads), allowed="divide the hidden size")
        if self.hidden // self.heads % 2:
            raise InputError(
                "recipe: hidden", value=self.hidden, allowed=f"an even number for each of {self.heads} heads"
            )
        if self.vocab_size < 300:
            raise InputError("recipe: vocab_size", value=self.vocab_size, allowed="at least 300: bytes and specials")
        if self.length < 8:
            raise InputError("recipe: length", value=self.length, allowed="at least 8 tokens")
        if not 0 <= self.warmup < self.steps:
            raise InputError("recipe: warmup", value=self.warmup, allowed=f"0 to {self.steps - 1}, below the steps")
        return self

    def scale(self, step: int) -> float:
        """Factor on the learning rates at a step counted from 0: up in `warmup` steps, then down to zero."""
        if step < self.warmup:
            return (step + 1) / (self.warmup + 1)
        return (self.steps - step) / (self.steps - self.warmup)


def build_model(recipe: Recipe, tokenizer: Any) -> nn.Module:
    """The model with random weights of the recipe's seed, in float32; the global random state is left as it was."""
    import transformers

    shared: dict[str, Any] = {
        "vocab_size": recipe.vocab_size,
        "hidden_size": recipe.hidden,
        "intermediate_size": recipe.intermediate,
        "num_hidden_layers": recipe.layers,
        "num_attention_heads": recipe.heads,
        "max_position_embeddings": recipe.length,
        "pad_token_id": tokenizer.pad_token_id,
        "attn_implementation": "sdpa",
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        if recipe.is_masked:
            shared |= {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
            model = transformers.BertForMaskedLM(transformers.BertConfig(**shared))
            prepare_bert(model, torch.Generator().manual_seed(recipe.seed))
            return model
        ends = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
        heads = {"num_key_value_heads": recipe.kv_heads, "tie_word_embeddings": False}
        config = transformers.LlamaConfig(**{**shared, **ends, **heads, "pad_token_id": None})
        return transformers.LlamaForCausalLM(config)


RECIPES = {
    "llama": Recipe(family=Family.LLAMA),
    "bert": Recipe(
        family=Family.BERT,
        layers=6,
        intermediate=1024,
        kv_heads=4,
        steps=4200,
        matrix_rate=3e-3,
        rate=2e-3,
        masked_share=0.3,
    ),
}
"""About twenty minutes each on two cores."""


def small(recipe: Recipe, steps: int) -> Recipe:
    """The same recipe for a number of steps: the warm-up shrinks with them."""
    return replace(recipe, steps=steps, warmup=min(recipe.warmup, steps // 5))
