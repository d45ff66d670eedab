"""What a config.json says it is: its model_type, the class that `architectures` names, the text model that it wraps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from costmodel.families.around import text_model
from costmodel.families.class_names import classes_of, named_head, some, type_of, unsupported
from costmodel.families.fields import Fields
from costmodel.families.heads import MakeHead
from costmodel.families.refused import draft_key, lacks_something, what_is_lacking
from costmodel.families.row import FamilyRow

_OTHER_TOWERS = {
    "qwen2_audio": "audio",
    "qwen3_asr": "audio",
    "voxtral": "audio",
    "fun_asr_nano": "audio",
    "glmasr": "audio",
    "granite_speech": "audio",
    "ultravox": "audio",
    "musicflamingo": "audio",
    "vibevoice": "audio",
}
_BESIDE = {"vision_config": "vision", "visual": "vision", "audio_config": "audio", "audio": "audio"}
"""Field of a language model's own configuration -> what stands beside it (GLM-4V, Qwen-VL and Qwen-Audio 1)."""
_BOTH_SIDES = {"llama_bidirec": "llama"}
"""model_type of a decoder whose attention sees both sides (NVIDIA's embedding models) -> the type it is otherwise."""
_BY_CLASS = {
    ("bailing_moe", "BailingMoeV2ForCausalLM"): "bailing_moe_v2",
    ("bert", "JinaBertForMaskedLM"): "jina_bert",
    ("bert", "JinaBertModel"): "jina_bert",
}
"""model_type and class of configurations whose class alone says which layers they have -> their type here."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Architecture:
    """Which row reads which fields, and which class they are of."""

    row: FamilyRow
    fields: Fields
    head: MakeHead | None
    """Of the class that the file names; None where it names none."""
    notes: tuple[str, ...] = ()
    """What is there but not priced."""
    inside: str = ""
    """What the fields are the language model of, which may leave all its sizes to their defaults; empty for a model of
    its own."""


def find_architecture(fields: Fields, rows: Mapping[str, FamilyRow]) -> Architecture:
    """The row for a configuration.

    Args:
        fields: of the whole file.
        rows: by model_type.

    Raises:
        ModelError: when no row reads it, or its class is not one of its model_type's.
    """
    fields, inside = text_model(fields, rows)
    notes: tuple[str, ...] = ()
    if inside:
        tower = _OTHER_TOWERS.get(inside, "vision")
        notes = (f"{inside}: its {tower} tower is not priced, its language model alone is",)
    towers = [name for key, name in _BESIDE.items() if isinstance(fields.data.get(key), Mapping) and not inside]
    notes = (*notes, *(f"its {name} tower is not priced, its language model alone is" for name in towers))
    model_type = fields.data.get("model_type")
    classes = classes_of(fields)
    if model_type is None and classes:
        model_type = type_of(classes[0], rows)
        if model_type is None:
            raise unsupported(fields, classes[0], rows)
        fields = fields.with_values(model_type=model_type)
    if not isinstance(model_type, str):
        raise fields.error("model_type", some(rows))
    if classes and (model_type, classes[0]) in _BY_CLASS:
        model_type = _BY_CLASS[model_type, classes[0]]
        fields = fields.with_values(model_type=model_type)
    if model_type == "xlm-roberta" and fields.says("position_embedding_type", "rotary"):
        model_type = "xlm-roberta-flash"  # Jina's third, whose files say that it is XLM-RoBERTa
        fields = fields.with_values(model_type=model_type)
    if model_type in _BOTH_SIDES:
        model_type = _BOTH_SIDES[model_type]
        fields = fields.with_values(model_type=model_type, is_causal=False)
    row = rows.get(model_type)
    own = type_of(classes[0], rows) if classes and row is None else None
    if own is not None and (not lacks_something(model_type) or _kin(own, model_type)):
        notes = (*notes, f"model_type {model_type} is not known: read as the {own} that its class is")
        model_type, row, fields = own, rows[own], fields.with_values(model_type=own)
    if row is None:
        raise unsupported(fields, model_type, rows)
    prefix = row.classes[model_type]
    heads = [named_head(fields, name, row, rows) for name in classes]
    if (key := draft_key(fields.data)) is not None:
        raise fields.error(key, "absent", f"such a {(*classes, model_type)[0]} lacks a row: {what_is_lacking(key)}")
    if fields.nested("auto_map").data:
        notes = (*notes, f"the repository's own code is not read: priced as the published {prefix}Model and its head")
    return Architecture(row=row, fields=fields, head=heads[0] if heads else None, notes=notes, inside=inside)


def _kin(model_type: str, other: str) -> bool:
    """Whether two types begin with the same word: a type that is not known, and that of its class."""
    return model_type.partition("_")[0] == other.partition("_")[0]
