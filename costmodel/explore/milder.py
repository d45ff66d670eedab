"""Where the first of an exploration is likely a destroyed model: the first of those that the prior leaves alive."""

from __future__ import annotations

import dataclasses

from costmodel.decomposition.prior import DESTROYED, METRIC
from costmodel.explore.answer import Answer
from costmodel.explore.explore import Exploration, answer
from costmodel.explore.objectives import Limit, Objective
from costmodel.explore.tables import CostTables
from costmodel.space.kinds import HomogeneousSpace
from costmodel.space.mixed import MixedSpace


def milder(result: Exploration) -> Answer | None:
    """The answer among configurations with less damage than a destroyed model's, of whose `top` those are left that are
    ahead of dense in the order asked for.

    None where that is not the question: quality was named or limited, nothing was listed, the first one is alive, or
    the space is not homogeneous: others take too long to ask again. The limit is the one that `recommend` has by
    default.
    """
    question, space = result.question, result.space
    graded = question.tables.quality is not None or result.damage.metric != METRIC
    if graded or not result.answer.top or not isinstance(space, HomogeneousSpace | MixedSpace):
        return None
    if result.damage_of(result.answer.top[0].number) < DESTROYED:
        return None
    tables = CostTables(
        space, [table.pricer for table in question.tables.phases.values()], question.tables.steps, result.damage
    )
    alive = Limit(objective=Objective(name="quality", part="quality", metric="quality"), sign="<", value=DESTROYED)
    found = answer(dataclasses.replace(question, tables=tables, limits=(*question.limits, alive)))
    numbers = [each.number for each in found.top]
    ahead = next((place for place, number in enumerate(numbers) if not space.choices(number).any()), len(numbers))
    return dataclasses.replace(found, top=found.top[:ahead])


def opening(result: Exploration) -> Exploration:
    """The exploration as it is shown to people: where the first is likely destroyed, `top` has those alive instead, and
    `top_gap` is theirs."""
    alive = milder(result)
    if alive is None or not alive.top:
        return result
    return dataclasses.replace(result, answer=dataclasses.replace(result.answer, top=alive.top, top_gap=alive.top_gap))
