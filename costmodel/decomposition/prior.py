"""Damage that factoring does to a model's answers, guessed without its weights: a prior, no measurement.

damage = NATS x mean over all sites of weight x exp(-SHARPNESS x rank / break-even rank), a dense site adding nothing

in nats of NLL per token; `weight` is FIRST in the first layer, LAST in the last, 1 between them. Fitted by
`studies/models/prior.py` to the change of NLL of 1,001 configurations with plain factors of two small trained models,
a Llama and a BERT (studies/README.md): rank correlations 0.93 and 0.88. With the size fitted on the one model, 9 in 10
of the other's changes lie within a factor of WITHIN. Larger models were not seen: it orders configurations, and tells a
mild one from a destroyed one.
"""

from __future__ import annotations

import numpy as np

from costmodel.arrays import Floats, Ints
from costmodel.decomposition.factors import Form, break_even_rank
from costmodel.decomposition.sites import site_mask
from costmodel.model import ModelSpec

NATS = 2.5
SHARPNESS = 4.0
FIRST, LAST = 20.0, 1.5
WITHIN = 7.0
DESTROYED = 1.0
"""Nats from which on a model's answers are taken for lost: a perplexity of e times the dense one's."""
METRIC = f"damage in nats, a prior without weights (within {WITHIN:g}x where tried)"


def layer_weights(model: ModelSpec) -> Floats:
    """Nats that a site of each layer costs with nothing kept, (layers,)."""
    weights = np.ones(model.num_layers)
    weights[-1] = LAST
    weights[0] = FIRST
    return NATS * weights / int(site_mask(model).sum())


def rank_damage(ranks: Ints, out_features: int, in_features: int, form: Form) -> Floats:
    """The part of a site's damage that its rank decides, 1 for nothing kept; ranks int64 of any shape."""
    return np.exp(-SHARPNESS * ranks / max(1, break_even_rank(out_features, in_features, form)))
