"""Jina's embedding models: JinaBERT, BERT with slopes of distances in attention and a gated MLP (arXiv 2310.19923), a
class of the repository's own code; the third, XLM-RoBERTa with rotary positions, as transformers has it, and as the
repository's own code does, with adapters for tasks (arXiv 2409.10173)."""

from __future__ import annotations

from dataclasses import replace

from costmodel.families.bert import BERT_LM
from costmodel.families.bert_kin import ROBERTA_KIN
from costmodel.families.encoders import BERT_WORDS, encoder_row, encoder_spec
from costmodel.families.fields import Fields
from costmodel.families.heads import masked_lm, no_head
from costmodel.families.lists import texts
from costmodel.families.row import FamilyRow
from costmodel.model import ModelSpec
from costmodel.words import Words

_WORDS = replace(
    BERT_WORDS,
    norms=("attention.output.LayerNorm", "mlp.layernorm"),
    mlp="mlp",
    ups=("gated_layers",),
    packed_gate=True,
    down="wo",
    down_bias=True,
)
_ACTIVATIONS = {"geglu": "gelu", "reglu": "relu"}


def _read(fields: Fields, row: FamilyRow) -> ModelSpec:
    fields.choice("position_embedding_type", "absolute", ("alibi",))
    kind = fields.choice("feed_forward_type", "original", tuple(_ACTIVATIONS))
    if any("qk-post-norm" in str(name) for name in fields.nested("auto_map").data.values()):
        raise fields.error("auto_map", "code without norms of queries and keys")
    return encoder_spec(
        fields,
        row,
        _WORDS,
        activation=_ACTIVATIONS[kind],
        mlp_bias=False,
        pooler=True,
        token_types=fields.count("type_vocab_size", 2),
    )


JINA = encoder_row(
    "jina", {"jina_bert": "JinaBert"}, _read, heads={"Model": no_head, "ForMaskedLM": masked_lm(*BERT_LM)}
)

_V3_WORDS = Words(
    placing="after",
    norms=("post_attention_layernorm", "post_mlp_layernorm"),
    ups=("fc1",),
    down="fc2",
    embedding="embeddings.word_embeddings",
    embedding_norm="embeddings.LayerNorm",
    tables="rotary_emb",
)


def _read_v3(fields: Fields, row: FamilyRow) -> ModelSpec:
    types = fields.count("type_vocab_size")
    return encoder_spec(fields, row, _V3_WORDS, pooler=True, token_types=types)


JINA_V3 = encoder_row(
    "jina-v3",
    {"jina_embeddings_v3": "JinaEmbeddingsV3"},
    _read_v3,
    layers="layers",
    heads={end: head for end, head in ROBERTA_KIN.heads.items() if end != "ForMultipleChoice"},
)

_FLASH_WORDS = replace(
    _V3_WORDS,
    norms=("norm1", "norm2"),
    attention="mixer",
    qkv=("Wqkv",),
    out="out_proj",
    tables="mixer.rotary_emb",
)


def _read_flash(fields: Fields, row: FamilyRow) -> ModelSpec:
    """Adapters are held for each linear and embedding; without a task none of them runs."""
    tasks = len(texts(fields, "lora_adaptations"))
    spec = encoder_spec(fields, row, _FLASH_WORDS, pooler=True, token_types=fields.count("type_vocab_size"))
    wide = [spec.vocab_size + spec.hidden_size, spec.token_types + spec.hidden_size, 2 * spec.hidden_size]
    each = sum(tensor.out_features + tensor.in_features for tensor in spec.tensors)
    held = tasks * fields.count("lora_rank", 4) * (sum(wide) + spec.num_layers * each)
    notes = (f"adapters for {tasks} tasks are held and not run, as without a task",) if tasks else ()
    return replace(spec, other_outer_params=held, notes=notes)


JINA_FLASH = encoder_row(
    "jina-flash",
    {"xlm-roberta-flash": "XLMRoberta"},
    _read_flash,
    layers="roberta.encoder.layers",
    strided_heads=True,
    heads={"Model": no_head},
)
