"""The language model inside another: where its fields stand, and which type it is."""

from __future__ import annotations

from collections.abc import Mapping

from costmodel.families.class_names import classes_of, some, type_of, unsupported
from costmodel.families.fields import Fields
from costmodel.families.quantised import KEYS as QUANTISED_KEYS
from costmodel.families.refused import what_is_lacking
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
_ALONE = ("clip_text_model",)
"""Types that are priced as files of their own alone: what is around them is no language model with a tower."""
_CLASSIFIERS = ("ForSequenceClassification", "ForTokenClassification")
"""How classes end that tell apart what the language model inside makes of a text."""
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


def text_model(fields: Fields, rows: Mapping[str, FamilyRow]) -> tuple[Fields, str]:
    """The fields of the language model inside, and what it is inside of; the same fields where all is one."""
    outer = fields.data.get("model_type")
    if outer is not None and not isinstance(outer, str):
        raise fields.error("model_type", some(rows))
    whole = fields
    while (key := next((key for key in _TEXT_KEYS if whole.given(key)), None)) is not None:
        whole = whole.nested(key)
    inner, path = whole.data, whole is not fields
    if not path and (not isinstance(outer, str) or outer in rows or _flat_type(fields, outer, rows) is None):
        return fields, ""
    found = classes_of(fields)
    ends = {end for end in _CLASSIFIERS for each in found if _letters(each) == _letters(f"{outer}{end}")}
    other = [each for each in found if not each.endswith(_WRAPPER_ENDS) and _letters(each) != _letters(str(outer))]
    if other and not ends:
        hint = f"{other[0]} lacks a row: {what_is_lacking(other[0], default='a head or layers of its own')}"
        raise fields.error("architectures", f"classes that end in {', '.join(_WRAPPER_ENDS)}", hint)
    kind = outer or (found or ["?"])[0]
    values = dict(inner)
    inside = _declared(whole, rows) if path and kind not in _ONE_INSIDE else None
    if inside is None or (inside == outer and inside not in rows):
        inside = _flat_type(fields, kind, rows) or _WRAPPED.get(kind)
    values["model_type"] = inside
    if inside is None or inside in _ALONE:
        raise unsupported(fields, kind, rows)
    if path:
        for name in ("tie_word_embeddings", "dtype", "torch_dtype", "auto_map", *QUANTISED_KEYS):
            if values.get(name) is None and fields.given(name):
                values[name] = fields.data[name]
    if inside not in rows:
        raise unsupported(fields, f"{kind} around {inside}", rows)
    body = rows[inside].classes[inside] + "Model"
    named = kind in _WRAPPED or kind in _FLAT
    bare = named and any(_letters(name) == _letters(kind) + "model" for name in found)
    values["architectures"] = [body] if bare and body in rows[inside].heads_of(inside) else None
    if ends and outer in _WRAPPED:
        values |= {name: fields.data[name] for name in ("num_labels", "id2label") if fields.given(name)}
        values["architectures"] = [_classifier(rows[inside], inside, end) for end in ends]
    return fields.with_data(values), kind


def _classifier(row: FamilyRow, model_type: str, end: str) -> str:
    """The class that tells sequences or tokens apart by the language model alone."""
    alone = f"{row.classes[model_type]}Text{end}"
    return alone if alone in row.heads_of(model_type) else row.classes[model_type] + end


def _letters(name: str) -> str:
    """The small letters and digits of a name: a class that is called as its model_type is the whole model."""
    return "".join(letter for letter in name.lower() if letter.isalnum())


def _declared(fields: Fields, rows: Mapping[str, FamilyRow]) -> str | None:
    """The type that the part of a language model says it is, else that of the class that it names."""
    declared, classes = fields.data.get("model_type"), classes_of(fields)
    if declared is None and classes:
        declared = type_of(classes[0], rows)
    if declared == "deepseek_v2" and not fields.flag_or("use_mla", True):
        return "deepseek"  # with attention as in DeepSeek-MoE: DeepSeek-VL2's smallest, DeepSeek-OCR
    if isinstance(declared, str):
        return _SAME.get(declared, declared)
    if declared is not None:
        raise fields.error("model_type", some(rows))
    return None


def _flat_type(fields: Fields, outer: str, rows: Mapping[str, FamilyRow]) -> str | None:
    """The type of a language model whose fields stand among those of the model around it."""
    if outer in ("minicpmv", "minicpmo"):
        return _VERSIONS.get(str(fields.data.get("version")))
    if outer in _FLAT or not any(fields.given(key) for key in _LLAVA_KEYS):
        return _FLAT.get(outer)
    ends = {each: type_of(each, rows) for name in classes_of(fields) for each in _ends(name)}
    return next((kind for kind in ends.values() if kind), None)


def _ends(name: str) -> list[str]:
    """A class's name and what it is without its first words, longest first: CambrianLlamaForCausalLM,
    LlamaForCausalLM, ForCausalLM."""
    return [name[place:] for place, letter in enumerate(name) if letter.isupper()]
