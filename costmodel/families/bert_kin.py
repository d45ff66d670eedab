"""More encoders put together as BERT is: ALBERT, RoFormer, LayoutLM, those with norms before their blocks, BigBird,
RemBERT, DPR."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from costmodel.families.bert import BERT_LM, NEXT_SENTENCE
from costmodel.families.bert import HEADS as BERT_HEADS
from costmodel.families.encoders import BERT_WORDS, BY_FIRST_TOKEN, LINEAR_HEADS, encoder_row, encoder_spec
from costmodel.families.fields import Fields
from costmodel.families.heads import Heads, MakeHead, classifier, masked_lm, masked_lm_parts, no_head
from costmodel.families.row import FamilyRow
from costmodel.head import Head, linear, norm
from costmodel.model import ModelSpec
from costmodel.words import Words

_ENCODER_ONLY = "only the encoder is supported, without cross-attention"


def _spec(fields: Fields, row: FamilyRow, words: Words, **values: Any) -> ModelSpec:
    """A model with a table of positions and one of token types, unless `values` say otherwise."""
    fields.refuse("is_decoder", _ENCODER_ONLY)
    fields.refuse("add_cross_attention", _ENCODER_ONLY)
    rows = fields.count("max_position_embeddings")
    types = values.pop("token_types", None)
    types = fields.count("type_vocab_size") if types is None else types
    options = {"position_rows": rows, "token_types": types, **values}
    return encoder_spec(fields, row, words, **options)


# ALBERT: one layer that runs many times

_ALBERT = replace(
    BERT_WORDS,
    norms=("attention.LayerNorm", "full_layer_layer_norm"),
    qkv=("query", "key", "value"),
    out="dense",
    ups=("ffn",),
    down="ffn_output",
    names=(("dense", "attn_output"), ("ffn", "intermediate"), ("ffn_output", "output")),
    projection="encoder.embedding_hidden_mapping_in",
)


def _read_albert(fields: Fields, row: FamilyRow) -> ModelSpec:
    runs, groups, inner = (fields.count(name) for name in ("num_hidden_layers", "num_hidden_groups", "inner_group_num"))
    if groups != 1 or inner != 1:
        raise fields.error("num_hidden_groups", "1 group of 1 layer that runs num_hidden_layers times")
    if fields.count("embedding_size") == fields.count("hidden_size"):
        raise fields.error("embedding_size", "another width than hidden_size")
    return _spec(
        fields,
        row,
        _ALBERT,
        num_layers=1,
        loops=runs if fields.num_layers is None else fields.num_layers,
        embed_dim=fields.count("embedding_size"),
        narrow_embeddings=True,
        pooler=True,
        notes=(f"its one layer runs {runs} times: what is factored is factored in all of them",),
    )


def _albert_pretraining(spec: ModelSpec, labels: int) -> Head:
    parts = masked_lm_parts(spec, "predictions.dense", "predictions.LayerNorm", "predictions.decoder")
    order = linear("sop_classifier.classifier", labels, spec.hidden_size, first_token=True)
    return Head(kind="pretraining", parts=(*parts, order), pooler=True)


ALBERT = encoder_row(
    "albert",
    {"albert": "Albert"},
    _read_albert,
    layers="encoder.albert_layer_groups.0.albert_layers",
    heads={
        **{end: BERT_HEADS[end] for end in ("Model", "ForTokenClassification", "ForQuestionAnswering")},
        "ForMaskedLM": masked_lm("predictions.dense", "predictions.LayerNorm", "predictions.decoder"),
        "ForPreTraining": _albert_pretraining,
        "ForSequenceClassification": classifier("sequence_classification", "classifier", first_token=True, pooler=True),
        "ForMultipleChoice": BERT_HEADS["ForMultipleChoice"],
    },
)

# RoFormer: rotary positions, whose table is a parameter


def _read_roformer(fields: Fields, row: FamilyRow) -> ModelSpec:
    fields.refuse("rotary_value", "values that positions turn are not supported")
    head_dim = fields.head_dim("num_attention_heads", "hidden_size")
    return _spec(
        fields,
        row,
        replace(BERT_WORDS, rotary=True),
        position_rows=0,
        embed_dim=fields.count_or_none("embedding_size") or fields.count("hidden_size"),
        narrow_embeddings=True,
        other_outer_params=fields.count("max_position_embeddings") * head_dim,
    )


ROFORMER = encoder_row(
    "roformer",
    {"roformer": "RoFormer"},
    _read_roformer,
    heads={
        **LINEAR_HEADS,
        "ForQuestionAnswering": classifier("question_answering", "qa_outputs", outputs=2),
        "ForMaskedLM": masked_lm(*BERT_LM),
        "ForSequenceClassification": BY_FIRST_TOKEN,
        "ForMultipleChoice": classifier("multiple_choice", "classifier", first_token=True, outputs=1),
    },
)

# BERT with tables of a page's layout, and BERT, RoBERTa with norms before their blocks

_BEFORE: dict[str, tuple[tuple[str, str], str]] = {
    "megatron-bert": (("attention.ln", "ln"), "encoder.ln"),
    "roberta-prelayernorm": (("attention.LayerNorm", "intermediate.LayerNorm"), "LayerNorm"),
    "xlm-roberta-xl": (("attention.self_attn_layer_norm", "LayerNorm"), "encoder.LayerNorm"),
}
"""model_type -> the norms of a layer, and the last one."""


def _read_bert_kin(fields: Fields, row: FamilyRow) -> ModelSpec:
    kind, rows = fields.model_type, fields.count("max_position_embeddings")
    if kind == "layoutlm":
        tables = 4 * fields.count("max_2d_position_embeddings") * fields.count("hidden_size")
        return _spec(fields, row, BERT_WORDS, pooler=True, other_outer_params=tables)
    words = BERT_WORDS
    if kind == "ibert":
        fields.refuse("quant_mode", "arithmetic in whole numbers is not supported")
    else:
        norms, last = _BEFORE[kind]
        words = replace(words, placing="pre", norms=norms, final_norm=last)
    reserved = 0 if kind == "megatron-bert" else fields.count("pad_token_id", 1, minimum=0) + 1
    if rows <= reserved:
        raise fields.error("max_position_embeddings", f"more than pad_token_id + 1 = {reserved}")
    return _spec(
        fields,
        row,
        words,
        max_positions=rows - reserved,
        pooler=True,
        final_norm=kind != "ibert",
        embedding_norm=kind in ("ibert", "roberta-prelayernorm"),
    )


def _of_type(heads: Heads, model_type: str) -> dict[str, MakeHead]:
    """The heads that BERT's row makes for this model_type; LayoutLM's pooler runs before each."""

    def made(make: MakeHead) -> MakeHead:
        def own(spec: ModelSpec, labels: int) -> Head:
            head = make(replace(spec, model_type=model_type), labels)
            return replace(head, pooler=True) if spec.model_type == "layoutlm" and head.parts else head

        return own

    return {end: made(make) for end, make in heads.items()}


BERT_KIN = encoder_row(
    "bert-kin",
    {"layoutlm": "LayoutLM", "megatron-bert": "MegatronBert"},
    _read_bert_kin,
    heads=_of_type(BERT_HEADS, "bert"),
    own_heads={"MegatronBertForNextSentencePrediction": NEXT_SENTENCE},
)
ROBERTA_KIN = encoder_row(
    "roberta-kin",
    {"ibert": "IBert", "roberta-prelayernorm": "RobertaPreLayerNorm", "xlm-roberta-xl": "XLMRobertaXL"},
    _read_bert_kin,
    heads=_of_type({end: BERT_HEADS[end] for end in BERT_HEADS if end != "ForPreTraining"}, "roberta"),
)

# BigBird: attention to blocks, which of short sequences is attention to all


def _read_big_bird(fields: Fields, row: FamilyRow) -> ModelSpec:
    kind = fields.choice("attention_type", "block_sparse", ("block_sparse", "original_full"))
    positions, notes = fields.count("max_position_embeddings"), tuple[str, ...]()
    if kind == "block_sparse":
        whole = (5 + 2 * fields.count("num_random_blocks", minimum=0)) * fields.count("block_size")
        positions = min(positions, whole)
        notes = (f"up to {whole} tokens its attention sees all positions; longer sequences, in blocks, are not priced",)
    return _spec(
        fields,
        row,
        replace(BERT_WORDS, embedding_scale=fields.flag_or("rescale_embeddings", False)),
        max_positions=positions,
        bias=fields.flag_or("use_bias", True),
        attn_out_bias=True,
        pooler=True,
        notes=notes,
    )


def _pooled(make: MakeHead) -> MakeHead:
    """The same head in a class whose body keeps its pooler."""
    return lambda spec, labels: replace(make(spec, labels), pooler=True)


def _big_bird_qa(spec: ModelSpec, labels: int) -> Head:
    """One more MLP with its norm, then starts and ends of answers."""
    parts = (
        linear("qa_classifier.intermediate.dense", spec.intermediate_size, spec.hidden_size, activation=True),
        linear("qa_classifier.output.dense", spec.hidden_size, spec.intermediate_size),
        norm("qa_classifier.output.LayerNorm", spec.hidden_size),
        linear("qa_classifier.qa_outputs", 2, spec.hidden_size),
    )
    return Head(kind="question_answering", parts=parts)


BIG_BIRD = encoder_row(
    "big-bird",
    {"big_bird": "BigBird"},
    _read_big_bird,
    heads={
        "Model": LINEAR_HEADS["Model"],
        "ForMaskedLM": _pooled(masked_lm(*BERT_LM)),
        "ForPreTraining": BERT_HEADS["ForPreTraining"],
        "ForSequenceClassification": _pooled(BY_FIRST_TOKEN),
        "ForTokenClassification": _pooled(LINEAR_HEADS["ForTokenClassification"]),
        "ForQuestionAnswering": _big_bird_qa,
        "ForMultipleChoice": BERT_HEADS["ForMultipleChoice"],
    },
)

# BERT for generation, its encoder: without token types and pooler


def _read_bert_generation(fields: Fields, row: FamilyRow) -> ModelSpec:
    return _spec(fields, row, BERT_WORDS, token_types=0)


BERT_GENERATION = encoder_row(
    "bert-generation", {"bert-generation": "BertGeneration"}, _read_bert_generation, heads={"Encoder": no_head}
)

# RemBERT: narrow embeddings, and a head of its own width


def _read_rembert(fields: Fields, row: FamilyRow) -> ModelSpec:
    words = replace(BERT_WORDS, projection="encoder.embedding_hidden_mapping_in")
    width = fields.count("input_embedding_size")
    if width == fields.count("hidden_size"):
        raise fields.error("input_embedding_size", "another width than hidden_size")
    return _spec(
        fields,
        row,
        words,
        embed_dim=width,
        narrow_embeddings=True,
        pooler=True,
        head_width=fields.count("output_embedding_size"),
    )


def _rembert_lm(spec: ModelSpec, labels: int) -> Head:
    width = spec.head_width
    parts = (
        linear("cls.predictions.dense", width, spec.hidden_size, activation=True),
        norm("cls.predictions.LayerNorm", width),
        linear("cls.predictions.decoder", spec.vocab_size, width, vocabulary=True),
    )
    return Head(kind="masked_lm", parts=parts)


REMBERT = encoder_row(
    "rembert",
    {"rembert": "RemBert"},
    _read_rembert,
    heads={**{end: BERT_HEADS[end] for end in BERT_HEADS if end != "ForPreTraining"}, "ForMaskedLM": _rembert_lm},
)

# DPR: BERT without its pooler


def _read_dpr(fields: Fields, row: FamilyRow) -> ModelSpec:
    return _spec(fields, row, BERT_WORDS, head_width=fields.count("projection_dim", 0, minimum=0))


def _dpr_head(spec: ModelSpec, labels: int) -> Head:
    width = spec.head_width
    return Head(kind="none", parts=(linear("encode_proj", width, spec.hidden_size, first_token=True),) if width else ())


DPR = encoder_row(
    "dpr",
    {"dpr": "DPR"},
    _read_dpr,
    heads={"QuestionEncoder": _dpr_head, "ContextEncoder": _dpr_head},
)
