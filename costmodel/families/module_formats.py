"""Modules that a quantised checkpoint holds otherwise than the rest: left plain, or in a format of their own."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace

from costmodel.families.fields import Fields
from costmodel.families.module_entries import Entries, module_entries
from costmodel.families.quantised import marks, method_of
from costmodel.families.weight_formats import formats_by_path
from costmodel.model import ModelSpec
from costmodel.units import DType
from costmodel.weights import WeightFormat

_WHOLE_NAME = re.compile(r"[\w.*-]+")
_OUTSIDE = re.compile(r"lm_head|embed|norm|vision|visual|audio|tower|projector|router|mlp\.gate$|shared_expert_gate")
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
    entries = {} if listed or spec.weights is None else module_entries(method, settings, spec.weights)
    if spec.weights is not None and spec.weights.embeddings:
        _refuse_vocabulary(settings, entries, spec.weights)
    last = {tensor.path.rpartition(".")[2] for tensor in spec.tensors}
    concerning = {entry: own for entry, own in entries.items() if _may_concern(entry, last)}
    order = {entry: place for place, entry in enumerate(concerning)}
    exact = {_short(entry): (order[entry], form) for entry, (_, form) in concerning.items() if _is_name(entry)}
    patterns = [
        (order[entry], _pattern(settings, key, entry), form)
        for entry, (key, form) in concerning.items()
        if not _is_name(entry)
    ]
    if len(patterns) > _PATTERNS:
        raise settings.error(next(iter(concerning.values()))[0], f"up to {_PATTERNS:,} patterns of names")
    experts = _FP4_EXPERTS if fields.text("expert_dtype") == "fp4" and method == "fp8" and not listed else None
    if not concerning and not listed and experts is None:
        return spec

    def own_form(path: str, stack: bool) -> WeightFormat | None:
        """The format of a module, None for a plain one."""
        named = min(
            (exact[name] for name in (*_inside(path), *_inside(_short(path))) if name in exact),
            key=lambda each: each[0],
            default=None,
        )
        spelt = _spelt(path, spec)
        matched = next(((place, form) for place, each, form in patterns if any(map(each.match, spelt))), None)
        found = [each for each in (named, matched) if each is not None]
        if found:
            return min(found, key=lambda each: each[0])[1]
        return _listed(path, listed) or (None if alone else (experts if stack and experts else spec.weights))

    def apart(layer: int) -> Apart:
        plain, forms = set(spec.kind_of(layer).plain_tensors), dict[str, WeightFormat]()
        for tensor in spec.kind_of(layer).tensors:
            own = own_form(f"{spec.layer_prefix}.{layer}.{tensor.path}", bool(tensor.experts))
            if own is None:
                plain.add(tensor.name)
            elif own != spec.weights:
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


def _refuse_vocabulary(settings: Fields, entries: Entries, weights: WeightFormat) -> None:
    """Raise a ModelError where the token embedding or the LM head is held otherwise than the rest."""
    for entry, (key, form) in entries.items():
        if re.search(r"(lm_head|embed_tokens|wte)$", entry) and form != weights:
            raise settings.error(key, "the format of all else: an embedding of its own format cannot be priced")


def _short(path: str) -> str:
    """A module's path from the list of layers on, with the names that transformers gives to blocks, and of an expert
    that of all."""
    inner = path.partition("layers.")[2] or path
    inner = inner.replace(".attn.", ".self_attn.").replace(".ffn.", ".mlp.").replace(".switch_mlp.", ".experts.")
    return re.sub(r"\.experts\.\d+(?=\.|$)", ".experts", inner)


def _spelt(path: str, spec: ModelSpec) -> tuple[str, ...]:
    """A module's path, and those that it has where the language model is inside another."""
    if not spec.inside:
        return (path,)
    return (path, f"language_model.{path}", f"model.language_model.{path.removeprefix('model.')}")


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
