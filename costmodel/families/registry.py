"""Every model family there is, and the way from a config.json to a ModelSpec through the row that reads it."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from costmodel.errors import ModelError
from costmodel.families.architecture import find_architecture
from costmodel.families.fields import Fields
from costmodel.families.other_names import OTHER_NAMES
from costmodel.families.quantised import factored_entry, stored_weights
from costmodel.families.row import FamilyRow
from costmodel.families.rows import Rows
from costmodel.files.read import read_json
from costmodel.head import NO_HEAD
from costmodel.model import ModelSpec

FAMILIES = Rows(
    {
        ".llama:LLAMA": "llama mistral qwen2 qwen3",
        ".bert:BERT": "bert roberta camembert data2vec-text ernie xlm-roberta",
        ".gpt2:GPT2": "gpt2 gpt-sw3",
        ".opt:OPT": "opt",
        ".llama_kin:LLAMA_KIN": "arcee bitnet cwm ernie4_5 exaone4 granite granite_swa helium hunyuan_v1_dense "
        "hunyuan_vl_text hyperclovax ministral ministral3 iquestcoder qwen2_vl_text qwen2_5_vl_text qwen2_5_omni_text "
        "qwen3_vl_text seed_oss smollm3",
        ".llama_kin:APERTUS": "apertus",
        ".llama_kin:NANOCHAT": "nanochat",
        ".gemma:GEMMA": "gemma gemma2 gemma3_text vaultgemma",
        ".gemma4:GEMMA4": "gemma4_text gemma4_unified_text gemma3n_text",
        ".phi:PHI": "phi",
        ".phi:PHI_MSFT": "phi-msft",
        ".phi:PHI3": "phi3",
        ".phi:PHI3_SMALL": "phi3small",
        ".olmo:OLMO": "olmo",
        ".olmo:HF_OLMO": "hf_olmo",
        ".olmo:OLMO2": "olmo2 olmo3",
        ".olmo:OLMO_HYBRID": "olmo_hybrid",
        ".glm:GLM": "glm glm4 glm4v_text glm_ocr_text",
        ".cohere:COHERE": "cohere cohere2 cohere_compass_text",
        ".layer_norm_kin:LAYER_NORM_KIN": "jais2 nemotron orion persimmon stablelm stablelm_epoch starcoder2",
        ".layer_norm_kin:GPT_NEOX": "gpt_neox",
        ".layer_norm_kin:GPTJ": "gptj codegen",
        ".alibi:FALCON": "falcon",
        ".alibi:REFINED_WEB": "RefinedWeb RefinedWebModel",
        ".alibi:BLOOM": "bloom",
        ".alibi:MPT": "mpt",
        ".first_decoders:OPENAI_GPT": "openai-gpt",
        ".first_decoders:CTRL": "ctrl",
        ".learned_positions:GPT_NEO": "gpt_neo",
        ".learned_positions:GPT_BIGCODE": "gpt_bigcode",
        ".learned_positions:XGLM": "xglm",
        ".learned_positions:BIOGPT": "biogpt",
        ".deberta:DEBERTA": "deberta-v2",
        ".deberta_v1:DEBERTA_V1": "deberta",
        ".encoders:DISTILBERT": "distilbert",
        ".encoders:MPNET": "mpnet",
        ".encoders:ELECTRA": "electra",
        ".bert_kin:ALBERT": "albert",
        ".bert_kin:ROFORMER": "roformer",
        ".bert_kin:BERT_KIN": "layoutlm megatron-bert",
        ".bert_kin:ROBERTA_KIN": "ibert roberta-prelayernorm xlm-roberta-xl",
        ".luke:LUKE": "luke",
        ".clip_text:CLIP_TEXT": "clip_text_model",
        ".bert_kin:BIG_BIRD": "big_bird",
        ".bert_kin:REMBERT": "rembert",
        ".bert_kin:DPR": "dpr",
        ".bert_kin:BERT_GENERATION": "bert-generation",
        ".modern_encoders:EUROBERT": "eurobert",
        ".modern_encoders:MODERNBERT": "modernbert",
        ".modernbert_decoder:MODERNBERT_DECODER": "modernbert-decoder",
        ".modern_encoders:NOMIC_BERT": "nomic_bert gte new",
        ".modern_encoders:ESM": "esm",
        ".ultrabert:ULTRABERT": "ultrabert",
        ".jina:JINA": "jina_bert",
        ".jina:JINA_V3": "jina_embeddings_v3",
        ".jina:JINA_FLASH": "xlm-roberta-flash",
        ".moe:MOE": "mixtral qwen2_moe qwen3_moe qwen3_vl_moe_text qwen3_omni_moe_text gpt_oss olmoe granitemoe "
        "minimax_m2 glm4_moe glm4v_moe_text exaone_moe dots1 solar_open ernie4_5_moe deepseek llama4_text",
        ".moe:PHIMOE": "phimoe",
        ".deepseek:DEEPSEEK": "deepseek_v2 deepseek_v3 deepseek_v32 glm_moe_dsa kimi_k2 glm4_moe_lite mistral4 axk1 "
        "minicpm3 youtu",
        ".deepseek_ocr:DEEPSEEK_OCR": "deepseek_ocr2_text",
        ".deepseek_v4:DEEPSEEK_V4": "deepseek_v4",
        ".qwen_hybrid:QWEN_HYBRID": "qwen3_next qwen3_5_text qwen3_5_moe_text",
        ".kimi_linear:KIMI_LINEAR": "kimi_linear bailing_hybrid",
        ".lightning:MINIMAX": "minimax minimax_text_01 minimax_m1",
        ".lightning:LING": "bailing_moe bailing_moe_v2 bailing_moe_linear",
        ".recurrent_gemma:RECURRENT_GEMMA": "recurrent_gemma",
        ".minimax_m3:MINIMAX_M3": "minimax_m3_vl_text",
        ".mimo_step:MIMO_V2": "mimo_v2_flash",
        ".mimo_step:STEP": "step3p5",
        ".mamba:MAMBA": "mamba falcon_mamba",
        ".mamba:MAMBA2": "mamba2",
        ".mamba:NEMOTRON_H": "nemotron_h",
        ".mamba:BAMBA": "bamba",
        ".mamba:FALCON_H1": "falcon_h1",
        ".granite:GRANITE_HYBRID": "granitemoehybrid granitemoeshared",
        ".jamba:JAMBA": "jamba",
        ".sparse_words:SPARSE_WORDS": "flex_olmo hy_v3 aria_text mellum hunyuan_v1_moe afmoe laguna granitemoe_swa",
        ".sparse_words:COHERE_MOE": "cohere2_moe",
        ".sparse_words:DBRX": "dbrx",
        ".kolibri:KOLIBRI": "kolibri1",
        ".nemotron_nas:NEMOTRON_NAS": "nemotron-nas",
        ".by_layer:OPENELM": "openelm",
        ".by_layer:DECI": "deci",
        ".mllama:MLLAMA": "mllama_text_model",
        ".lfm2:LFM2": "lfm2 lfm2_moe",
        ".own_code:OWN_LLAMA": "aquila internlm internlm3 mimo minicpm skywork xverse Yi",
        ".own_code:INTERNLM2": "internlm2",
        ".own_code:BAICHUAN": "baichuan",
        ".own_code:MOLMO": "molmo",
        ".molmo2:MOLMO2": "molmo2_text",
        ".own_code:CHATGLM": "chatglm",
        ".own_code:QWEN": "qwen",
        ".own_code:EXAONE": "exaone",
    }
)
"""Each row and the model_types that it reads. All there is to a new family is a line here: `FamilyRow` says how."""
_BY_LAYER = ("gemma4_text", "gemma4_unified_text", "step3p5")
"""Types whose rows read `per_layer_config`."""
_SIZES = ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size")


def spec_from_config(
    config: Mapping[str, object], *, name: str, source: str, num_layers: int | None = None, bare: bool = False
) -> ModelSpec:
    """The model that `config` describes.

    Args:
        config: the decoded config.json.
        name: what the spec is called.
        source: what error messages call the configuration, usually its path.
        num_layers: build that many layers instead of the configuration's own number.
        bare: the causal LM or the encoder's body, whatever class the configuration names, with plain weights.

    Raises:
        ModelError: for an architecture that is not supported, and for a field that is missing, of the wrong type,
            out of bounds or at odds with another.
    """
    fields = Fields(config, name=name, source=source, num_layers=num_layers)
    found = find_architecture(fields, FAMILIES)
    fields, row = found.fields, found.row
    weights = None if bare else stored_weights(fields)
    fields.refuse("is_encoder_decoder", "encoder-decoder models are not supported")
    if fields.model_type not in _BY_LAYER:
        fields.refuse("per_layer_config", "all layers must have the same shape")
    fields.refuse("pruned_heads", "all layers must have the same shape")
    native = fields.renamed({**row.aliases, **OTHER_NAMES.get(fields.model_type, {})})
    if not found.inside:
        _check_sizes(native, row)
    if native.flag_or("tie_word_embeddings", True) and not native.given("tie_word_embeddings"):
        native = native.without("tie_word_embeddings")  # null is what the type has where a file says nothing
    spec = row.read(native.with_defaults(defaults(fields.model_type)), row)
    if weights is not None:
        from costmodel.families.module_formats import with_module_formats  # of quantised models alone

        spec = with_module_formats(replace(spec, weights=weights), fields)
    spec = replace(
        spec,
        inside=found.inside,
        notes=(*spec.notes, *found.notes),
        bidirectional=spec.bidirectional or (row.causal and not fields.flag_or("is_causal", True)),
    )
    if not bare and (entry := factored_entry(fields)) is not None:
        from costmodel.families.factored import with_factored  # of factored folders alone

        spec = with_factored(spec, entry, source)
    if found.head is None or bare:
        return spec if row.causal else replace(spec, head=NO_HEAD)
    head = found.head(spec, fields.labels())
    pooler = spec.pooler and (head.pooler or head is NO_HEAD)
    if not fields.flag_or("tie_word_embeddings", True):
        head = head.untied()
    return replace(spec, head=head, pooler=pooler)


def own_config(config: Mapping[str, object], source: str) -> dict[str, object]:
    """The fields of the model itself: those of the language model where a configuration has it inside another.

    Raises:
        ModelError: as `spec_from_config`.
    """
    found = find_architecture(Fields(config, name="", source=source), FAMILIES)
    return dict(found.fields.data)


def _check_sizes(fields: Fields, row: FamilyRow) -> None:
    """Refuse a file that gives no size at all: transformers would make a model of default sizes of any such file."""
    names = [row.aliases.get(name, name) for name in _SIZES]
    if not any(name in fields.data for name in names):
        fields.require(*names)


@functools.lru_cache(maxsize=1)
def _all_defaults() -> dict[str, dict[str, object]]:
    path = Path(__file__).parent / "defaults.json"
    data = read_json(path, "defaults of configurations", ModelError)
    assert isinstance(data, dict)
    return data


def defaults(model_type: str) -> Mapping[str, object]:
    """What transformers' configuration class of a model_type has for fields that a file lacks; empty for a type that
    transformers does not know."""
    return _all_defaults().get(model_type, {})
