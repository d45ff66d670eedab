"""A model as one of several devices holds it under tensor parallelism, and what ways there are to split factors.

Weights are cut as Megatron-LM cuts them (arXiv 1909.08053): those that make heads or the MLP's inner features by their
rows (`out_features`), those that read them by their columns (`in_features`), whose products are then summed over the
devices; the token table and the LM head by the vocabulary; all else is on every device. Of a factored weight W = U V,
with V of rank x in_features, several splits give the same result:

- split by rows: `replicate` keeps V whole on every device; `gather` splits V by the rank too and gathers the inner
  activations, rank wide;
- split by columns: `reduce-rank` sums the inner activations, rank wide, and keeps U whole; `reduce-hidden` applies the
  whole U to partial sums and sums the result, out_features wide; `scatter` gives each device its share of the summed
  inner activations, splits U by the rank, and sums the result.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Generic, Literal, NamedTuple

from costmodel.decomposition.factors import Form
from costmodel.errors import InputError
from costmodel.forward.work import Count
from costmodel.forward.workload import MAX_DEVICES, Way
from costmodel.model import ModelSpec
from costmodel.tensors import Split, WeightTensor

WAYS: dict[Split, tuple[Way, ...]] = {
    "rows": ("replicate", "gather"),
    "columns": ("reduce-rank", "reduce-hidden", "scatter"),
    "": ("replicate",),
}
"""The ways to split a factored weight, by how the dense one is split; of two that take equally long the first is
taken."""
_SHARED_OUT = ("num_heads", "intermediate_size")
DENSE_WAYS: dict[Split, Way] = {"rows": "replicate", "columns": "reduce-hidden", "": "replicate"}
"""The way whose collectives are those of the dense weight."""


class Stage(NamedTuple, Generic[Count]):
    """A linear (m, k) @ (k, n) of one device, or a collective whose whole message is m x n activations; arrays of them
    stand for as many, and there is none where n is 0."""

    suffix: str
    """What it appends to the module's name."""
    kind: Literal["gemm", "all_reduce", "all_gather", "reduce_scatter"]
    n: Count
    k: Count
    bias: Count
    """Elements of the bias."""


@functools.lru_cache(maxsize=64)
def rank_of(model: ModelSpec, tp: int) -> ModelSpec:
    """The model that each of `tp` devices runs, its tensors marked with their split; the model itself for one.

    A vocabulary that `tp` does not divide is padded. Fewer KV heads than devices are held by several.

    Raises:
        InputError: when heads or the MLP's inner features cannot be dealt out evenly, and for layers of experts, latent
            or linear attention, of which it is not said how they are dealt out.
    """
    if tp == 1:
        return model
    if model.state_size or any(tensor.experts or tensor.over_cache for tensor in model.tensors):
        raise InputError(
            f"{model.name} has layers of experts, latent or linear attention, which are not priced on several devices",
            value=f"--tp {tp}",
            allowed="1",
        )
    allowed = possible_devices(model)
    if tp not in allowed:
        name = next((each for each in _SHARED_OUT if getattr(model, each) % tp), "num_kv_heads")
        what = f"--tp does not divide {name} {getattr(model, name)} of {model.name}"
        raise InputError(what, value=tp, allowed=", ".join(map(str, allowed)))
    kinds = {name: {**fields, **_shares(model.kinds[name], tp)} for name, fields in model.kind_fields.items()}
    vocabulary = -(-model.vocab_size // tp)
    parts = [replace(part, out_features=vocabulary) if part.tied else part for part in model.head.parts]
    head = replace(model.head, parts=tuple(parts))
    own = replace(model, **_shares(model, tp), vocab_size=vocabulary, head=head, kind_fields=kinds)  # type: ignore[arg-type]
    _mark(own, model)
    for name, kind in own.kinds.items():
        _mark(kind, model.kinds[name])
    object.__setattr__(own, "tensors", _distinct(kind.tensors for kind in own.kinds.values()) or own.tensors)
    if len(own.tensors) != len(model.tensors):
        raise InputError(f"{model.name}: its kinds of layers are not told apart once split", value=f"--tp {tp}")
    return own


def _distinct(several: Iterable[Sequence[WeightTensor]]) -> tuple[WeightTensor, ...]:
    return tuple(dict.fromkeys(tensor for tensors in several for tensor in tensors))


def _shares(model: ModelSpec, tp: int) -> dict[str, int]:
    """The sizes of a model that are dealt out, as one device has them."""
    own = {name: getattr(model, name) // tp for name in _SHARED_OUT}
    return {**own, "num_kv_heads": max(1, model.num_kv_heads // tp)}


def possible_devices(model: ModelSpec) -> tuple[int, ...]:
    """The numbers of devices that can share the model: they divide every size that is dealt out in every kind of layer,
    and divide the KV heads or are a multiple of them."""
    kinds = [model, *model.kinds.values()]
    return tuple(
        count
        for count in range(1, MAX_DEVICES + 1)
        if all(getattr(kind, name) % count == 0 for kind in kinds for name in _SHARED_OUT)
        and all(kind.num_kv_heads % count == 0 or count % kind.num_kv_heads == 0 for kind in kinds)
    )


def _mark(own: ModelSpec, whole: ModelSpec) -> None:
    """Note on each tensor of `own` which side of it the devices share out."""
    pairs = zip(own.tensors, whole.tensors, strict=True)
    object.__setattr__(own, "tensors", tuple(replace(part, split=_split(part, full)) for part, full in pairs))


def _split(part: WeightTensor, full: WeightTensor) -> Split:
    if part.out_features < full.out_features:
        return "rows"
    return "columns" if part.in_features < full.in_features else ""


def break_even(way: Way, tensor: WeightTensor, form: Form, tp: int) -> int:
    """Largest rank whose factors hold no more parameters on each device than its share of the dense weight.

    W is out x in, split over tp devices: r (a in + b out) + c r^2 <= in out / tp, with a and b the share of V and of U
    that a device holds, 1 or 1 / tp, and c = 1 in the Tucker form, whose core is on every device.
    """
    out = tensor.out_features * (tp if tensor.split == "rows" else 1)
    inner = tensor.in_features * (tp if tensor.split == "columns" else 1)
    shared = {"replicate": (1, tp), "gather": (tp, tp), "scatter": (tp, tp)}.get(way, (tp, 1))
    if not tensor.split:
        shared, tp = (1, 1), 1
    linear = tp * inner // shared[0] + tp * out // shared[1]
    if form == "svd":
        return out * inner // linear
    return (math.isqrt(linear * linear + 4 * tp * out * inner) - linear) // (2 * tp)


def is_legal(way: Way, first: Count, last: Count, tp: int) -> Count:
    """0 where the ranks, inner widths after the first factor and before the last, can be dealt out as the way needs."""
    return first % tp if way == "gather" else last % tp if way == "scatter" else 0 * first


def split_stages(
    way: Way, first: Count, last: Count, core: Count, out: Count, inner: Count, bias: Count, tp: int
) -> list[Stage[Count]]:
    """What one device runs for a factored weight, in order.

    Args:
        way: of those that `WAYS` has for the tensor's split.
        first, last: the inner widths: after the first factor, and before the last.
        core: `last` where there is a third factor between them, else 0.
        out, inner: features of one device's share of the dense weight, as `rank_of` gives it.
        bias: elements of the bias, which the last factor adds.
        tp: devices.
    """
    none = 0 * out
    into = Stage(".in", "gemm", first // tp if way == "gather" else first, inner, none)
    middle = Stage(".core", "gemm", core, first, none)
    result = Stage(".out", "gemm", out, last // tp if way == "scatter" else last, bias)
    hidden = Stage(".all_reduce", "all_reduce", out, none, none)
    match way:
        case "replicate":
            return [into, middle, result]
        case "gather":
            return [into, Stage(".all_gather", "all_gather", first, none, none), middle, result]
        case "reduce-rank":
            return [into, middle, Stage(".all_reduce", "all_reduce", last, none, none), result]
        case "reduce-hidden":
            return [into, middle, result, hidden]
        case "scatter":
            return [into, middle, Stage(".reduce_scatter", "reduce_scatter", last, none, none), result, hidden]
