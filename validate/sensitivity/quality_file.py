"""From sensitivity to the file that `costmodel explore --quality` reads: an estimate, not a measurement. No torch."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from costmodel.decomposition.factors import Form, Site
from costmodel.decomposition.text import Rank
from costmodel.errors import InputError
from costmodel.explore.quality_file import SCHEMA
from costmodel.space.make import resolve_ranks
from validate.factors.kinds import Factors
from validate.sensitivity.file import Sensitivity
from validate.sensitivity.spectra import Floats, SiteSpectra

MAX_ENTRIES = 2_000_000
"""More would be hundreds of megabytes of JSON."""


def quality_file(
    found: Sensitivity, *, ranks: Sequence[Rank], form: Form = "svd", factors: Factors = "plain", multiple: int = 1
) -> dict[str, Any]:
    """The content of a quality file for every site and rank.

    A value is the curvature of the loss (see `LossTerms`) where the file has gradients, in nats; else the expected
    squared output error in percent of the dense output's energy, divided by the number of sites. Both add up over sites
    as `explore` adds them; what sites do to each other is left out. Both forms have the same errors.

    Args:
        ranks: as `explore --ranks` takes them; ranks above min(out, in) of a tensor are left out.
        factors: how factors will be computed.
        multiple: as `explore --rank-multiple`.

    Raises:
        InputError: when a rank is impossible, or there would be too many entries.
    """
    table = resolve_ranks(found.spec, form, ranks, multiple)
    count = found.spec.num_layers * sum(len(row) for row in table)
    if count > MAX_ENTRIES:
        raise InputError(
            "too many entries for a quality file",
            value=count,
            allowed=f"up to {MAX_ENTRIES:,}",
            hint="give fewer --ranks",
        )
    entries = []
    for layer in range(found.spec.num_layers):
        for tensor, row in zip(found.spec.tensors, table, strict=True):
            site = Site(layer, tensor.name)
            values = _values(found.sites[site], factors, len(found.sites))
            entries += [
                {"site": str(site), "form": form, "rank": rank, "value": max(0.0, float(values[rank]))}
                for rank in sorted(set(row))
                if rank < len(values)
            ]
    unit = "increase of NLL in nats" if found.run.gradients else "squared output error in %, mean over sites"
    metric = f"estimated {unit} ({factors} factors, from validate sensitivity)"
    return {"schema": SCHEMA, "model": found.run.model, "metric": metric, "entries": entries}


def quality_bytes(content: dict[str, Any]) -> bytes:
    """The file's text, an entry a line."""
    head = {key: value for key, value in content.items() if key != "entries"}
    lines = ",\n".join(json.dumps(entry, allow_nan=False) for entry in content["entries"])
    return f'{json.dumps(head, allow_nan=False)[:-1]}, "entries": [\n{lines}\n]}}\n'.encode()


def _values(spectra: SiteSpectra, factors: Factors, sites: int) -> Floats:
    changes = spectra.loss_changes(factors)
    if changes is not None:
        return changes[1]
    errors = spectra.errors("plain_output" if factors == "plain" else "whitened", relative=True)
    return 100 * errors / sites
