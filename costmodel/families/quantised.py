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
    marked = marks(fields.data)
    if marked is None:
        return None
    key, settings = marked
    if not isinstance(settings, Mapping):
        raise fields.error(key, "an object with quant_method")
    method = method_of(key, settings)
    if method == FACTORED:
        from costmodel.families.factored import factored_format

        return factored_format(settings)
    from costmodel.families.weight_formats import METHODS  # of quantised models alone

    make = METHODS.get(method)
    if make is None:
        raise ModelError(
            f"{fields.source}: weights quantised by {method or 'an unnamed method'} cannot be priced",
            value=dict(settings),
            allowed=", ".join(METHODS),
            hint="use the configuration of the original",
        )
    try:
        return make(settings)
    except (KeyError, TypeError, ValueError) as error:
        reason = error.args[0] if error.args else ""
        raise ModelError(
            f"{fields.source}: field {key}: {method} of a kind that cannot be priced",
            value=dict(settings),
            hint=f"{reason}",
        ) from error


def factored_entry(fields: Fields) -> Mapping[str, object] | None:
    """What a configuration says of factors in place of weights; None for dense ones, and where fewer layers are built
    than it is of."""
    key, settings = marks(fields.data) or ("", None)
    if not isinstance(settings, Mapping) or method_of(key, settings) != FACTORED or fields.num_layers is not None:
        return None
    return settings


def marks(config: Mapping[str, object]) -> tuple[str, object] | None:
    """The key and the settings under which a configuration says that its weights are quantised: of several the first
    that names its method; None where there is none."""
    found = [(key, config[key]) for key in KEYS if config.get(key)]
    named = [(key, each) for key, each in found if isinstance(each, Mapping) and method_of(key, each)]
    return next(iter([*named, *found]), None)


def method_of(key: str, settings: Mapping[str, object]) -> str:
    """What the settings under a key call their method, in small letters with dashes; empty where they do not say."""
    name = settings.get("quant_method")
    if isinstance(name, str):
        return name.lower().replace("_", "-")
    producer = settings.get("producer")
    if "quant_algo" in settings or (isinstance(producer, Mapping) and producer.get("name") == "modelopt"):
        return "modelopt"
    if key == "quantization" and "bits" in settings:
        return "mlx"
    if key == "compression_config" or "config_groups" in settings:
        return "compressed-tensors"
    if settings.get("load_in_8bit") or settings.get("load_in_4bit"):
        return "bitsandbytes"
    return ""
