"""Which configuration reaches a goal at the least damage, and why none does where none does.

Searched are the homogeneous configurations whose rank is one of SHARES of each tensor's break-even rank, rounded down
to a multiple that matrix units like: every set of tensors, every number of layers, and of the layers those that damage
the least, exactly (`by_layer.sets`). A yes keeps the goal at the pessimistic end of the saving's 90 % interval.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

import numpy as np

from costmodel.arrays import Floats
from costmodel.decomposition.factors import Decomposition, Form
from costmodel.decomposition.prior import DESTROYED, METRIC
from costmodel.decomposition.text import Rank, describe
from costmodel.errors import InputError
from costmodel.explore.by_layer.quality import LayerQuality
from costmodel.explore.by_layer.sets import LayerSets
from costmodel.explore.goal import Goal
from costmodel.explore.quality import PRIOR, QualityTable, load_quality
from costmodel.explore.recommendation import Quantised, Reason, Recommendation, Verdict
from costmodel.explore.sums import require_sums
from costmodel.explore.tables import CostBatch, CostTables
from costmodel.forward.workload import Workload
from costmodel.hardware.profile import HardwareProfile
from costmodel.hardware.stack import names_bare_kernels
from costmodel.model import ModelSpec
from costmodel.pricing.estimate import PhaseEstimate, estimate, pricer
from costmodel.pricing.phase import PhaseCosts
from costmodel.pricing.setup import Setup
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
        InputError: when layers of the model have different tensors, quality does not fit, or max_damage is no damage.
    """
    if max_damage is not None and not max_damage >= 0:
        raise InputError("the most damage allowed", value=max_damage, allowed="a number from 0")
    space = _space(model) if only is None else _space_of(model, only)
    damage = load_quality(PRIOR if quality is None else quality, space)
    usual = DESTROYED if damage.metric == METRIC else np.inf
    ceiling = usual if max_damage is None else max_damage
    require_sums([work], [goal.metric])
    priced = pricer(model, hardware, work, calibration)
    tables = CostTables(space, [priced], None, damage)
    phase = work.phase.value
    batch, configuration = _tried(tables, space, damage, only)
    saved, low, high = goal.saved(batch, phase)
    nats = batch.quality()
    dense = estimate(model, hardware, Decomposition(), [work], calibration=calibration).phases[0]
    needed = goal.least_pct(float(getattr(dense.dense, goal.metric)))
    sure = saved if low is None else low
    reached = np.flatnonzero((sure >= needed) & (nats <= ceiling) & (low is not None))
    chosen = int(reached[np.lexsort((-saved[reached], nats[reached]))[0]]) if len(reached) else None
    config = None if chosen is None else configuration(chosen)
    reason, text = _why(dense, goal, needed, ceiling, saved, low, nats, damage, _most(saved, only))
    verdict = Verdict(code="no", reason=reason, text=text)
    if chosen is not None:
        verdict = _yes(goal, needed, chosen, saved, sure)
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
        most_saved_pct=float(saved.max()),
        damage=_at(nats, chosen),
        damage_metric=damage.metric,
        measured=not damage.stand_in,
        quantised=tuple(_quantised(model, hardware, work, goal, calibration, config, dense.dense)),
    )


def recommend_each(
    setups: Iterable[Setup],
    goal: Goal,
    *,
    max_damage: float | None = None,
    quality: str | None = None,
    only: Decomposition | None = None,
) -> Iterator[tuple[int, Recommendation]]:
    """The place of a question and its recommendation, for each device and workload of several questions; what two of
    them ask, lengths of another phase apart, is answered once. Other arguments and errors as of `recommend`."""
    seen = set()
    for place, setup in enumerate(setups):
        for work in setup.workloads:
            if (setup.hardware, work) in seen:
                continue
            seen.add((setup.hardware, work))
            yield (
                place,
                recommend(
                    setup.model,
                    setup.hardware,
                    work,
                    goal,
                    calibration=setup.calibration,
                    max_damage=max_damage,
                    quality=quality,
                    only=only,
                ),
            )


def _tried(
    tables: CostTables, space: DesignSpace, damage: QualityTable, only: Decomposition | None
) -> tuple[CostBatch, Callable[[int], Decomposition]]:
    """Costs of what is tried, the dense model first, and the configuration at each place."""
    if only is not None:
        choices = np.stack([space.choices(number) for number in (0, space.index(only))])
        return tables.batch(choices), lambda place: space.decomposition(choices[place])
    assert isinstance(space, HomogeneousSpace)
    sets = LayerSets(tables, space, LayerQuality.of(damage, space))
    return sets.batch, lambda place: space.config(next(sets.members(place))[1])


def _space_of(model: ModelSpec, only: Decomposition) -> DesignSpace:
    """A space that holds one configuration.

    Raises:
        InputError: when it is dense, drops layers, or mixes forms.
    """
    forms = {str(factor.to_json()["form"]) for factor in only.factors.values()}
    uneven = any(len(set(factor.ranks)) > 1 for factor in only.factors.values())
    if len(forms) != 1 or only.dropped or uneven:
        raise InputError(
            "this configuration cannot be judged here",
            value=describe(only, model),
            allowed="factors of one form, no dropped layers",
            hint="use costmodel estimate",
        )
    ranks = sorted({factor.ranks[0] for factor in only.factors.values()})
    form: Form = "svd" if forms == {"svd"} else "tucker"
    return design_space(model, "per-site", ranks=ranks, form=form)


def _space(model: ModelSpec) -> HomogeneousSpace:
    multiple = _WIDE if model.hidden_size >= _WIDE_MODEL else _NARROW
    shares = [Rank.parse(f"{share}%") for share in SHARES]
    space = design_space(model, "homogeneous", ranks=shares, rank_multiple=multiple)
    if not isinstance(space, HomogeneousSpace):
        raise InputError(
            "layers of this model have different tensors, of which no configuration can be recommended",
            value=model.name,
            hint="use costmodel explore",
        )
    if len(space.valid_pairs) * len(space.layers) > _MOST_CLASSES:
        coarse = [Rank.parse(f"{share}%") for share in (25, 50, 75)]
        space = design_space(model, "homogeneous", ranks=coarse, rank_multiple=multiple)
        assert isinstance(space, HomogeneousSpace)
    return space


def _at(values: Floats | None, place: int | None) -> float | None:
    return None if values is None or place is None else float(values[place])


def _yes(goal: Goal, needed: float, chosen: int, saved: Floats, sure: Floats) -> Verdict:
    if chosen == 0:
        return Verdict(code="yes", reason="fits", text="dense as it is")
    if goal.kind != "faster":
        return Verdict(code="yes", reason="reached", text=f"saves {saved[chosen]:.1f} %, {needed:.1f} % are needed")
    text = f"saves {saved[chosen]:.1f} %, {sure[chosen]:.1f} % at the pessimistic end"
    return Verdict(code="yes", reason="reached", text=text)


def _why(
    dense: PhaseEstimate,
    goal: Goal,
    needed: float,
    ceiling: float,
    saved: Floats,
    low: Floats | None,
    nats: Floats,
    damage: QualityTable,
    at_most: str,
) -> tuple[Reason, str]:
    """Why no configuration reaches the goal, as if none did."""
    if float(saved.max()) < needed:
        return _limit(dense, goal, at_most)
    if low is None:
        return "uncertain", "no calibration says how sure a saving is"
    if float(low.max()) < needed:
        best = int(saved.argmax())
        return "uncertain", f"{at_most}, and {low[best]:.1f} % at the pessimistic end of that"
    least = float(nats[low >= needed].min())
    of = f"a damage of {least:.2g} nats by a prior" if damage.metric == METRIC else f"{least:.2g} {damage.metric}"
    return "damage", f"reached at {of} only, and {ceiling:g} is the most allowed"


def _most(saved: Floats, only: Decomposition | None) -> str:
    """The most that is saved, in words: by any configuration, or by the one that was judged."""
    most = float(saved.max())
    if only is not None:
        return f"this configuration saves {f'{most:.1f} %' if most > 0 else 'none'}"
    return f"at most {most:.1f} %" if most > 0 else "no configuration saves any"


def _limit(dense: PhaseEstimate, goal: Goal, at_most: str) -> tuple[Reason, str]:
    """What keeps every configuration from the goal."""
    if goal.kind != "faster":
        return "floor", f"{at_most}: the rest is not in weights that can be factored"
    costs = dense.dense
    if costs.host_s >= costs.device_s:
        bare = names_bare_kernels(dense.workload.stack)
        how = "; name a --stack, or try --runtime graph" if bare else ""
        return "launch-bound", f"launch-bound: the host's launches set the pace; {at_most}{how}"
    ops, timings = dense.ops("dense")
    sites = np.array([op.site is not None for op in ops])
    whole, own = float(timings.latency_s.sum()), float(timings.latency_s[sites].sum())
    share = 100 * own * costs.device_s / whole / costs.latency_s
    bounds = np.array(timings.bound())
    work = float(timings.latency_s[sites & (bounds == "compute")].sum())
    if 2 * work > own:
        return "compute-bound", f"compute-bound: smaller products run less efficiently; {at_most}"
    return "floor", f"at the floor: {share:.0f} % of the time is in weights, and more kernels eat the rest; {at_most}"


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
