"""Every model family there is, and the way from a config.json to a ModelSpec through the row that reads it."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping

from costmodel.errors import ModelError
from costmodel.families.bert import BERT
from costmodel.families.fields import Fields
from costmodel.families.gpt2 import GPT2
from costmodel.families.llama import LLAMA
from costmodel.families.opt import OPT
from costmodel.families.row import FamilyRow
from costmodel.model import ModelSpec

FAMILIES: tuple[FamilyRow, ...] = (LLAMA, BERT, GPT2, OPT)
"""All there is to a new family is a row here: `FamilyRow` says how."""


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
    config: Mapping[str, object], *, name: str, source: str, num_layers: int | None = None
) -> ModelSpec:
    """The model that `config` describes.

    Args:
        config: the decoded config.json.
        name: what the spec is called.
        source: what error messages call the configuration, usually its path.
        num_layers: build that many layers instead of the configuration's own number.

    Raises:
        ModelError: for an architecture that is not supported, and for a field that is missing, of the wrong type,
            out of bounds or at odds with another.
    """
    rows = rows_by_type(FAMILIES)
    fields = Fields(config, name=name, source=source, num_layers=num_layers)
    model_type = config.get("model_type")
    if not isinstance(model_type, str):
        raise fields.error("model_type", ", ".join(rows))
    row = rows.get(model_type)
    if row is None:
        raise ModelError(f"{source}: architecture not supported", value=model_type, allowed=", ".join(rows))
    _check_architectures(fields, row.classes[model_type])
    if not _is_factored(config.get("quantization_config")):
        fields.refuse("quantization_config", "quantised checkpoints are not supported: use the original's config.json")
    fields.refuse("is_encoder_decoder", "encoder-decoder models are not supported")
    fields.refuse("per_layer_config", "all layers must have the same shape")
    fields.refuse("pruned_heads", "all layers must have the same shape")
    return row.read(fields.renamed(row.aliases), row)


def _is_factored(entry: object) -> bool:
    """Whether the entry is that of a folder of `validate apply`, whose config.json is otherwise the dense model's."""
    return isinstance(entry, Mapping) and entry.get("quant_method") == "low_rank"


def _check_architectures(fields: Fields, class_prefix: str) -> None:
    """Refuse a configuration whose classes belong to another model than its model_type says."""
    value = fields.data.get("architectures")
    if not value:
        return
    pattern = re.compile(f"{class_prefix}(For|Model|LMHead|DoubleHeads|PreTrained)", re.IGNORECASE)
    if not isinstance(value, list) or not all(isinstance(entry, str) and pattern.match(entry) for entry in value):
        raise fields.error("architectures", f"classes of model_type {fields.model_type}, such as {class_prefix}Model")
