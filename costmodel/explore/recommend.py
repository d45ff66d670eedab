"""Which configuration reaches a goal at the least damage, and why none does where none does.

Searched are the homogeneous configurations whose rank is one of SHARES of each tensor's break-even rank, rounded down
to a multiple that matrix units like: every set of tensors, every number of layers, and of the layers those that damage
the least, exactly (`by_layer.sets`); where layers have different tensors, those of `prefixes`. A yes keeps the goal at
the pessimistic end of the saving's 90 % interval.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from costmodel.arrays import Floats, Ints
from costmodel.decomposition.factors import Decomposition
from costmodel.decomposition.prior import DESTROYED, METRIC
from costmodel.decomposition.sites import site_mask
from costmodel.decomposition.text import Rank
from costmodel.errors import InputError
from costmodel.explore.beside import space_of_one
from costmodel.explore.by_layer.quality import LayerQuality
from costmodel.explore.by_layer.sets import LayerSets
from costmodel.explore.goal import Goal
from costmodel.explore.prefixes import prefixes
from costmodel.explore.quality import PRIOR, QualityTable, load_quality
from costmodel.explore.reasons import missed, most_text, reached_verdict, unfit_text
from costmodel.explore.recommendation import Quantised, Recommendation, Verdict
from costmodel.explore.sums import require_sums
from costmodel.explore.tables import CostBatch, CostTables
from costmodel.forward.workload import Workload
from costmodel.hardware.profile import HardwareProfile
from costmodel.model import ModelSpec
from costmodel.pricing.estimate import estimate, pricer
from costmodel.pricing.phase import PhaseCosts
from costmodel.pricing.setup import Setup
from costmodel.pricing.several import Place, Question, Refusal, answer_each
from costmodel.space.base import DesignSpace
from costmodel.space.kinds import HomogeneousSpace
from costmodel.space.make import design_space
from costmodel.timing.calibration.record import Calibration
from costmodel.units import DType

SHARES = (1, 10, 20, 30, 40, 50, 60, 70, 80, 90)
"""Ranks that are tried, in percent of break-even."""
QUANTISED = (DType.INT8, DType.FP8)
"""Types of weights that are priced beside factors."""
_WIDE, _NARROW, _WIDE_MODEL = 32, 16, 1024
"""Ranks are multiples of the first where the hidden size is at least the last, else of the second."""
_MOST_CLASSES = 1_500_000


def recommend(
    model: ModelSpec,
    hardware: HardwareProfile,
    work: Workload,
    goal: Goal,
    *,
    calibration: Calibration | None = None,
    max_damage: float | None = None,
    quality: str | None = None,
    only: Decomposition | None = None,
) -> Recommendation:
    """The least damaging configuration that reaches a goal.

    Args:
        model, hardware, work, calibration: as `estimate` takes them.
        goal: what must be reached.
        max_damage: the most damage allowed; None: one nat by the prior, anything by another quality.
        quality: as `explore` takes it; None for the prior.
        only: the one configuration to judge; None to search.

    Raises:
        InputError: when quality does not fit, or max_damage is no damage.
    """
    if max_damage is not None and not max_damage >= 0:
        raise InputError("the most damage allowed", value=max_damage, allowed="a number from 0")
    space = _space(model) if only is None else space_of_one(model, only)
    damage = load_quality(PRIOR if quality is None else quality, space, only)
    usual = DESTROYED if damage.metric == METRIC else np.inf
    ceiling = usual if max_damage is None else max_damage
    require_sums([work], [goal.metric])
    priced = pricer(model, hardware, work, calibration)
    tables = CostTables(space, [priced], None, damage)
    phase = work.phase.value
    batch, configuration = _tried(tables, space, damage, only)
    saved, low, high = goal.saved(batch, phase)
    nats = batch.quality()
    answer = estimate(model, hardware, Decomposition(), [work], calibration=calibration)
    dense = answer.phases[0]
    needed = goal.least_pct(float(getattr(dense.dense, goal.metric)))
    sure = saved if low is None else low
    peak = _peaks(batch, work)
    held = peak <= hardware.memory_bytes
    reached = np.flatnonzero((sure >= needed) & (nats <= ceiling) & held & (low is not None))
    chosen = int(reached[np.lexsort((-saved[reached], nats[reached]))[0]]) if len(reached) else None
    config = None if chosen is None else configuration(chosen)
    alive = peak[nats <= ceiling]
    best = float(saved.max())
    if chosen is not None:
        verdict = reached_verdict(goal, needed, chosen, saved, sure, dense.dense, hardware)
        best = float(saved[held].max())
    elif not (alive <= hardware.memory_bytes).any():
        verdict = Verdict(code="no", reason="does-not-fit", text=unfit_text(int(alive.min()), work, hardware))
    else:
        best = float(saved[held].max())
        ends = None if low is None else low[held]
        at_most = most_text(best, only)
        reason, text = missed(dense, goal, needed, ceiling, saved[held], ends, nats[held], damage, at_most)
        verdict = Verdict(code="no", reason=reason, text=text)
    return Recommendation(
        model=model,
        hardware=hardware.name,
        workload=work,
        goal=goal,
        dense=dense.dense,
        verdict=verdict,
        config=config,
        saved_pct=_at(saved, chosen),
        saved_p05_pct=_at(low, chosen),
        saved_p95_pct=_at(high, chosen),
        most_saved_pct=best,
        damage=_at(nats, chosen),
        damage_metric=damage.metric,
        measured=not damage.stand_in,
        quantised=tuple(_quantised(model, hardware, work, goal, calibration, config, dense.dense)),
        warnings=answer.warnings,
        held_by_one=_held_by_one(dense.dense, model, hardware, work),
    )


def recommend_each(
    questions: Sequence[Question],
    goal: Goal,
    *,
    max_damage: float | None = None,
    quality: str | None = None,
    only: Decomposition | None = None,
    begin: Callable[[int], None] | None = None,
) -> list[tuple[int, Recommendation | Refusal]]:
    """The place of a question and its recommendation, for each device and workload of several questions, or why it
    cannot be answered; what two of them ask, lengths of another phase apart, is answered once. `begin` is told the
    number of each question before it is answered; other arguments as of `recommend`.

    Raises:
        CostModelError: of the first question, where none can be answered.
    """
    seen: set[tuple[HardwareProfile, Workload]] = set()

    def answer(setup: Setup) -> list[Recommendation]:
        new = [work for work in setup.workloads if (setup.hardware, work) not in seen]
        seen.update((setup.hardware, work) for work in new)
        how = {"max_damage": max_damage, "quality": quality, "only": only, "calibration": setup.calibration}
        return [recommend(setup.model, setup.hardware, work, goal, **how) for work in new]  # type: ignore[arg-type]

    rows: list[tuple[int, Recommendation | Refusal]] = []
    refused: set[tuple[str, Place]] = set()
    for place, found in enumerate(answer_each(questions, answer, begin)):
        if isinstance(found, Refusal):
            found = replace(found, places=tuple(each for each in found.places if (found.hardware, each) not in refused))
            refused.update((found.hardware, each) for each in found.places)
            rows += [(place, replace(found, places=(each,))) for each in found.places]
        else:
            rows += [(place, row) for row in found]
    return rows


def _tried(
    tables: CostTables, space: DesignSpace, damage: QualityTable, only: Decomposition | None
) -> tuple[CostBatch, Callable[[int], Decomposition]]:
    """Costs of what is tried, the dense model first, and the configuration at each place."""
    if only is not None:
        choices = np.stack([space.choices(number) for number in (0, space.index(only))])
        return tables.batch(choices), lambda place: space.decomposition(choices[place])
    if not isinstance(space, HomogeneousSpace):
        choices = prefixes(space, damage)
        return tables.batch(choices), lambda place: space.decomposition(choices[place])
    sets = LayerSets(tables, space, LayerQuality.of(damage, space))
    return sets.batch, lambda place: space.config(next(sets.members(place))[1])


def _space(model: ModelSpec) -> DesignSpace:
    multiple = _WIDE if model.hidden_size >= _WIDE_MODEL else _NARROW
    shares = [Rank.parse(f"{share}%") for share in SHARES]
    if not site_mask(model).all():
        return design_space(model, "per-site", ranks=shares, rank_multiple=multiple)
    space = design_space(model, "homogeneous", ranks=shares, rank_multiple=multiple)
    assert isinstance(space, HomogeneousSpace)
    if len(space.valid_pairs) * len(space.layers) > _MOST_CLASSES:
        coarse = [Rank.parse(f"{share}%") for share in (25, 50, 75)]
        space = design_space(model, "homogeneous", ranks=coarse, rank_multiple=multiple)
    return space


def _peaks(batch: CostBatch, work: Workload) -> Ints:
    """Bytes that the fullest device needs at the peak of each configuration; of a pipeline, whose fullest stage is not
    searched, an equal share of the weights, which is the least that it can be."""
    costs = batch.phase(work.phase.value)
    return costs.peak_memory_bytes if work.pp == 1 else costs.weight_bytes // work.pp


def _held_by_one(dense: PhaseCosts, model: ModelSpec, hardware: HardwareProfile, work: Workload) -> bool:
    """Whether one device alone holds the dense pass."""
    if work.devices == 1:
        return dense.fits
    alone = replace(work, tp=1, ep=1, pp=1, microbatches=1)
    return estimate(model, hardware, Decomposition(), [alone]).phases[0].dense.fits


def _at(values: Floats | None, place: int | None) -> float | None:
    return None if values is None or place is None else float(values[place])


def _quantised(
    model: ModelSpec,
    hardware: HardwareProfile,
    work: Workload,
    goal: Goal,
    calibration: Calibration | None,
    config: Decomposition | None,
    dense: PhaseCosts,
) -> list[Quantised]:
    """The same pass with weights in fewer bits: 100 (dense - it) / dense of the goal's cost."""
    before = float(getattr(dense, goal.metric))
    rows = []
    for dtype in QUANTISED:
        if work.fp8 or work.stored is not None or dtype is work.site_dtype:
            continue
        held = replace(work, weight_dtype=dtype)
        phase = estimate(model, hardware, config or Decomposition(), [held], calibration=calibration).phases[0]
        alone, both = (float(getattr(costs, goal.metric)) for costs in (phase.dense, phase.decomposed))
        rows.append(
            Quantised(
                weight_dtype=dtype.value,
                saved_pct=100 * (before - alone) / before,
                with_config_pct=None if config is None else 100 * (before - both) / before,
            )
        )
    return rows
