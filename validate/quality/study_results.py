"""What the case studies measured: each point with its interval, and differences between points. No torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from validate.errors import RunError
from validate.quality.case import DENSE
from validate.quality.intervals import Interval, change
from validate.quality.records import QualityRecord
from validate.quality.studies import Point

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A point and what was measured there.

    Attributes:
        change: of NLL against dense, nats per token.
        removed: share of the parameters.
    """

    point: Point
    record: QualityRecord
    change: Interval
    removed: float


class Results:
    """The points of all studies with their records.

    Args:
        points: of the studies.
        records: that hold all of them, and the dense model.

    Raises:
        RunError: when a point has no record, or it failed.
    """

    def __init__(self, points: Sequence[Point], records: Sequence[QualityRecord]) -> None:
        known = {record.id: record for record in records}
        dense = next((record for record in records if record.is_dense), None)
        if dense is None or dense.text is None:
            raise RunError("no dense record with text")
        self.dense, self.tokens = dense, dense.text.tokens
        spec = dense.spec()
        self.found: list[Found] = []
        self._nll: dict[str, Floats] = {DENSE.id(spec, dense.model.sha256): np.array(dense.text.nll)}
        for point in points:
            record = known.get(point.case.id(spec, dense.model.sha256))
            if record is None or record.text is None:
                reason = record.failure.reason if record is not None and record.failure else "not measured"
                raise RunError("a case has no result", value=f"{point.study} {point.series} {point.x}", hint=reason)
            self._nll[record.id] = np.array(record.text.nll)
            self.found.append(Found(
                point=point, record=record, change=change(record.text.nll, dense.text.nll, self.tokens),
                removed=1 - record.params / dense.params,
            ))  # fmt: skip

    def of(self, study: str, panel: str | None = None, series: str | None = None) -> list[Found]:
        """Points of a study in their order."""
        return [each for each in self.found if each.point.study == study and panel in (None, each.point.panel)
                and series in (None, each.point.series)]  # fmt: skip

    def difference(self, more: Sequence[Found], less: Sequence[Found]) -> Interval:
        """Mean NLL of the first minus that of the second, paired by block."""
        first, second = (np.mean([self._nll[each.record.id] for each in group], axis=0) for group in (more, less))
        return change(first.tolist(), second.tolist(), self.tokens)

    def interaction(
        self, pairs: Sequence[Found], singles: Mapping[int, Found], beside: Sequence[Found] = ()
    ) -> Interval:  # fmt: skip
        """Mean over pairs of layers of what both cost together beyond the sum of what each costs alone, minus the same
        of the pairs `beside`, if there are any."""
        other = self._beyond(beside, singles) if beside else np.zeros(len(self.tokens))
        return change(self._beyond(pairs, singles).tolist(), other.tolist(), self.tokens)

    def _beyond(self, pairs: Sequence[Found], singles: Mapping[int, Found]) -> Floats:
        dense = self._nll[self.dense.id]
        alone = {layer: self._nll[single.record.id] - dense for layer, single in singles.items()}
        rows = [self._nll[pair.record.id] - dense - sum(alone[layer] for layer in layers_of(pair)) for pair in pairs]
        mean: Floats = np.mean(rows, axis=0)
        return mean

    def singles(self, series: str) -> dict[int, Found]:
        """Each layer alone, by its number."""
        return {int(each.point.x): each for each in self.of("position", series=series)}

    def twins(self) -> list[tuple[Found, Found]]:
        """Every configuration once, with plain and with whitened factors."""
        by_config: dict[str, dict[str, Found]] = {}
        for each in self.found:
            if each.record.factors != "none":
                by_config.setdefault(str(each.record.config), {}).setdefault(each.record.factors, each)
        return [(pair["plain"], pair["whitened"]) for pair in by_config.values() if len(pair) == 2]


def layers_of(found: Found) -> list[int]:
    """The layers that a configuration touches."""
    sites = {int(name.split(".")[1]) for name in found.record.config["ranks"]}
    return sorted(sites | set(found.record.config["drop"]))
