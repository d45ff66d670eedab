"""What follows the last layer of a model: the head that a configuration's `architectures` names, part by part."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

HeadKind = Literal[
    "causal_lm",
    "masked_lm",
    "pretraining",
    "sequence_classification",
    "token_classification",
    "question_answering",
    "multiple_choice",
    "none",
]
"""Named after the ends of transformers' classes: ForCausalLM, ForMaskedLM, ...; none is the body alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadPart:
    """A linear or a norm of a head."""

    path: str
    """Module path in the model with this head: `cls.predictions.transform.dense`, `score`."""
    out_features: int
    in_features: int
    """0 for a norm over out_features."""
    bias: bool
    tied: bool = False
    """Whether the weight is the token embedding, whose parameters count once; its bias is its own."""
    first_token: bool = False
    """Whether it reads the first token of each sequence alone, else every token."""
    activation: bool = False
    """Whether an activation follows."""

    @property
    def params(self) -> int:
        """Parameters that the head has of its own."""
        weight = self.out_features * max(1, self.in_features)
        return (0 if self.tied else weight) + (self.out_features if self.bias else 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """The head of a model."""

    kind: HeadKind
    parts: tuple[HeadPart, ...] = ()
    """In the order in which they run; empty for a causal LM's head, which is one product with the vocabulary."""
    pooler: bool = False
    """Whether an encoder's pooler runs before the parts."""
    labels: int = 0
    """Classes that a classifier tells apart; 0 for other heads."""

    @property
    def params(self) -> int:
        """Parameters of the parts."""
        return sum(part.params for part in self.parts)


CAUSAL_LM = Head(kind="causal_lm")
NO_HEAD = Head(kind="none")


def linear(
    path: str,
    out_features: int,
    in_features: int,
    *,
    bias: bool = True,
    tied: bool = False,
    first_token: bool = False,
    activation: bool = False,
) -> HeadPart:
    """A linear of a head."""
    return HeadPart(
        path=path,
        out_features=out_features,
        in_features=in_features,
        bias=bias,
        tied=tied,
        first_token=first_token,
        activation=activation,
    )


def norm(path: str, columns: int, *, bias: bool = True, first_token: bool = False) -> HeadPart:
    """A norm of a head."""
    return HeadPart(path=path, out_features=columns, in_features=0, bias=bias, first_token=first_token)
