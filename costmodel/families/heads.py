"""Heads by the end of a class's name: what `LlamaForSequenceClassification` has beyond `LlamaModel`."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from costmodel.head import CAUSAL_LM, NO_HEAD, Head, HeadKind, HeadPart, linear, norm
from costmodel.model import ModelSpec

MakeHead = Callable[[ModelSpec, int], Head]
"""The head of a model, given the number of labels that its classifier tells apart."""
Heads = Mapping[str, MakeHead]
"""End of a class's name -> its head."""


def classifier(
    kind: HeadKind,
    *paths: str,
    bias: bool = True,
    first_token: bool = False,
    pooler: bool = False,
    outputs: int | None = None,
) -> MakeHead:
    """A linear to the labels, with square linears before it.

    Args:
        kind: what is classified.
        paths: of the linears; the last is the one to the labels.
        bias: whether they have one.
        first_token: whether they read the first token of a sequence alone.
        pooler: whether an encoder's pooler comes first.
        outputs: of the last one where they are not the labels.
    """

    def make(spec: ModelSpec, labels: int) -> Head:
        width = spec.embed_dim if not spec.is_encoder else spec.hidden_size
        square = [
            linear(path, width, width, bias=bias, first_token=first_token, activation=True) for path in paths[:-1]
        ]
        last = linear(paths[-1], labels if outputs is None else outputs, width, bias=bias, first_token=first_token)
        return Head(kind=kind, parts=(*square, last), pooler=pooler, labels=last.out_features)

    return make


def masked_lm(dense: str, normed: str, decoder: str, *, bias: bool = True, second_bias: bool = True) -> MakeHead:
    """A linear to the embedding's width, an activation, a norm, and the product with the tied embedding.

    Args:
        dense, normed, decoder: module paths of the three.
        bias: of the norm.
        second_bias: whether the bias of the last is there twice where it is not tied.
    """

    def make(spec: ModelSpec, labels: int) -> Head:
        parts = masked_lm_parts(spec, dense, normed, decoder, bias=bias, second_bias=second_bias)
        return Head(kind="masked_lm", parts=parts)

    return make


def masked_lm_parts(
    spec: ModelSpec, dense: str, normed: str, decoder: str, *, bias: bool = True, second_bias: bool = True
) -> tuple[HeadPart, ...]:
    """The parts of `masked_lm`'s head."""
    return (
        linear(dense, spec.embed_dim, spec.hidden_size, activation=True),
        norm(normed, spec.embed_dim, bias=bias),
        linear(decoder, spec.vocab_size, spec.embed_dim, tied=True, second_bias=second_bias),
    )


def causal_lm(spec: ModelSpec, labels: int) -> Head:
    """One product with the vocabulary."""
    return CAUSAL_LM


def no_head(spec: ModelSpec, labels: int) -> Head:
    """The body alone."""
    return NO_HEAD


DECODER_HEADS: Heads = {
    "ForCausalLM": causal_lm,
    "Model": no_head,
    "ForSequenceClassification": classifier("sequence_classification", "score", bias=False),
    "ForTokenClassification": classifier("token_classification", "score"),
    "ForQuestionAnswering": classifier("question_answering", "qa_outputs", outputs=2),
}
"""The heads that transformers gives to any decoder, the commonest first."""
TEXT_HEADS: Heads = {
    **DECODER_HEADS,
    "TextModel": no_head,
    "TextForSequenceClassification": DECODER_HEADS["ForSequenceClassification"],
}
"""Those of a language model that transformers also has apart from the model around it."""
