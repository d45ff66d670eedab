"""A sentence encoder, its texts, and what is computed of them once, when it is first needed."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path

import torch

from costmodel.decomposition.factors import Decomposition, Site
from studies.comparison.allocate import allocate
from studies.comparison.baselines import AsvdFactors, FwsvdFactors, dropped, share_removed, uniform
from studies.comparison.record import DENSE
from studies.comparison.statistics import Statistics, collect_statistics
from studies.minilm.record import Judged
from studies.minilm.responses import Responses, collect_responses
from studies.minilm.sentences import BATCH, Sentences, embedded
from validate.factors.factorize import Factorization
from validate.factors.fisher import factorize_fisher
from validate.factors.replace import Replacement, StageMaker, WeightFactors
from validate.factors.sequential import SequentialFactors
from validate.factors.whitening import WhitenedFactors
from validate.models.pretrained import Pretrained, open_pretrained
from validate.models.stream import LayerStream
from validate.quality.similarity import read_pairs
from validate.store.digests import checkpoint_sha256

METHODS = {
    "svd": ("uniform", "plain"),
    "fwsvd": ("uniform", "fwsvd"),
    "asvd": ("uniform", "asvd"),
    "svd-llm": ("uniform", "whitened"),
    "drop late": ("late", ""),
    "drop influence": ("influence", ""),
    "drop alone": ("alone", ""),
    "ours, whitened": ("allocated", "whitened"),
    "ours, fisher": ("allocated", "fisher"),
    "ours, sequential": ("allocated", "sequential"),
    "ours": ("allocated", "chosen"),
}
"""By name: how ranks or layers are chosen, and how factors are computed."""
FITTED = 0.8
"""Share of the calibration pairs that factors are fitted to; on the others the kind of factors is chosen."""

Chosen = tuple[Decomposition, str]
"""A configuration and the kind of its factors."""


class FisherSites(WeightFactors):
    """Weighted by the curvature of the embedding's change, as `FisherFactors` are by that of a loss."""

    def __init__(self, responses: Responses) -> None:
        super().__init__()
        self._responses = responses

    def factorize(self, site: Site, weight: torch.Tensor, *, tucker: bool) -> Factorization:
        known = self._responses
        return factorize_fisher(weight, known.moments.of(site), known.squares[site], tucker=tucker)


class Comparison:
    """Judges methods on pairs.

    Args:
        model: folder of an encoder.
        pairs, calibration: files to judge on, and to fit to.
        blocks, length: what is made of the calibration sentences.

    Attributes:
        judged, fitted, rest: sentences to judge on, to fit to, and to choose the kind of factors on; none in two.
    """

    def __init__(self, model: str, pairs: str, calibration: str, *, blocks: int, length: int) -> None:
        self._pretrained: Pretrained = open_pretrained(model)
        self._pairs, known = read_pairs(pairs), read_pairs(calibration)
        self.judged = Sentences(self._pretrained, self._pairs)
        count = round(FITTED * len(known))
        order = torch.randperm(len(known), generator=torch.Generator().manual_seed(0)).tolist()
        fitted, rest = ([known[place] for place in part] for part in (order[:count], order[count:]))
        self.fitted = Sentences(self._pretrained, fitted, without=self.judged.texts)
        self.rest = Sentences(self._pretrained, rest, without=[*self.judged.texts, *self.fitted.texts])
        self._blocks = self.fitted.blocks(length, blocks)
        self.text = self.judged.name
        self.calibration = f"{self.fitted.name} in {len(self._blocks)} blocks of {length} tokens"
        self.weights = checkpoint_sha256(Path(model))
        spec = self._pretrained.spec
        self.layers_share = sum(map(spec.layer_params, range(spec.num_layers))) / spec.num_params
        self._dense = self.judged.embeddings(self._pretrained.body)
        self._known: dict[str, tuple[list[float], float]] = {}
        self._sequences: dict[str, StageMaker] = {}

    def measure(self, method: str, removed: float) -> Judged:
        """One line."""
        began = time.monotonic()
        config, factors = (Decomposition(), "") if method == DENSE else self.chosen(method, removed)
        key = f"{config.to_json()} {factors}"
        if key not in self._known:
            with self._replaced(config, factors):
                found = self.judged.embeddings(self._pretrained.body)
            texts = {text: place for place, text in enumerate(self.judged.texts)}
            first, second = (
                found[[texts[pair.first] for pair in self._pairs]],
                found[[texts[pair.second] for pair in self._pairs]],
            )
            cosines = [round(value, 6) for value in (first * second).sum(1).tolist()]
            self._known[key] = cosines, float((1 - (found * self._dense).sum(1)).mean())
        cosines, change = self._known[key]
        return Judged(
            method=method,
            asked=removed,
            removed=share_removed(self._pretrained.spec, config),
            text=self.text,
            calibration=self.calibration,
            weights=self.weights,
            config=config.to_json(),
            seconds=round(time.monotonic() - began, 1),
            cosines=cosines,
            change=round(change, 6),
            scores=[pair.score for pair in self._pairs] if method == DENSE else [],
        )

    @cache  # noqa: B019 - one comparison a process
    def chosen(self, method: str, removed: float) -> Chosen:
        """What a method makes of the calibration sentences."""
        rule, factors = METHODS[method]
        if factors != "chosen":
            return self._configuration(rule, removed), factors
        kinds = [self.chosen(f"{method}, {kind}", removed) for kind in ("whitened", "fisher", "sequential")]
        return min(kinds, key=lambda kind: self._lost(*kind))

    def _configuration(self, rule: str, removed: float) -> Decomposition:
        spec = self._pretrained.spec
        if rule == "uniform":
            return uniform(spec, removed)
        if rule == "allocated":
            responses = self._responses()
            return allocate(spec, responses.losses(), removed, drops=responses.layer_losses())
        rules: Mapping[str, Callable[[], Mapping[int, float]]] = {
            "late": dict,
            "influence": lambda: {layer: 1 - cosine for layer, cosine in self._statistics().similarities.items()},
            "alone": lambda: self._responses().layer_losses(),
        }
        return dropped(spec, removed, rule, rules[rule]())

    def _lost(self, config: Decomposition, factors: str) -> float:
        """Mean change of embeddings of calibration sentences that nothing was fitted to."""
        with self._replaced(config, factors):
            found = self.rest.embeddings(self._pretrained.body)
        return float((1 - (found * self._rest_dense()).sum(1)).mean())

    def _replaced(self, config: Decomposition, factors: str) -> Replacement:
        make = self._sequential(config) if factors == "sequential" else self._maker(factors)
        return Replacement(self._pretrained.body, self._pretrained.spec, config, make)

    @cache  # noqa: B019
    def _rest_dense(self) -> torch.Tensor:
        return self.rest.embeddings(self._pretrained.body)

    @cache  # noqa: B019
    def _responses(self) -> Responses:
        return collect_responses(self._pretrained, self._blocks)

    @cache  # noqa: B019
    def _statistics(self) -> Statistics:
        directions = torch.randn(
            len(self._blocks), self._pretrained.spec.hidden_size, generator=torch.Generator().manual_seed(1)
        )

        def loss(place: int, inputs: torch.Tensor) -> torch.Tensor:
            one = inputs[None]
            return (embedded(self._pretrained.body, one, torch.ones_like(one))[0] * directions[place]).sum()

        return collect_statistics(self._pretrained, self._blocks, loss)

    def _sequential(self, config: Decomposition) -> StageMaker:
        """Kept by configuration: each takes a pass through the text."""
        key = str(config.to_json())
        if key not in self._sequences:
            stream = LayerStream(str(self._pretrained.folder), batch=BATCH)
            self._sequences[key] = SequentialFactors(stream, self._blocks).fitted(config)
        return self._sequences[key]

    @cache  # noqa: B019
    def _maker(self, factors: str) -> StageMaker:
        if factors in ("plain", ""):
            return WeightFactors()
        if factors == "fwsvd":
            return FwsvdFactors(self._statistics())
        if factors == "asvd":
            return AsvdFactors(self._statistics())
        return FisherSites(self._responses()) if factors == "fisher" else WhitenedFactors(self._responses().moments)
