"""Modules that a quantised checkpoint holds otherwise than the rest: left plain, or in a format of their own."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace

from costmodel.families.fields import Fields
from costmodel.families.lists import texts
from costmodel.families.quantised import marks, method_of
from costmodel.families.weight_formats import formats_by_path
from costmodel.model import ModelSpec
from costmodel.units import DType
from costmodel.weights import WeightFormat

_EXEMPT = ("modules_to_not_convert", "ignore", "exclude_modules", "ignored_layers", "llm_int8_skip_modules")
_WHOLE_NAME = re.compile(r"[\w.*-]+")
_OUTSIDE = re.compile(r"lm_head|embed|norm|vision|visual|tower|projector|router|mlp\.gate$|shared_expert_gate")
_PARTS = 5
"""Of any length, in a pattern of the names of modules."""
_PATTERNS = 1_000
_FP4_EXPERTS = WeightFormat(method="fp4 experts", dtype=DType.INT4, bits=4, group=32, scale_bits=8)
"""Of DeepSeek-V4 (`expert_dtype`), beside fp8 for all else."""

Apart = tuple[frozenset[str], tuple[tuple[str, WeightFormat], ...]]
"""Names of a layer's tensors that are plain, and those of others with their formats."""


def with_module_formats(spec: ModelSpec, fields: Fields) -> ModelSpec:
    """The model with the tensors marked that the configuration leaves plain or holds in formats of their own; layers of
    which it says so of others are a kind of their own."""
    key, settings = marks(fields) or ("", fields.with_data({}))
    method = method_of(key, settings)
    listed = formats_by_path(settings) if settings.nested("quantized_layers").data else {}
    listed = {_short(path): form for path, form in listed.items()}
    alone = method == "modelopt" and bool(listed)  # what is not listed is not quantised
    entries = [] if listed else [(key, entry) for key in _EXEMPT for entry in texts(settings, key)]
    last = {tensor.path.rpartition(".")[2] for tensor in spec.tensors}
    concerning = [(key, entry) for key, entry in entries if _may_concern(entry, last)]
    exact = {entry for _, entry in concerning if _is_name(entry)}
    patterns = [_pattern(settings, key, entry) for key, entry in concerning if not _is_name(entry)]
    if len(patterns) > _PATTERNS:
        raise settings.error(concerning[0][0], f"up to {_PATTERNS:,} patterns of names")
    experts = _FP4_EXPERTS if fields.text("expert_dtype") == "fp4" and method == "fp8" and not listed else None
    if not concerning and not listed and experts is None:
        return spec

    def apart(layer: int) -> Apart:
        plain, forms = set(spec.kind_of(layer).plain_tensors), dict[str, WeightFormat]()
        for tensor in spec.kind_of(layer).tensors:
            path = f"{spec.layer_prefix}.{layer}.{tensor.path}"
            own = _listed(path, listed) or (experts if tensor.experts else None)
            exempt = not exact.isdisjoint(_inside(path)) or any(pattern.match(path) for pattern in patterns)
            if exempt or (alone and own is None):
                plain.add(tensor.name)
            elif own is not None and own != spec.weights:
                forms[tensor.name] = own
        return frozenset(plain), tuple(forms.items())

    each = [apart(layer) for layer in range(spec.num_layers)]
    if len(set(each)) == 1 and not spec.kinds:
        return replace(spec, plain_tensors=each[0][0], tensor_forms=each[0][1])
    found = list(dict.fromkeys(each))
    kinds, own = list[str](), dict[str, dict[str, object]]()
    for layer, (plain, forms) in enumerate(each):
        before = spec.layer_kinds[layer] if spec.layer_kinds else "layer"
        number = found.index((plain, forms))
        kind = f"{before}, plain {number}" if number else before
        kinds.append(kind)
        own[kind] = {**spec.kind_fields.get(before, {}), "plain_tensors": plain, "tensor_forms": forms}
    return replace(spec, layer_kinds=tuple(kinds), kind_fields=own)


def _short(path: str) -> str:
    """A module's path from the list of layers on, with the names that transformers gives to blocks."""
    inner = path.partition("layers.")[2] or path
    return inner.replace(".attn.", ".self_attn.").replace(".ffn.", ".mlp.")


def _listed(path: str, listed: Mapping[str, WeightFormat]) -> WeightFormat | None:
    """The format of the module of this path, or of one that it is in."""
    inner = _short(path)
    while inner:
        if inner in listed:
            return listed[inner]
        inner = inner.rpartition(".")[0]
    return None


def _may_concern(entry: str, last: set[str]) -> bool:
    """Whether an exemption could be of a linear of a layer, whose names end in `last`: it does not name what lies
    outside, a norm or a tower. A regular expression that is read in no time is tried on the names themselves."""
    if entry.startswith("re:"):
        return not _endless(entry) or not _OUTSIDE.search(entry)
    return (
        not _OUTSIDE.search(entry)
        and bool(_WHOLE_NAME.fullmatch(entry))
        and any(part in entry for part in ("layers", ".h.", "attn", "mlp", *last))
    )


def _endless(entry: str) -> bool:
    """Whether a regular expression could take for ever: more parts of any length than `_PARTS`, or a group repeated."""
    bare = re.sub(r"\(\?", "(", entry)  # as (?: and (?! begin groups
    return len(re.findall(r"[*+?}]", bare)) > _PARTS or re.search(r"\)[*+{]", bare) is not None


def _is_name(entry: str) -> bool:
    """Whether an entry is the name of modules, or a part of one between dots, and no pattern."""
    return not entry.startswith("re:") and "*" not in entry


def _inside(path: str) -> list[str]:
    """All that stands between dots of a path: the path, its modules, and runs of them."""
    parts = path.split(".")
    return [".".join(parts[start:stop]) for start in range(len(parts)) for stop in range(start + 1, len(parts) + 1)]


def _pattern(settings: Fields, key: str, entry: str) -> re.Pattern[str]:
    """What the paths of the modules that an entry exempts begin with.

    Raises:
        ModelError: for a pattern that is none, or that could take for ever.
    """
    if _endless(entry):
        allowed = f"patterns with up to {_PARTS} of *, + and ?, none of * and + behind a group"
        raise settings.error(key, allowed, f"found: {entry!r}")
    text = entry[3:] if entry.startswith("re:") else re.escape(entry).replace(r"\*", ".*") + r"\Z"
    try:
        return re.compile(text)
    except (re.error, RecursionError, OverflowError) as error:
        raise settings.error(key, "names of modules and patterns", f"found: {entry!r}, {error}") from error
