"""Maps of all weights for the page of a loop: ranks and damage of the choice, and what the model is sensitive to. No
torch."""

from __future__ import annotations

from pathlib import Path

from costmodel.decomposition.factors import Decomposition
from costmodel.show.site_map import SiteMap, rank_map
from validate.choose.fitted import fit_name
from validate.choose.settings import Settings
from validate.choose.verdict import Verdict
from validate.predictor.weight_maps import WeightDamage


def choice_maps(folder: Path, settings: Settings, verdict: Verdict) -> list[SiteMap]:
    """Ranks of the choice unless it is dense; its damage and the model's sensitivity by the predictor that counted.

    Raises:
        CostModelError: when the quality file is missing or is of other ranks than the settings say.
    """
    model, chosen = verdict.results.model, verdict.choice
    damage = WeightDamage(folder / fit_name(settings.rounds), model, settings.rank_list, multiple=settings.multiple)
    if chosen is None:
        return [damage.at_reference()]
    config = Decomposition.from_json(chosen.point.config, model)
    found = [rank_map("Rank of each weight of the choice", "ranks", config, model), damage.of(config)]
    return [*(each for each in found if each is not None), damage.at_reference()]
