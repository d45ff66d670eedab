"""Where a BERT starts, so that it learns within thousands of steps: embeddings that keep places apart, and a first
layer whose heads look at the tokens beside a place."""

from __future__ import annotations

import math
from typing import Any

import torch

EMBEDDING = 0.3
"""Standard deviation of token embeddings. From the usual 0.02 they outgrow the places within a hundred steps."""
PLACE = 0.8
"""Share of places in the variance of what the first layer reads."""
PEAK = 20.0
"""How far the token looked at stands above a distant one, before the softmax."""


@torch.no_grad()
def prepare_bert(model: Any, source: torch.Generator) -> None:
    """Set embeddings and the first layer's queries and keys; everything else keeps its random values.

    A masked place knows nothing of its own, so that nothing is learned beyond frequencies until some head finds the
    tokens beside it; from random weights that takes most of a short training (trained BERTs have such heads: Clark et
    al. 2019, section 3.1). Queries and keys begin as projections on the places' sines and cosines, the queries turned
    by an offset (-1, 1, -2, 2, ... by head); like Trockman and Kolter's mimetic initialisation (2023), a start only:
    training moves it where it likes.

    Args:
        model: a BertForMaskedLM.
        source: of the embeddings' values.
    """
    config, embeddings = model.config, model.bert.embeddings
    heads, width = config.num_attention_heads, config.hidden_size
    words, places = embeddings.word_embeddings.weight, embeddings.position_embeddings.weight
    words.copy_(EMBEDDING * torch.randn(words.shape, generator=source))
    places.copy_(EMBEDDING * math.sqrt(PLACE / (1 - PLACE)) * sinusoids(len(places), width))
    # a head's output stays of the size that the usual embeddings would give it
    model.cls.predictions.transform.LayerNorm.weight.fill_(0.02 / EMBEDDING)
    attention = model.bert.encoder.layer[0].attention.self
    size = width // heads
    gain = math.sqrt(PEAK / (PLACE * math.sqrt(size)))  # query and key meet in size * PLACE * gain^2 / sqrt(size)
    look = torch.zeros(width, width)
    for head in range(heads):
        look[head * size : (head + 1) * size, :size] = gain * torch.eye(size)
    attention.key.weight.copy_(look)
    for head in range(heads):
        offset = (head // 2 + 1) * (1 if head % 2 else -1)
        look[head * size : (head + 1) * size, :size] = gain * turn(offset, size, width)
    attention.query.weight.copy_(look)


def sinusoids(length: int, width: int) -> torch.Tensor:
    """Places as sines and cosines in turn (length, width), of variance one (Vaswani et al. 2017, section 3.5)."""
    angles = torch.arange(length)[:, None] * _frequencies(width)
    return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(1) * math.sqrt(2)


def turn(offset: int, size: int, width: int) -> torch.Tensor:
    """The matrix (size, size) that takes the first numbers of a place to those of the place `offset` further on."""
    matrix = torch.zeros(size, size)
    for pair, frequency in enumerate(_frequencies(width)[: size // 2].tolist()):
        sine, cosine, at = math.sin(frequency * offset), math.cos(frequency * offset), 2 * pair
        matrix[at : at + 2, at : at + 2] = torch.tensor([[cosine, sine], [-sine, cosine]])
    return matrix


def _frequencies(width: int) -> torch.Tensor:
    """Radians by token, from 2, which tells neighbours apart, down to 2e-4 (width / 2,)."""
    return 2 * torch.exp(torch.arange(0, width, 2) * (-math.log(1e4) / width))
