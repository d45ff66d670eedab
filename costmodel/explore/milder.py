"""Where the first of an exploration is likely a destroyed model: the first of those that the prior leaves alive."""

from __future__ import annotations

import dataclasses

from costmodel.decomposition.prior import DESTROYED, METRIC
from costmodel.explore.answer import Found
from costmodel.explore.explore import Exploration, answer
from costmodel.explore.objectives import Limit, Objective
from costmodel.explore.tables import CostTables
from costmodel.space.kinds import HomogeneousSpace
from costmodel.space.mixed import MixedSpace


def milder(result: Exploration) -> tuple[Found, ...] | None:
    """The first configurations with less damage than a destroyed model's, ahead of dense in the order asked for.

    None where that is not the question: quality was named or limited, nothing was listed, the first one is alive, or
    the space is too large to ask again in a blink. The limit is the one that `recommend` has by default.
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
    found = answer(dataclasses.replace(question, tables=tables, limits=(*question.limits, alive))).top
    ahead = next((place for place, each in enumerate(found) if not space.choices(each.number).any()), len(found))
    return found[:ahead]


def opening(result: Exploration) -> Exploration:
    """The exploration as it is shown to people: where the first is likely destroyed, `top` has those alive instead."""
    alive = milder(result)
    return result if not alive else dataclasses.replace(result, answer=dataclasses.replace(result.answer, top=alive))
