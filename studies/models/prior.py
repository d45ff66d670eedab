"""Fit the prior of damage to the kept records: `python -m studies.models.prior`; prints its size and its errors."""

from __future__ import annotations

import functools
import json
import math
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from costmodel.arrays import Floats
from costmodel.decomposition.factors import Decomposition, Form, LowRank, load_decomposition
from costmodel.decomposition.prior import NATS, layer_weights, rank_damage
from costmodel.decomposition.sites import site_columns
from costmodel.families.load import load_model
from costmodel.model import ModelSpec

STUDIES = Path(__file__).resolve().parents[1]
PARTS = ("sampled", "case_studies", "parts", "asked")
LEAST, MOST = 0.002, 8.0
"""Changes of NLL in nats: smaller ones are noise, larger ones count as this much."""


def prior_damage(decomposition: Decomposition, model: ModelSpec) -> float:
    """The prior of one configuration in nats; 0 for the dense model. A dropped layer counts as if nothing were kept."""
    weights, columns = layer_weights(model), site_columns(model)
    total = sum(float(weights[layer]) for layer, _ in columns if layer in decomposition.dropped)
    for site, factor in decomposition.factors.items():
        if site not in columns or site.layer in decomposition.dropped:
            continue
        tensor = model.tensors[columns[site]]
        form: Form = "svd" if isinstance(factor, LowRank) else "tucker"
        rank = math.sqrt(factor.ranks[0] * factor.ranks[1])
        kept = rank_damage(np.array(rank), tensor.out_features, tensor.in_features, form)
        total += float(weights[site.layer] * kept)
    return total


def records(name: str) -> Iterator[dict[str, Any]]:
    """The measured configurations of a study."""
    for part in PARTS:
        for line in (STUDIES / name / part / "quality.jsonl").read_text(encoding="utf-8").splitlines():
            yield json.loads(line)


@functools.cache
def changes(name: str) -> tuple[Floats, Floats]:
    """(prior, measured change of NLL) of each configuration with plain factors and no dropped layer, once each."""
    rows = list(records(name))
    dense = next(_nll(row) for row in rows if row["origin"] == "dense")
    plain = {
        json.dumps(row["config"], sort_keys=True): _nll(row) - dense
        for row in rows
        if row["factors"] == "plain" and not row["config"]["drop"]
    }
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "config.json"
        path.write_text(json.dumps(rows[0]["model"]["config"]), encoding="utf-8")
        model = load_model(path)
        file = Path(folder) / "configuration.json"
        priors = []
        for text in plain:
            file.write_text(text, encoding="utf-8")
            priors.append(prior_damage(load_decomposition(file, model), model))
    return np.array(priors), np.array(list(plain.values()))


def _nll(row: dict[str, Any]) -> float:
    text = row["text"]
    return float(sum(text["nll"]) / sum(text["tokens"]))


def log_errors(name: str) -> Floats:
    """ln(measured / prior) where the change was measurable."""
    prior, change = changes(name)
    seen = change > LEAST
    return np.log(np.minimum(change[seen], MOST) / prior[seen])


def rank_correlation(name: str) -> float:
    """Spearman's, over changes that were measurable."""
    prior, change = changes(name)
    seen = change > LEAST
    order = [np.argsort(np.argsort(values[seen])) for values in (prior, change)]
    return float(np.corrcoef(*order)[0, 1])


def held_out_factor(name: str, other: str) -> float:
    """The factor within which 9 in 10 changes of a model lie when the size is fitted on the other one."""
    size = float(log_errors(other).mean())
    return float(np.exp(np.quantile(np.abs(log_errors(name) - size), 0.9)))


if __name__ == "__main__":
    pair = ("llama", "bert")
    middle = float(np.exp(np.mean([log_errors(name).mean() for name in pair])))
    sys.stdout.write(f"NATS {NATS * middle:.3g}\n")
    for name, other in (pair, pair[::-1]):
        factor = held_out_factor(name, other)
        sys.stdout.write(f"{name}: rank correlation {rank_correlation(name):.2f}, factor held out {factor:.1f}\n")
