"""Quantised checkpoints: what `quantization_config` and its kin say about the form of the stored weights."""

from __future__ import annotations

from collections.abc import Mapping

from costmodel.errors import ModelError
from costmodel.families.fields import Fields
from costmodel.weights import WeightFormat

KEYS = ("quantization_config", "quantization", "compression_config")
"""Where configurations say that their weights are quantised."""
FACTORED = "low-rank"
"""The method of a folder of `validate apply`, whose config.json is otherwise the dense model's."""


def stored_weights(fields: Fields) -> WeightFormat | None:
    """The form of the weights that a configuration declares; None for plain ones.

    Raises:
        ModelError: for a form that cannot be priced, by its name.
    """
    marked = marks(fields)
    if marked is None:
        return None
    key, settings = marked
    method = method_of(key, settings)
    if method == FACTORED:
        from costmodel.families.factored import factored_format

        return factored_format(settings)
    from costmodel.families.weight_formats import METHODS  # of quantised models alone

    make = METHODS.get(method)
    if make is None:
        raise ModelError(
            f"{fields.source}: weights quantised by {method or 'an unnamed method'} cannot be priced",
            value=dict(settings.data),
            allowed=", ".join(METHODS),
            hint="use the configuration of the original",
        )
    return make(settings)


def factored_entry(fields: Fields) -> Mapping[str, object] | None:
    """What a configuration says of factors in place of weights; None for dense ones, and where fewer layers are built
    than it is of."""
    marked = marks(fields)
    if marked is None or method_of(*marked) != FACTORED or fields.num_layers is not None:
        return None
    return marked[1].data


def marks(fields: Fields) -> tuple[str, Fields] | None:
    """The key and the settings under which a configuration says that its weights are quantised: of several the first
    that names its method; None where there is none.

    Raises:
        ModelError: for settings that are no object.
    """
    found = [(key, settings) for key in KEYS if (settings := fields.nested(key)).data]
    named = [(key, settings) for key, settings in found if method_of(key, settings)]
    return next(iter([*named, *found]), None)


def method_of(key: str, settings: Fields) -> str:
    """What the settings under a key call their method, in small letters with dashes; empty where they do not say."""
    name = settings.text("quant_method")
    if name:
        return name.lower().replace("_", "-")
    if "quant_algo" in settings.data or settings.nested("producer").says("name", "modelopt"):
        return "modelopt"
    if key == "quantization" and "bits" in settings.data:
        return "mlx"
    if key == "compression_config" or "config_groups" in settings.data:
        return "compressed-tensors"
    if settings.flag_or("load_in_8bit", False) or settings.flag_or("load_in_4bit", False):
        return "bitsandbytes"
    return ""
