"""What the settings of a quantised checkpoint say of modules by their names: that they are plain, or in which format.

An entry is a module's name (or a part of it between dots), a pattern with `*`, or a regular expression after `re:`.
"""

from __future__ import annotations

from collections.abc import Mapping

from costmodel.families.fields import Fields
from costmodel.families.lists import texts
from costmodel.families.weight_formats import METHODS, formats_by_group
from costmodel.weights import WeightFormat

_EXEMPT = (
    "modules_to_not_convert",
    "ignore",
    "exclude_modules",
    "ignored_layers",
    "llm_int8_skip_modules",
    "skip_modules",
    "exclude",
)
"""Fields that list modules that are left plain, by the libraries that write them."""
Entries = dict[str, tuple[str, WeightFormat | None]]
"""Entry -> the field that it stands in, and the format of its modules; None for plain ones."""


def module_entries(method: str, settings: Fields, weights: WeightFormat) -> Entries:
    """The entries of a method's settings in the order in which they count.

    Args:
        method: by the name that `costmodel.families.quantised.method_of` gives it.
        settings: of the method.
        weights: the format of all other modules.

    Raises:
        ModelError: for entries that cannot be priced, by their field.
    """
    inner = settings.nested("quantization")
    found: Entries = {
        entry: (key, None) for where in (settings, inner) for key in _EXEMPT for entry in texts(where, key)
    }
    read = _BY_METHOD.get(method)
    for entry, own in (read(method, settings, weights) if read else {}).items():
        found.setdefault(entry, own)
    return found


def _of_mlx(method: str, settings: Fields, weights: WeightFormat) -> Entries:
    """`{"model.layers.0.mlp.gate": {"bits": 8, "group_size": 64}}` among the settings, or false for a plain module."""
    found: Entries = {}
    for name, value in settings.data.items():
        if isinstance(value, Mapping):
            found[name] = (name, METHODS[method](settings.nested(name)))
        elif "." in name and not settings.flag(name, True):
            found[name] = (name, None)
    return found


def _of_gptq(method: str, settings: Fields, weights: WeightFormat) -> Entries:
    """GPTQModel's `dynamic`: regular expressions after `-:` for plain modules, after `+:` or bare for settings of their
    own."""
    dynamic, found = settings.nested("dynamic"), Entries()
    for name in dynamic.data:
        expression = "re:" + name.removeprefix("+:").removeprefix("-:")
        own = dynamic.nested(name) if not name.startswith("-:") else None
        found[expression] = ("dynamic", None if own is None else METHODS[method](_over(settings, own)))
    return found


def _of_auto_round(method: str, settings: Fields, weights: WeightFormat) -> Entries:
    """`extra_config`: names or regular expressions -> settings of their own; 16 bits stand for plain modules."""
    extra, found = settings.nested("extra_config"), Entries()
    for name in extra.data:
        own = extra.nested(name)
        plain = own.count("bits", weights.bits) >= 16
        if name.endswith("lm_head") and not plain:
            raise extra.error(name, "16 bits: a quantised LM head beside a plain embedding cannot be priced")
        entry = name if _is_plain_name(name) else f"re:{name}"
        found[entry] = ("extra_config", None if plain else METHODS[method](_over(settings, own)))
    return found


def _of_quark(method: str, settings: Fields, weights: WeightFormat) -> Entries:
    """`layer_quant_config`: names and patterns -> settings in place of `global_quant_config`."""
    layers, found = settings.nested("layer_quant_config"), Entries()
    for name in layers.data:
        own = {"global_quant_config": layers.data[name]}
        plain = not layers.nested(name).nested("weight").data
        made = None if plain else METHODS[method](settings.at(own, f"{settings.path}layer_quant_config."))
        found[name] = ("layer_quant_config", made)
    return found


def _of_groups(method: str, settings: Fields, weights: WeightFormat) -> Entries:
    """`config_groups` of several schemes, each with its targets."""
    return {target: ("config_groups", form) for target, form in formats_by_group(settings).items()}


_BY_METHOD = {
    "mlx": _of_mlx,
    "gptq": _of_gptq,
    "auto-round": _of_auto_round,
    "intel/auto-round": _of_auto_round,
    "quark": _of_quark,
    "compressed-tensors": _of_groups,
}


def _over(settings: Fields, own: Fields) -> Fields:
    """The settings with those of modules of their own in their place."""
    return own.with_data({**settings.data, **own.data})


def _is_plain_name(name: str) -> bool:
    return all(letter.isalnum() or letter in "._-" for letter in name) and not name.startswith(".")
