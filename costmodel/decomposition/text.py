"""The text form of a decomposition: `layers=2,17,31 tensors=all rank=1 form=tucker`."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from costmodel.decomposition.factors import (
    FORMS,
    Decomposition,
    Factor,
    Form,
    Site,
    break_even_rank,
    check_layer,
    check_rank,
    make_factor,
)
from costmodel.errors import DecompositionError
from costmodel.model import ModelSpec
from costmodel.tensors import WeightTensor

if TYPE_CHECKING:
    from fractions import Fraction

DENSE = "dense"
"""The text of the configuration that factors and drops nothing."""
_KEYS = ("layers", "tensors", "rank", "form")
_RANGE = re.compile(r"(\d{1,9})(?:-(\d{1,9})(?::(\d{1,9}))?)?", re.ASCII)
_NUMBER = re.compile(r"\d{1,12}", re.ASCII)
_PLUS = re.compile(r"(?:^|\s)\+(?:\s|$)")
_PERCENT = re.compile(r"(\d{1,6}\.?\d{0,30}|\.\d{1,30})%", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rank:
    """A rank as a number, or as a share of each tensor's break-even rank."""

    number: int = 0
    percent: Fraction | None = None

    @classmethod
    def parse(cls, text: str) -> Rank:
        """Read `64` or `12.5%`."""
        allowed = "a whole number of at least 1, or a percentage of break-even such as 50%"
        if _PERCENT.fullmatch(text):
            from fractions import Fraction  # loads the decimal numbers, which plain ranks need not

            percent = Fraction(text[:-1])
            if not percent:
                raise DecompositionError("rank out of range", value=text, allowed="above 0%")
            return cls(percent=percent)
        if not _NUMBER.fullmatch(text) or not int(text):
            raise DecompositionError("not a rank", value=text, allowed=allowed)
        return cls(number=int(text))

    def of(self, tensor: WeightTensor, form: Form) -> int:
        """The number for one tensor: max(1, floor(P / 100 x break-even))."""
        if self.percent is None:
            return self.number
        return max(1, int(self.percent * break_even_rank(tensor.out_features, tensor.in_features, form) / 100))


def parse_layers(text: str, model: ModelSpec) -> list[int]:
    """Read `all`, numbers, inclusive ranges `8-23`, steps `0-30:2`, and commas between them."""
    if text == "all":
        return list(range(model.num_layers))
    layers: list[int] = []
    for part in text.split(","):
        match = _RANGE.fullmatch(part)
        if not match:
            raise DecompositionError("not a set of layers", value=part, allowed="all, 5, 8-23, 0-30:2, and commas")
        first = int(match[1])
        last = int(match[2]) if match[2] else first
        step = int(match[3]) if match[3] else 1
        if last < first or step < 1:
            allowed = "FIRST-LAST or FIRST-LAST:STEP with FIRST <= LAST and STEP >= 1"
            raise DecompositionError("empty range of layers", value=part, allowed=allowed)
        for layer in (first, last):
            check_layer(layer, model)
        layers.extend(range(first, last + 1, step))
    return sorted(set(layers))


def parse_tensors(text: str, model: ModelSpec) -> list[str]:
    """Read tensor names and groups (`all`, `attn`, `mlp`) joined by commas, in forward order."""
    chosen: set[str] = set()
    names = model.groups["all"]
    for part in text.split(","):
        if part in model.groups:
            chosen.update(model.groups[part])
        elif part in names or any(kind.one_expert(part) for kind in _kinds(model)):
            chosen.add(part)
        elif not part:
            raise DecompositionError(
                f"{model.family.name} layers have no tensor of that name",
                value=part,
                hint=f"empty name: a stray comma? in tensors={text}",
            )
        else:
            raise DecompositionError(
                f"{model.family.name} layers have no tensor of that name",
                value=part,
                allowed=", ".join([*names, *model.groups]),
            )
    return [*(name for name in names if name in chosen), *sorted(chosen - set(names))]


def apply_spec(base: Decomposition, text: str, model: ModelSpec) -> Decomposition:
    """`base` with one SPEC on top: the SPEC wins on every site that it names.

    A rank or `form=dense` on a dropped layer brings that layer back; `form=drop` forgets its ranks; the word `dense`
    alone forgets all.

    Raises:
        DecompositionError: when the SPEC is empty, malformed, contradicts itself or does not fit `model`.
    """
    if text.strip() == DENSE:
        return Decomposition()
    fields = _fields(text)
    layers = parse_layers(fields.get("layers", "all"), model)
    form = fields.get("form", "svd")
    if form not in (*FORMS, "dense", "drop"):
        raise DecompositionError("unknown form", value=form, allowed="svd, tucker, dense, drop")
    if form in ("dense", "drop") and "rank" in fields:
        raise DecompositionError(f"form={form} takes no rank", value=text, hint="leave rank out")
    if form == "drop":
        if "tensors" in fields:
            raise DecompositionError("form=drop takes whole layers, no tensors", value=text, hint="leave tensors out")
        kept = {site: factor for site, factor in base.factors.items() if site.layer not in layers}
        return Decomposition(kept, base.dropped | frozenset(layers))
    tensors = parse_tensors(fields.get("tensors", "all"), model)
    factors = dict(base.factors)
    by_kind = {model.kind_of(layer): layer for layer in reversed(layers)}
    if not any(_named(kind, tensors) for kind in by_kind):
        allowed = ", ".join(dict.fromkeys(tensor.name for kind in by_kind for tensor in kind.tensors))
        raise DecompositionError(f"{describe_layers(layers)} have none of these tensors", value=text, allowed=allowed)
    if form == "dense":
        for site in (Site(layer, name) for layer in layers for name in tensors):
            factors.pop(site, None)
    else:
        if "rank" not in fields:
            hint = "add rank=64, rank=50%, or form=dense|drop"
            raise DecompositionError("a SPEC needs a rank", value=text, hint=hint)
        rank = Rank.parse(fields["rank"])
        new = {kind: _factors(rank, tensors, form, kind) for kind in by_kind}  # type: ignore[arg-type]
        for layer in layers:
            factors.update({Site(layer, name): factor for name, factor in new[model.kind_of(layer)].items()})
    return Decomposition(factors, base.dropped - frozenset(layers))


def parse_decomposition(specs: Iterable[str], model: ModelSpec, base: Decomposition | None = None) -> Decomposition:
    """Apply SPECs in order on top of `base` (the dense model by default); the later one wins.

    A text may hold several SPECs joined by ` + `, as `describe` writes them.

    Raises:
        DecompositionError: when a SPEC is empty, malformed, contradicts itself or does not fit `model`.
    """
    result = base or Decomposition()
    for text in specs:
        for spec in _PLUS.split(text):
            result = apply_spec(result, spec, model)
    return result


def describe(decomposition: Decomposition, model: ModelSpec) -> str:
    """SPECs that rebuild the configuration, joined by ` + `; equal layers are grouped.

    Two different ranks of a Tucker site, which no SPEC can state, show as `rank=8x16`.
    """
    if not decomposition.factors and not decomposition.dropped:
        return DENSE
    per_layer: dict[int, dict[str, Factor]] = {}
    for site, factor in decomposition.factors.items():
        per_layer.setdefault(site.layer, {})[site.tensor] = factor
    groups: dict[tuple[Factor, str], list[int]] = {}
    members = {kind: {names: group for group, names in reversed(kind.groups.items())} for kind in _kinds(model)}
    for layer, factors in sorted(per_layer.items()):
        kind = model.kind_of(layer)
        own = [tensor.name for tensor in kind.tensors]
        own += [name for name in factors if name not in own]
        for factor in dict.fromkeys(factors[name] for name in own if name in factors):
            names = tuple(name for name in own if factors.get(name) == factor)
            groups.setdefault((factor, members[kind].get(names, ",".join(names))), []).append(layer)
    texts = [_describe_group(factor, tensors, layers, model) for (factor, tensors), layers in groups.items()]
    if decomposition.dropped:
        whole = len(decomposition.dropped) == model.num_layers
        texts.append(f"layers={'all' if whole else compact(sorted(decomposition.dropped))} form=drop")
    return " + ".join(texts)


def compact(layers: list[int]) -> str:
    """Sorted layers as a SPEC writes them: `[0, 1, 2, 5, 7, 9]` as `0-2,5-9:2`; fewer than three make no range."""
    texts = []
    while layers:
        step = layers[1] - layers[0] if len(layers) > 2 else 0
        length = next((i for i in range(1, len(layers)) if layers[i] - layers[i - 1] != step), len(layers))
        run, layers = (layers[:length], layers[length:]) if length > 2 else (layers[:1], layers[1:])
        suffix = f":{step}" if step > 1 else ""
        texts.append(f"{run[0]}-{run[-1]}{suffix}" if len(run) > 1 else f"{run[0]}")
    return ",".join(texts)


def describe_layers(layers: Iterable[int]) -> str:
    """`layer 5`, or `layers 0-2,5`."""
    numbers = sorted(layers)
    return f"layer{'s' if len(numbers) > 1 else ''} {compact(numbers)}"


def _named(kind: ModelSpec, names: Iterable[str]) -> list[WeightTensor]:
    """The tensors of these names that layers of a kind have, single experts of a stack among them."""
    wanted = set(names)
    own = [tensor for tensor in kind.tensors if tensor.name in wanted]
    rest = wanted.difference(tensor.name for tensor in kind.tensors)
    return own + [expert for name in sorted(rest) if (expert := kind.one_expert(name))]


def _kinds(model: ModelSpec) -> Iterable[ModelSpec]:
    return model.kinds.values() or (model,)


def _describe_group(factor: Factor, tensors: str, layers: list[int], model: ModelSpec) -> str:
    where = "all" if len(layers) == model.num_layers else compact(layers)
    first, last = factor.ranks
    rank = f"{first}" if first == last else f"{first}x{last}"
    return f"layers={where} tensors={tensors} rank={rank} form={factor.to_json()['form']}"


def _fields(text: str) -> dict[str, str]:
    fields: dict[str, str] = {}
    for word in text.split():
        key, equals, value = word.partition("=")
        if not equals or not value:
            allowed = f"KEY=VALUE with KEY one of {', '.join(_KEYS)}"
            file = word.lower().endswith((".toml", ".json"))
            hint = "a file of SPECs is read by --recipe, a configuration by --config" if file else ""
            if word == DENSE:
                hint = "dense is a SPEC of its own, or form=dense in one"
            raise DecompositionError("not a SPEC", value=word, allowed=allowed, hint=hint)
        if key not in _KEYS:
            raise DecompositionError("unknown key in SPEC", value=key, allowed=", ".join(_KEYS))
        if key in fields:
            raise DecompositionError("key given twice in SPEC", value=key, hint="use two SPECs")
        fields[key] = value
    if not fields:
        raise DecompositionError("empty SPEC", value=text, allowed="for example 'layers=2,17,31 rank=1 form=tucker'")
    return fields


def _factors(rank: Rank, tensors: list[str], form: Form, model: ModelSpec) -> dict[str, Factor]:
    """A factor for each of the names that the layers of `model`, all of a kind, have."""
    factors: dict[str, Factor] = {}
    for tensor in _named(model, tensors):
        name = tensor.name
        number = rank.of(tensor, form)
        hint = "use a percentage of break-even such as 50%, or restrict tensors="
        check_rank(number, tensor, name, hint if len(tensors) > 1 else "")
        factors[name] = make_factor(form, number)
    return factors


def rank_span(ranks: list[tuple[int, int]]) -> str:
    """From the least to the largest of the ranks of several factors: `8 to 64`, or `8`."""
    lowest, highest = min(map(min, ranks)), max(map(max, ranks))
    return f"{lowest}" if lowest == highest else f"{lowest} to {highest}"
