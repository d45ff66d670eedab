"""The design space of a kind: its candidate ranks resolved, its restrictions applied."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from costmodel.decomposition.factors import FORMS, Form, Site, break_even_rank
from costmodel.decomposition.sites import site_columns, site_mask
from costmodel.decomposition.text import Rank
from costmodel.errors import InputError
from costmodel.model import ModelSpec
from costmodel.space.base import KINDS, MAX_RANKS, DesignSpace, SpaceKind
from costmodel.space.kinds import HomogeneousSpace, PerLayerSpace, PerSiteSpace
from costmodel.space.mixed import MixedSpace


def resolve_ranks(
    model: ModelSpec, form: Form, ranks: Sequence[Rank] | None, multiple: int = 1, used: Sequence[bool] | None = None
) -> list[list[int]]:
    """Candidate ranks of each tensor, a list of R for every tensor of the model, without repeated candidates.

    A percentage is of each tensor's own break-even rank and is rounded down to the multiple (but at least one
    multiple); a plain rank must be a multiple. Without `ranks`: rank 1, or with a multiple above 1 all its multiples
    up to the largest break-even rank. `used` says which tensors count in telling candidates apart.

    Raises:
        InputError: on a rank that is no multiple, or too many ranks.
    """
    if not 1 <= multiple <= 1 << 20:
        raise InputError("rank multiple out of range", value=multiple, allowed=f"1 to {1 << 20}")
    if ranks is None:
        top = max(break_even_rank(t.out_features, t.in_features, form) for t in model.tensors)
        numbers = range(multiple, top + 1, multiple) if multiple > 1 else [1]
        ranks = [Rank(number=number) for number in numbers]
        if not ranks:
            raise InputError("no rank is a multiple of that", value=multiple, allowed=f"at most {top}")
    if not ranks or len(ranks) > MAX_RANKS:
        raise InputError("number of ranks out of range", value=len(ranks), allowed=f"1 to {MAX_RANKS}")
    rows: dict[tuple[int, ...], list[int]] = {}
    for rank in ranks:
        if rank.percent is None and rank.number % multiple:
            raise InputError("rank is no multiple", value=rank.number, allowed=f"multiples of {multiple}")
        row = [max(multiple, rank.of(tensor, form) // multiple * multiple) for tensor in model.tensors]
        rows.setdefault(tuple(value for value, use in zip(row, used or [True] * len(row), strict=True) if use), row)
    return [list(column) for column in zip(*rows.values(), strict=True)]


def design_space(
    model: ModelSpec,
    kind: SpaceKind = "homogeneous",
    *,
    ranks: Sequence[Rank | int] | None = None,
    form: Form = "svd",
    rank_multiple: int = 1,
    keep: Iterable[Site] = (),
) -> DesignSpace:
    """The space of one kind.

    Args:
        model: whose layers and tensors.
        kind: homogeneous, per-layer or per-site.
        ranks: candidates, numbers or shares of break-even; see `resolve_ranks` for what None means.
        form: of every factored site.
        rank_multiple: every rank is a multiple of this.
        keep: sites that stay dense; in the homogeneous space whole layers and whole tensors.

    Raises:
        InputError: when a restriction is impossible or leaves nothing to decompose.
    """
    if form not in FORMS:
        raise InputError("unknown form", value=form, allowed=", ".join(FORMS))
    columns, free = site_columns(model), site_mask(model).copy()
    for site in keep:
        free[site.layer, columns[site]] = False
    if not free.any():
        raise InputError("nothing is left to decompose: every site is kept dense", hint="keep fewer layers or tensors")
    candidates = [Rank(number=rank) if isinstance(rank, int) else rank for rank in ranks] if ranks is not None else None
    table = resolve_ranks(model, form, candidates, rank_multiple, np.any(free, axis=0).tolist())
    if kind == "homogeneous":
        alike = len(np.unique(free[free.any(axis=1)], axis=0)) == 1
        return (HomogeneousSpace if alike else MixedSpace)(model, form, table, free)
    if kind == "per-layer":
        return PerLayerSpace(model, form, table, free)
    if kind == "per-site":
        return PerSiteSpace(model, form, table, free)
    raise InputError("unknown space", value=kind, allowed=", ".join(KINDS))
