"""What follows the last layer of a model: the head that a configuration's `architectures` names, part by part."""

from __future__ import annotations

from dataclasses import dataclass, replace
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
    vocabulary: bool = False
    """Whether it makes the logits of the vocabulary, of which each of several devices makes its share."""
    tied: bool = False
    """Whether the weight is the token embedding, whose parameters count once; its bias is its own."""
    second_bias: bool = False
    """Whether the head holds its bias a second time, unused, where the weight is not tied (BERT and its kin)."""
    own_bias: bool = False
    """Whether a checkpoint holds that second bias with other values, so that it is a parameter beside a tied weight."""
    first_token: bool = False
    """Whether it reads the first token of each sequence alone, else every token."""
    activation: bool = False
    """Whether an activation follows."""

    @property
    def params(self) -> int:
        """Parameters that the head has of its own."""
        weight = self.out_features * max(1, self.in_features)
        biases = self.bias + (self.second_bias and not self.tied) + self.own_bias
        return (0 if self.tied else weight) + biases * self.out_features


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """The head of a model."""

    kind: HeadKind
    parts: tuple[HeadPart, ...] = ()
    """In the order in which they run; of a causal LM what stands before its product with the vocabulary."""
    pooler: bool = False
    """Whether an encoder's pooler runs before the parts."""
    labels: int = 0
    """Classes that a classifier tells apart; 0 for other heads."""

    @property
    def params(self) -> int:
        """Parameters of the parts."""
        return sum(part.params for part in self.parts)

    def untied(self) -> Head:
        """The same head with a weight of its own where it has the token embedding."""
        return replace(self, parts=tuple(replace(part, tied=False) for part in self.parts))

    @property
    def tied(self) -> HeadPart | None:
        """The part whose weight is the token embedding, if there is one."""
        return next((part for part in self.parts if part.tied), None)

    def with_own_weight(self) -> Head:
        """The same head with a weight of its own there, and a bias that is held once as before."""
        parts = (replace(part, tied=False, second_bias=False) if part.tied else part for part in self.parts)
        return replace(self, parts=tuple(parts))

    def with_own_bias(self) -> Head:
        """The same head where both its biases there are parameters."""
        return replace(self, parts=tuple(replace(part, own_bias=part.tied) for part in self.parts))


CAUSAL_LM = Head(kind="causal_lm")
NO_HEAD = Head(kind="none")


def linear(
    path: str,
    out_features: int,
    in_features: int,
    *,
    bias: bool = True,
    vocabulary: bool = False,
    tied: bool = False,
    second_bias: bool = False,
    first_token: bool = False,
    activation: bool = False,
) -> HeadPart:
    """A linear of a head; one that is tied makes logits of the vocabulary."""
    return HeadPart(
        path=path,
        out_features=out_features,
        in_features=in_features,
        bias=bias,
        vocabulary=vocabulary or tied,
        tied=tied,
        second_bias=second_bias,
        first_token=first_token,
        activation=activation,
    )


def norm(path: str, columns: int, *, bias: bool = True, first_token: bool = False) -> HeadPart:
    """A norm of a head."""
    return HeadPart(path=path, out_features=columns, in_features=0, bias=bias, first_token=first_token)
