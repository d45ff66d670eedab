"""BERT and RoBERTa: encoders with learned positions, token types, norms after the residual add, and a pooler.

Defaults of absent fields are those of the configuration classes of transformers 5.23.
"""

from __future__ import annotations

from costmodel.families.fields import Fields
from costmodel.families.heads import Heads, MakeHead, classifier, masked_lm, masked_lm_parts, no_head
from costmodel.families.row import FamilyRow
from costmodel.forward.attention import add_attention
from costmodel.forward.frame import INPUT, POSITIONS, Start, add_head, add_positions
from costmodel.forward.ops import Builder
from costmodel.head import Head, linear
from costmodel.model import ModelSpec
from costmodel.tensors import WeightTensor, attention_weight, mlp_weight

_LIKE_BERT = ("bert", "ernie")
"""Types with BERT's heads; the others have RoBERTa's, and positions counted from pad_token_id + 1 on."""
_ENCODER_ONLY = "only the encoder is supported, without cross-attention"


def _read(fields: Fields, row: FamilyRow) -> ModelSpec:
    fields.require("hidden_size", "num_hidden_layers", "num_attention_heads", "vocab_size", "intermediate_size")
    fields.refuse("is_decoder", _ENCODER_ONLY)
    fields.refuse("add_cross_attention", _ENCODER_ONLY)
    fields.choice("position_embedding_type", "absolute", ("absolute",))
    fields.refuse("alibi_starting_size", "MosaicBERT's layers, with slopes in attention and gates, are not supported")
    fields.refuse("lora_adaptations", "Jina's adapters for tasks are read beside rotary positions alone")
    hidden, heads = fields.count("hidden_size"), fields.count("num_attention_heads")
    layers = fields.layers("num_hidden_layers")
    rows = fields.count("max_position_embeddings", 512)
    reserved = fields.count("pad_token_id", 1, minimum=0) + 1 if fields.model_type not in _LIKE_BERT else 0
    if rows <= reserved:
        raise fields.error("max_position_embeddings", f"more than pad_token_id + 1 = {reserved}")
    return ModelSpec(
        name=fields.name,
        family=row,
        model_type=fields.model_type,
        num_layers=layers,
        hidden_size=hidden,
        intermediate_size=fields.count("intermediate_size"),
        num_heads=heads,
        num_kv_heads=heads,
        head_dim=fields.head_dim("num_attention_heads", "hidden_size"),
        vocab_size=fields.count("vocab_size"),
        max_positions=rows - reserved,
        position_rows=rows,
        token_types=fields.count("type_vocab_size", 2),
        embed_dim=hidden,
        activation=fields.activation("hidden_act", "gelu"),
        qkv_bias=True,
        attn_out_bias=True,
        mlp_bias=True,
        tie_embeddings=False,
        pre_norm=False,
        final_norm=False,
        embedding_norm=True,
        pooler=True,
        other_outer_params=hidden * fields.count("task_type_vocab_size", 3)
        if fields.flag_or("use_task_id", False)
        else 0,
        sliding_windows=(None,) * layers,
        dtype=fields.dtype(),
    )


def _tensors(spec: ModelSpec) -> tuple[WeightTensor, ...]:
    hidden, inner = spec.hidden_size, spec.intermediate_size
    return (
        attention_weight("query", "attention.self.query", spec.q_size, hidden, bias=spec.qkv_bias),
        attention_weight("key", "attention.self.key", spec.kv_size, hidden, bias=spec.qkv_bias),
        attention_weight("value", "attention.self.value", spec.kv_size, hidden, bias=spec.qkv_bias),
        attention_weight("attn_output", "attention.output.dense", hidden, spec.q_size, bias=spec.attn_out_bias),
        mlp_weight("intermediate", "intermediate.dense", inner, hidden, bias=spec.mlp_bias),
        mlp_weight("output", "output.dense", hidden, inner, bias=spec.mlp_bias),
    )


def _positions(b: Builder) -> None:
    """BERT's kernel numbers the token types; RoBERTa counts each sequence's positions by itself, through a mask."""
    if b.model.model_type not in _LIKE_BERT:
        add_positions(b, kernels=9, rows=b.work.batch * b.work.kv_len)
    else:
        add_positions(b, kernels=1)


def _prologue(b: Builder) -> Start:
    hidden, tokens = b.model.hidden_size, b.work.tokens
    words = b.embed("embeddings.word_embeddings", tokens, hidden)
    types = b.embed("embeddings.token_type_embeddings", tokens, hidden)
    added = b.pointwise("embeddings.add_token_types", "add", [words, types], hidden)
    if b.model.other_outer_params:
        tasks = b.embed("embeddings.task_type_embeddings", tokens, hidden)
        added = b.pointwise("embeddings.add_task_types", "add", [added, tasks], hidden)
    rows = tokens if b.model.model_type not in _LIKE_BERT else b.work.q_len
    positions = b.embed("embeddings.position_embeddings", rows, hidden, [POSITIONS])
    added = b.pointwise("embeddings.add_positions", "add", [added, positions], hidden, holds=[words, types])
    normed = b.norm("embeddings.LayerNorm", added, holds=[words, types, positions, POSITIONS])
    return Start(normed, (normed,))


def _layer(b: Builder, window: int | None) -> None:
    hidden = b.model.hidden_size
    q, k, v, attn_output, intermediate, output = b.model.tensors
    query, key, value = (b.site(tensor, INPUT) for tensor in (q, k, v))
    attended = add_attention(b, "attention.self", query, [key, value], window)
    dense = b.site(attn_output, attended.output)
    added = b.pointwise("attention.output.add", "add", [dense, INPUT], hidden)
    residual = b.norm("attention.output.LayerNorm", added, holds=[dense, attended.output])
    inner = b.activation("intermediate.intermediate_act_fn", b.site(intermediate, residual), b.model.intermediate_size)
    dense = b.site(output, inner)
    added = b.pointwise("output.add", "add", [dense, residual], hidden, holds=[inner])
    b.norm("output.LayerNorm", added, holds=[INPUT, residual, dense, inner, *attended.weights])


def _epilogue(b: Builder) -> None:
    hidden, batch, last = b.model.hidden_size, b.work.batch, INPUT
    if b.model.pooler:
        pooled = b.linear("pooler.dense", batch, hidden, hidden, INPUT, bias=True)
        last = b.pointwise("pooler.activation", "tanh", [pooled], hidden, rows=batch, holds=[INPUT])
    add_head(b, last)


def _pretraining(spec: ModelSpec, labels: int) -> Head:
    """A masked LM's head, and next-sentence prediction behind the pooler."""
    parts = masked_lm_parts(spec, *BERT_LM)
    relation = linear("cls.seq_relationship", 2, spec.hidden_size, first_token=True)
    return Head(kind="pretraining", parts=(*parts, relation), pooler=True)


def _either(bert: MakeHead, roberta: MakeHead) -> MakeHead:
    """BERT's head, or that of RoBERTa and its kin."""

    def make(spec: ModelSpec, labels: int) -> Head:
        return (bert if spec.model_type in _LIKE_BERT else roberta)(spec, labels)

    return make


BERT_LM = ("cls.predictions.transform.dense", "cls.predictions.transform.LayerNorm", "cls.predictions.decoder")
"""Module paths of BERT's masked LM head: its linear, its norm, and the product with the embedding."""
_LM_HEAD = ("lm_head.dense", "lm_head.layer_norm", "lm_head.decoder")
HEADS: Heads = {
    "Model": no_head,
    "ForMaskedLM": _either(masked_lm(*BERT_LM), masked_lm(*_LM_HEAD)),
    "ForPreTraining": _pretraining,
    "ForSequenceClassification": _either(
        classifier("sequence_classification", "classifier", first_token=True, pooler=True),
        classifier("sequence_classification", "classifier.dense", "classifier.out_proj", first_token=True),
    ),
    "ForTokenClassification": classifier("token_classification", "classifier"),
    "ForQuestionAnswering": classifier("question_answering", "qa_outputs"),
    "ForMultipleChoice": classifier("multiple_choice", "classifier", first_token=True, pooler=True, outputs=1),
}
"""The heads of BERT and RoBERTa."""
NEXT_SENTENCE = classifier("sequence_classification", "cls.seq_relationship", first_token=True, pooler=True, outputs=2)
"""Whether one sentence follows another, behind the pooler."""

BERT = FamilyRow(
    name="bert",
    classes={
        "bert": "Bert",
        "roberta": "Roberta",
        "camembert": "Camembert",
        "data2vec-text": "Data2VecText",
        "ernie": "Ernie",
        "xlm-roberta": "XLMRoberta",
    },
    heads=HEADS,
    own_heads={f"{name}ForNextSentencePrediction": NEXT_SENTENCE for name in ("Bert", "Ernie")},
    read=_read,
    tensors=_tensors,
    layer_path="encoder.layer",
    causal=False,
    norm="layer_norm",
    verified=True,
    positions=_positions,
    prologue=_prologue,
    layer=_layer,
    epilogue=_epilogue,
)
