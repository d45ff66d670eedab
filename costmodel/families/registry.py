"""Every model family there is, and the way from a config.json to a ModelSpec through the row that reads it."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from costmodel.errors import ModelError
from costmodel.families.alibi import BLOOM, FALCON, MPT
from costmodel.families.architecture import find_architecture
from costmodel.families.bert import BERT
from costmodel.families.cohere import COHERE
from costmodel.families.deberta import DEBERTA
from costmodel.families.deepseek import DEEPSEEK
from costmodel.families.encoders import DISTILBERT, ELECTRA, MPNET
from costmodel.families.fields import Fields
from costmodel.families.gemma import GEMMA
from costmodel.families.glm import GLM
from costmodel.families.gpt2 import GPT2
from costmodel.families.layer_norm_kin import GPT_NEOX, GPTJ, LAYER_NORM_KIN
from costmodel.families.learned_positions import BIOGPT, GPT_BIGCODE, GPT_NEO, XGLM
from costmodel.families.llama import LLAMA
from costmodel.families.llama_kin import LLAMA_KIN
from costmodel.families.modern_encoders import ESM, MODERNBERT, NOMIC_BERT
from costmodel.families.moe import MOE, PHIMOE
from costmodel.families.olmo import OLMO, OLMO2
from costmodel.families.opt import OPT
from costmodel.families.own_code import OWN_CODE
from costmodel.families.phi import PHI, PHI3, PHI_MSFT
from costmodel.families.quantised import stored_weights, without_exempt
from costmodel.families.qwen_hybrid import QWEN_HYBRID
from costmodel.families.row import FamilyRow
from costmodel.files.read import read_json
from costmodel.head import NO_HEAD
from costmodel.model import ModelSpec

FAMILIES: tuple[FamilyRow, ...] = (
    LLAMA,
    BERT,
    GPT2,
    OPT,
    LLAMA_KIN,
    GEMMA,
    PHI,
    PHI_MSFT,
    PHI3,
    OLMO,
    OLMO2,
    GLM,
    COHERE,
    LAYER_NORM_KIN,
    GPT_NEOX,
    GPTJ,
    FALCON,
    BLOOM,
    MPT,
    GPT_NEO,
    GPT_BIGCODE,
    XGLM,
    BIOGPT,
    DEBERTA,
    DISTILBERT,
    MPNET,
    ELECTRA,
    MODERNBERT,
    NOMIC_BERT,
    ESM,
    MOE,
    PHIMOE,
    DEEPSEEK,
    QWEN_HYBRID,
    *OWN_CODE,
)
"""All there is to a new family is a row here: `FamilyRow` says how."""
_SIZES = ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size")


@functools.lru_cache(maxsize=8)
def rows_by_type(families: tuple[FamilyRow, ...]) -> dict[str, FamilyRow]:
    """The row that reads each `model_type`, in the order of the rows.

    Raises:
        ValueError: when two rows have one name or read one type.
    """
    rows: dict[str, FamilyRow] = {}
    for row in families:
        for model_type in row.classes:
            if model_type in rows:
                raise ValueError(f"families {rows[model_type].name} and {row.name} both read model_type {model_type}")
            rows[model_type] = row
    if len({row.name for row in families}) < len(families):
        raise ValueError(f"two families of one name: {', '.join(row.name for row in families)}")
    return rows


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
    rows = rows_by_type(FAMILIES)
    fields = Fields(config, name=name, source=source, num_layers=num_layers)
    found = find_architecture(fields, rows)
    fields, row = found.fields, found.row
    weights = None if bare else stored_weights(fields)
    fields.refuse("is_encoder_decoder", "encoder-decoder models are not supported")
    fields.refuse("per_layer_config", "all layers must have the same shape")
    fields.refuse("pruned_heads", "all layers must have the same shape")
    native = fields.renamed(row.aliases)
    if not found.inside:
        _check_sizes(native, row)
    spec = row.read(native.with_defaults(defaults(fields.model_type)), row)
    if weights is not None:
        weights = without_exempt(weights, fields, spec)
    spec = replace(
        spec,
        weights=weights,
        inside=found.inside,
        notes=(*spec.notes, *found.notes),
        bidirectional=row.causal and not fields.flag_or("is_causal", True),
    )
    if found.ending is None or bare:
        return spec if row.causal else replace(spec, head=NO_HEAD)
    head = row.heads[found.ending](spec, fields.labels())
    return replace(spec, head=head, pooler=spec.pooler and (head.pooler or head is NO_HEAD))


def own_config(config: Mapping[str, object], source: str) -> dict[str, object]:
    """The fields of the model itself: those of the language model where a configuration has it inside another.

    Raises:
        ModelError: as `spec_from_config`.
    """
    found = find_architecture(Fields(config, name="", source=source), rows_by_type(FAMILIES))
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
