"""Above which rank factors cost more than the dense weight, as rows of text."""

from __future__ import annotations

from costmodel.decomposition.factors import FORMS, break_even_rank
from costmodel.decomposition.sites import column_labels, site_columns
from costmodel.decomposition.text import rank_span
from costmodel.forward.sharding import WAYS, break_even
from costmodel.pricing.estimate import Estimate


def break_even_rows(result: Estimate) -> list[tuple[str, str, str, str, str, str]]:
    """For each tensor its shape, the ranks that this configuration gives it in how many layers, and both break-even
    ranks."""
    rows = []
    columns = site_columns(result.model)
    for column, (tensor, label) in enumerate(zip(result.model.tensors, column_labels(result.model), strict=True)):
        ranks = [factor.ranks for site, factor in result.decomposition.factors.items() if columns[site] == column]
        shape = (tensor.out_features, tensor.in_features)
        limits = (str(break_even_rank(*shape, "svd")), str(break_even_rank(*shape, "tucker")))
        here = (rank_span(ranks) if ranks else "dense", f"{len(ranks)}")
        rows.append((label, f"{shape[0]} x {shape[1]}", *here, *limits))
    return rows


def device_break_even_rows(result: Estimate) -> list[tuple[str, str, str, str, str, str]]:
    """For each tensor its share on one of several devices, and for each way to split its factors how many sites take
    it in the first phase and both break-even ranks; nothing on one device."""
    phase = result.phases[0]
    tp, rows = phase.workload.tp, list[tuple[str, str, str, str, str, str]]()
    if tp == 1:
        return rows
    ways = phase.ways()
    for tensor in phase.pricer.rank.tensors:
        for way in WAYS[tensor.split]:
            svd, tucker = (str(break_even(way, tensor, form, tp)) for form in FORMS)
            taken = str(ways.get(tensor.name, {}).get(way, 0))
            rows.append((tensor.name, f"{tensor.out_features} x {tensor.in_features}", way, taken, svd, tucker))
    return rows
