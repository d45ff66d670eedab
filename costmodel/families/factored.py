"""Folders of `validate apply`: what the entry of their config.json says that they hold in place of dense weights."""

from __future__ import annotations

from dataclasses import replace

from costmodel.decomposition.factors import Decomposition
from costmodel.decomposition.held import held
from costmodel.errors import DecompositionError, ModelError
from costmodel.families.fields import Fields
from costmodel.files.node import Node
from costmodel.model import ModelSpec
from costmodel.tensors import name_at
from costmodel.units import DType
from costmodel.weights import FactoredWeights, WeightFormat

_METHOD = "low-rank"
_FORMS = ("svd", "tucker")
_MOST = 10**9


def factored_format(settings: Fields) -> WeightFormat | None:
    """The form of the layers' weights, factored or not: int8 with a scale for each row, or None for plain ones.

    Raises:
        ModelError: for a type that `validate apply` does not write.
    """
    if not settings.given("weight_dtype"):
        return None
    settings.choice("weight_dtype", "", ("int8",))
    return WeightFormat(method=_METHOD, dtype=DType.INT8, bits=8)


def factored_weights(settings: object, spec: ModelSpec, source: str) -> FactoredWeights:
    """What the entry `quantization_config` of method `low_rank` says of the dense model that its file is of.

    Raises:
        ModelError: when it is damaged, or names what the model does not have.
    """
    entry = Node(f"{source}: quantization_config", settings, ModelError)
    fields = entry.table(("modules",), tuple(entry.entries()))
    sites = []
    for name, node in fields["modules"].entries().items():
        layer, _, path = name.partition(".")
        number = int(layer) if layer.isascii() and layer.isdecimal() and len(layer) < 10 else spec.num_layers
        found = name_at(path, spec.kind_of(number).tensors) if number < spec.num_layers else None
        if found is None:
            raise ModelError(f"{source}: quantization_config names a factored linear that is not there", value=name)
        part = node.table(("form", "rank"))
        ranks = [rank.integer(1, _MOST) for rank in part["rank"].items()]
        if len(ranks) != 2:
            raise part["rank"].wrong("two whole numbers")
        sites.append((number, found, part["form"].choice(_FORMS), (ranks[0], ranks[1])))
    dropped = [layer.integer(0, spec.num_layers - 1) for layer in fields["drop"].items()] if "drop" in fields else []
    return FactoredWeights(sites=tuple(sites), dropped=tuple(dropped))


def with_factored(spec: ModelSpec, settings: object, source: str) -> ModelSpec:
    """The dense model as one whose folder holds factors.

    Raises:
        ModelError: when they do not fit it.
    """
    holding = replace(spec, factored=factored_weights(settings, spec, source))
    try:
        (held(holding) or Decomposition()).check(holding)
    except DecompositionError as error:
        raise ModelError(f"{source}: quantization_config", hint=str(error)) from error
    return holding
