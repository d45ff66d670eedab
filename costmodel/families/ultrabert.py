"""UltraBERT: Llama's layers that see both sides, two of three of them in windows."""

from __future__ import annotations

from costmodel.families.decoder_fields import windows_by_type
from costmodel.families.encoders import encoder_row, encoder_spec
from costmodel.families.fields import Fields
from costmodel.families.heads import classifier, no_head
from costmodel.families.row import FamilyRow
from costmodel.head import Head, linear
from costmodel.model import ModelSpec
from costmodel.words import Words


def _read_ultrabert(fields: Fields, row: FamilyRow) -> ModelSpec:
    fields.refuse("attention_windows", "windows are read from layer_types and sliding_window")
    layers, radius = fields.layers("num_hidden_layers"), fields.count("sliding_window")
    return encoder_spec(
        fields,
        row,
        Words(embedding="embed_tokens", final_norm="norm", tables="rotary_emb"),
        bias=fields.flag_or("attention_bias", False),
        mlp_bias=fields.flag_or("mlp_bias", False),
        sliding_windows=windows_by_type(fields, layers, radius + 1, every=3),
        embedding_norm=False,
        final_norm=True,
        head_width=fields.count("prediction_head_size"),
        notes=("its masked LM ties its head",) if fields.flag_or("tie_word_embeddings", False) else (),
    )


def _ultrabert_lm(spec: ModelSpec, labels: int) -> Head:
    wide, narrow = spec.hidden_size, spec.head_width
    parts = (
        linear("head.linear1", narrow, wide, bias=False, activation=True),
        linear("head.linear2", wide, narrow, bias=False, activation=True),
        linear("head.decoder", spec.vocab_size, wide, bias=False, vocabulary=True, tied=bool(spec.notes)),
    )
    return Head(kind="masked_lm", parts=parts)


ULTRABERT = encoder_row(
    "ultrabert",
    {"ultrabert": "Ultrabert"},
    _read_ultrabert,
    norm="rms_norm",
    layers="layers",
    heads={
        "Model": no_head,
        "ForMaskedLM": _ultrabert_lm,
        "ForSequenceClassification": classifier("sequence_classification", "classifier", first_token=True),
        "ForTokenClassification": classifier("token_classification", "classifier"),
        "ForQuestionAnswering": classifier("question_answering", "qa_outputs", outputs=2),
    },
)
