"""ModernBERT's decoder (Ettin): its layers with projections of their own, seeing what came before, and a head of a
linear, an activation and a norm before the logits."""

from __future__ import annotations

from dataclasses import replace

from costmodel.families.decoder import decoder_row
from costmodel.families.decoder_fields import decoder_spec, windows_by_type
from costmodel.families.fields import Fields
from costmodel.families.heads import no_head
from costmodel.families.row import FamilyRow
from costmodel.head import Head, HeadPart, linear, norm
from costmodel.model import ModelSpec
from costmodel.words import Words

_WORDS = Words(
    norms=("attn_norm", "mlp_norm"),
    attention="attn",
    out="Wo",
    ups=("Wi",),
    packed_gate=True,
    down="Wo",
    names=(("attn.Wo", "attn_output"), ("mlp.Wo", "mlp_output")),
    embedding="model.embeddings.tok_embeddings",
    embedding_norm="model.embeddings.norm",
    final_norm="model.final_norm",
    lm_head="decoder",
)
_FIRST = {"words": replace(_WORDS, norms=("", "mlp_norm")), "layer_norms": 1}
"""The first layer's attention reads the normed embeddings as they are."""


def _read(fields: Fields, row: FamilyRow) -> ModelSpec:
    fields.refuse("classifier_bias", "a bias of the head's first linear is not supported")
    layers, every = fields.layers("num_hidden_layers"), fields.count("global_attn_every_n_layers", 3)
    seen = fields.count_or_none("local_attention")
    window = None if seen is None else seen // 2
    windows = windows_by_type(fields, layers, window)
    if not fields.given("layer_types"):
        windows = tuple(window if layer % every else None for layer in range(layers))
    spec = decoder_spec(
        fields,
        row,
        _WORDS,
        activation=fields.activation("hidden_activation", "gelu"),
        norm_bias=fields.flag_or("norm_bias", False),
        lm_head_bias=fields.flag_or("decoder_bias", True),
        embedding_norm=True,
        sliding_windows=windows,
        layer_kinds=("first", *["other"] * (layers - 1)),
        kind_fields={"first": _FIRST},
    )
    return replace(spec, head=_causal_lm(spec, 0))


def _dense(spec: ModelSpec, path: str) -> tuple[HeadPart, HeadPart]:
    wide = spec.hidden_size
    return (
        linear(f"{path}.dense", wide, wide, bias=False, activation=True),
        norm(f"{path}.norm", wide, bias=spec.norm_bias),
    )


def _causal_lm(spec: ModelSpec, labels: int) -> Head:
    return Head(kind="causal_lm", parts=_dense(spec, "lm_head"))


def _classifier(spec: ModelSpec, labels: int) -> Head:
    last = linear("classifier", labels, spec.hidden_size, bias=False)
    return Head(kind="sequence_classification", parts=(*_dense(spec, "head"), last), labels=labels)


MODERNBERT_DECODER = decoder_row(
    "modernbert-decoder",
    {"modernbert-decoder": "ModernBertDecoder"},
    _read,
    norm="layer_norm",
    heads={"ForCausalLM": _causal_lm, "Model": no_head, "ForSequenceClassification": _classifier},
)
