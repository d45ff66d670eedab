"""What a config.json says it is: its model_type, the class that `architectures` names, the text model that it wraps."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from costmodel.errors import ModelError
from costmodel.families.fields import Fields
from costmodel.families.heads import MakeHead
from costmodel.families.quantised import KEYS as QUANTISED_KEYS
from costmodel.families.refused import draft_key, lacks_something, what_is_lacking
from costmodel.families.row import FamilyRow

_TEXT_KEYS = (
    "text_config",
    "llm_config",
    "language_config",
    "thinker_config",
    "llm_cfg",
    "lm_config",
    "language_model_config",
    "text_model_config",
)
"""Where a configuration of several models keeps that of its language model."""
_WRAPPED = {
    "aria": "aria_text",
    "audioflamingo3": "qwen2",
    "aya_vision": "cohere2",
    "cohere2_vision": "cohere2",
    "cohere_compass": "cohere_compass_text",
    "deepseek_ocr2": "deepseek_ocr2_text",
    "blip-2": "opt",
    "deepseek_vl": "llama",
    "deepseek_vl_hybrid": "llama",
    "emu3": "llama",
    "exaone4_5": "exaone4",
    "fast_vlm": "qwen2",
    "fun_asr_nano": "qwen3",
    "fuyu": "persimmon",
    "gemma3": "gemma3_text",
    "gemma3n": "gemma3n_text",
    "gemma4": "gemma4_text",
    "gemma4_unified": "gemma4_unified_text",
    "glm4v": "glm4v_text",
    "glm46v": "glm4v_text",
    "glm4v_moe": "glm4v_moe_text",
    "glm_ocr": "glm_ocr_text",
    "glmasr": "llama",
    "got_ocr2": "qwen2",
    "granite4_vision": "granite",
    "granite_docling": "llama",
    "granite_speech": "granite",
    "hunyuan_vl": "hunyuan_vl_text",
    "hyperclovax_vision_v2": "hyperclovax",
    "instructblip": "opt",
    "idefics2": "mistral",
    "idefics3": "llama",
    "internvl": "qwen2",
    "janus": "llama",
    "kimi_k25": "deepseek_v3",
    "lfm2_vl": "lfm2",
    "lighton_ocr": "qwen3",
    "mllama": "mllama_text_model",
    "molmo2": "molmo2_text",
    "llama4": "llama4_text",
    "llava": "llama",
    "llava_next": "llama",
    "llava_next_video": "llama",
    "llava_onevision": "qwen2",
    "minicpmv4_6": "qwen3_5_text",
    "minimax_m3_vl": "minimax_m3_vl_text",
    "mistral3": "mistral",
    "musicflamingo": "qwen2",
    "nemotron_h_omni": "nemotron_h",
    "ovis2": "qwen2",
    "paddleocr_vl": "ernie4_5",
    "perception_lm": "llama",
    "video_llama_3": "qwen2",
    "paligemma": "gemma",
    "qianfan_ocr": "qwen3",
    "qwen2_audio": "qwen2",
    "qwen2_vl": "qwen2_vl_text",
    "qwen2_5_vl": "qwen2_5_vl_text",
    "qwen2_5_omni": "qwen2_5_omni_text",
    "qwen2_5_omni_thinker": "qwen2_5_omni_text",
    "qwen3_asr": "qwen3",
    "qwen3_omni_moe": "qwen3_omni_moe_text",
    "qwen3_omni_moe_thinker": "qwen3_omni_moe_text",
    "qwen3_5": "qwen3_5_text",
    "qwen3_5_moe": "qwen3_5_moe_text",
    "qwen3_vl": "qwen3_vl_text",
    "step3p7": "step3p5",
    "qwen3_vl_moe": "qwen3_vl_moe_text",
    "shieldgemma2": "gemma3_text",
    "smolvlm": "llama",
    "vibevoice": "qwen2",
    "video_llava": "llama",
    "vipllava": "llama",
    "voxtral": "llama",
}
"""model_type of a model around a language model -> the language model's, where its part does not say."""
_ONE_INSIDE = ("minimax_m3_vl", "step3p7")
"""Types around one language model, whatever its part calls itself."""
_WRAPPER_ENDS = (
    "ForConditionalGeneration",
    "ForCausalLM",
    "ForVision2Seq",
    "ChatModel",
    "Model",
    "MultiModalityCausalLM",
    "MiniCPMV",
    "MiniCPMO",
)
_FLAT = {
    "GOT": "qwen2",
    "dots_ocr": "qwen2",
    "glm4v": "glm4v_text",
    "llava": "llama",
    "llava_llama": "llama",
    "llava_mistral": "mistral",
    "llava_qwen": "qwen2",
    "phi3_v": "phi3",
    "phi4_multimodal": "phi3",
    "paddleocr_vl": "ernie4_5",
    "phi4mm": "phi3",
    "step3p7": "step3p5",
    "qwen2_vl": "qwen2_vl_text",
    "qwen2_5_vl": "qwen2_5_vl_text",
}
"""model_type of a model around a language model whose fields stand among its own -> the language model's."""
_LLAVA_KEYS = ("mm_vision_tower", "mm_vision_tower_aux_list")
"""Fields of models that LLaVA's code puts around a language model, whose class ends as the language model's."""
_VERSIONS = {"2.0": "minicpm", "2.5": "llama", "2.6": "qwen2", "4.0": "llama", "4": "llama", "4.5": "qwen3"}
"""Version of MiniCPM-V and MiniCPM-o -> the type of their language model, whose fields stand among their own."""
_SAME = {
    "emu3_text_model": "llama",
    "llava_llama": "llama",
    "llava_mistral": "mistral",
    "llava_qwen": "qwen2",
    "llava_qwen2": "qwen2",
    "minimax_m3": "minimax_m3_vl_text",
    "minimax_m3_text": "minimax_m3_vl_text",
    "granite4_vision_text": "granite",
    "granite_docling_text": "llama",
    "paddleocr_vl_text": "ernie4_5",
    "qwen3_asr_text": "qwen3",
}
"""model_type of a language model inside another -> the one that is the same."""
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
_RENAMED = {"BailingMoeV3": "BailingHybrid", "LlamaBidirectional": "Llama"}
"""How classes of a repository's own code begin -> how those of transformers of the same layers do."""
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
    fields, inside = _text_model(fields, rows)
    notes: tuple[str, ...] = ()
    if inside:
        tower = _OTHER_TOWERS.get(inside, "vision")
        notes = (f"{inside}: its {tower} tower is not priced, its language model alone is",)
    towers = [name for key, name in _BESIDE.items() if isinstance(fields.data.get(key), Mapping) and not inside]
    notes = (*notes, *(f"its {name} tower is not priced, its language model alone is" for name in towers))
    model_type = fields.data.get("model_type")
    classes = _classes(fields)
    if model_type is None and classes:
        model_type = _type_of(classes[0], rows)
        if model_type is None:
            raise _unsupported(fields, classes[0], rows)
        fields = fields.with_values(model_type=model_type)
    if not isinstance(model_type, str):
        raise fields.error("model_type", _some(rows))
    if classes and (model_type, classes[0]) in _BY_CLASS:
        model_type = _BY_CLASS[model_type, classes[0]]
        fields = fields.with_values(model_type=model_type)
    if model_type in _BOTH_SIDES:
        model_type = _BOTH_SIDES[model_type]
        fields = fields.with_values(model_type=model_type, is_causal=False)
    row = rows.get(model_type)
    own = _type_of(classes[0], rows) if classes and row is None else None
    if own is not None and (not lacks_something(model_type) or _kin(own, model_type)):
        notes = (*notes, f"model_type {model_type} is not known: read as the {own} that its class is")
        model_type, row, fields = own, rows[own], fields.with_values(model_type=own)
    if row is None:
        raise _unsupported(fields, model_type, rows)
    prefix = row.classes[model_type]
    heads = [_named_head(fields, name, row, rows) for name in classes]
    if (key := draft_key(fields.data)) is not None:
        raise fields.error(key, "absent", f"such a {(*classes, model_type)[0]} lacks a row: {what_is_lacking(key)}")
    if fields.nested("auto_map").data:
        notes = (*notes, f"the repository's own code is not read: priced as transformers' {prefix}Model and its head")
    return Architecture(row=row, fields=fields, head=heads[0] if heads else None, notes=notes, inside=inside)


def _text_model(fields: Fields, rows: Mapping[str, FamilyRow]) -> tuple[Fields, str]:
    """The fields of the language model inside, and what it is inside of; the same fields where all is one."""
    outer = fields.data.get("model_type")
    if outer is not None and not isinstance(outer, str):
        raise fields.error("model_type", _some(rows))
    whole = fields
    while (key := next((key for key in _TEXT_KEYS if whole.given(key)), None)) is not None:
        whole = whole.nested(key)
    inner, path = whole.data, whole is not fields
    if not path and (not isinstance(outer, str) or outer in rows or _flat_type(fields, outer, rows) is None):
        return fields, ""
    found = _classes(fields)
    if any(not name.endswith(_WRAPPER_ENDS) and _letters(name) != _letters(str(outer)) for name in found):
        raise fields.error("architectures", f"classes that end in {', '.join(_WRAPPER_ENDS)}")
    kind = outer or (found or ["?"])[0]
    values = dict(inner)
    inside = _declared(whole, rows) if path and kind not in _ONE_INSIDE else None
    if inside is None or (inside == outer and inside not in rows):
        inside = _flat_type(fields, kind, rows) or _WRAPPED.get(kind)
    values["model_type"] = inside
    if inside is None:
        raise _unsupported(fields, kind, rows)
    if path:
        for name in ("tie_word_embeddings", "dtype", "torch_dtype", "auto_map", *QUANTISED_KEYS):
            if values.get(name) is None and fields.given(name):
                values[name] = fields.data[name]
    values["architectures"] = None
    if inside not in rows:
        raise _unsupported(fields, f"{kind} around {inside}", rows)
    return fields.with_data(values), kind


def _kin(model_type: str, other: str) -> bool:
    """Whether two types begin with the same word: a type that is not known, and that of its class."""
    return model_type.partition("_")[0] == other.partition("_")[0]


def _letters(name: str) -> str:
    """The small letters and digits of a name: a class that is called as its model_type is the whole model."""
    return "".join(letter for letter in name.lower() if letter.isalnum())


def _declared(fields: Fields, rows: Mapping[str, FamilyRow]) -> str | None:
    """The type that the part of a language model says it is, else that of the class that it names."""
    declared, classes = fields.data.get("model_type"), _classes(fields)
    if declared is None and classes:
        declared = _type_of(classes[0], rows)
    if declared == "deepseek_v2" and not fields.flag_or("use_mla", True):
        return "deepseek"  # with attention as in DeepSeek-MoE: DeepSeek-VL2's smallest, DeepSeek-OCR
    if isinstance(declared, str):
        return _SAME.get(declared, declared)
    if declared is not None:
        raise fields.error("model_type", _some(rows))
    return None


def _flat_type(fields: Fields, outer: str, rows: Mapping[str, FamilyRow]) -> str | None:
    """The type of a language model whose fields stand among those of the model around it."""
    if outer in ("minicpmv", "minicpmo"):
        return _VERSIONS.get(str(fields.data.get("version")))
    if outer in _FLAT or not any(fields.given(key) for key in _LLAVA_KEYS):
        return _FLAT.get(outer)
    ends = {each: _type_of(each, rows) for name in _classes(fields) for each in _ends(name)}
    return next((kind for kind in ends.values() if kind), None)


def _ends(name: str) -> list[str]:
    """A class's name and what it is without its first words, longest first: CambrianLlamaForCausalLM,
    LlamaForCausalLM, ForCausalLM."""
    return [name[place:] for place, letter in enumerate(name) if letter.isupper()]


def _classes(fields: Fields) -> list[str]:
    value = fields.data.get("architectures")
    if value is None:
        return []
    if not isinstance(value, list) or not all(isinstance(entry, str) for entry in value):
        raise fields.error("architectures", "a list of names of classes")
    return [
        next((new + entry.removeprefix(old) for old, new in _RENAMED.items() if entry.startswith(old)), entry)
        for entry in value
    ]


def _type_of(name: str, rows: Mapping[str, FamilyRow]) -> str | None:
    """The model_type whose class this is, by its whole name; None where there is no such one."""
    return next((each for each, row in rows.items() if _head_of(name, each, row) is not None), None)


def _head_of(name: str, model_type: str, row: FamilyRow) -> MakeHead | None:
    """The head of a class of the row; the name is compared whole, small and capital letters alike."""
    return next((make for each, make in row.heads_of(model_type).items() if name.lower() == each.lower()), None)


def _named_head(fields: Fields, name: str, row: FamilyRow, rows: Mapping[str, FamilyRow]) -> MakeHead:
    """The head of a class of the row's, or of the fields' model_type alone."""
    make = _head_of(name, fields.model_type, row)
    if make is not None:
        return make
    names, other = ", ".join(row.heads_of(fields.model_type)), _type_of(name, rows)
    lacking = what_is_lacking(name) if lacks_something(name) else "a head or layers of its own"
    hint = f"{name} lacks a row: {lacking}" if other is None else f"{name} is a class of model_type {other}"
    raise fields.error("architectures", f"a class of model_type {fields.model_type}: {names}", hint)


def _unsupported(fields: Fields, name: str, rows: Iterable[str]) -> ModelError:
    classes = [each for each in _classes(fields)[:1] if each != name]
    return ModelError(
        f"{fields.source}: architecture not supported",
        value=name,
        allowed=_some(rows),
        hint=f"{(*classes, 'it')[0]} lacks a row: {what_is_lacking(name, *classes)}",
    )


def _some(rows: Iterable[str]) -> str:
    """The first few types, and where all are."""
    known = list(rows)
    return ", ".join(known[:4]) + (f" and {len(known) - 4} more: docs/families.md" if len(known) > 4 else "")
