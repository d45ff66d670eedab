"""Options of `validate choose` that other commands have: their bounds, units and names of values are the same."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import pytest

from costmodel.space.settings import SpaceSettings
from validate.choose.settings import Sizes
from validate.errors import RunError
from validate.quality.settings import QualitySettings
from validate.speed.settings import MeasureSettings
from validate.store.settings import settings_of


@pytest.mark.parametrize(
    ("other", "names"),
    [
        (QualitySettings, ("factors", "blocks", "length", "calibration_blocks", "batch")),
        (MeasureSettings, ("budget", "precision", "seed", "threads")),
        (SpaceSettings, ("ranks",)),
    ],
)
def test_an_option_of_another_command_takes_the_same_values(other: type[Any], names: tuple[str, ...]) -> None:
    own = {each.name: each for each in fields(Sizes)}
    for each in fields(other):
        if each.name in names:
            words = {key: value for key, value in each.metadata.items() if key != "help"}
            assert {key: value for key, value in own[each.name].metadata.items() if key != "help"} == words, each.name


def test_what_is_said_of_it_and_its_default_may_differ() -> None:
    own, quality = ({each.name: each for each in fields(kind)} for kind in (Sizes, QualitySettings))
    assert own["factors"].default == "whitened" != quality["factors"].default
    assert own["length"] is not quality["length"]
    assert own["length"].metadata["help"] == quality["length"].metadata["help"]
    assert own["blocks"].metadata["help"] == "Blocks of each half of the text."


NUMBERS = [
    each.name for each in fields(Sizes) if each.name != "seed" and str(each.type).split(" | ")[0] in ("int", "float")
]


@pytest.mark.parametrize("value", [10**30, -1])
@pytest.mark.parametrize("name", NUMBERS)
def test_every_number_of_a_loop_has_bounds(name: str, value: int) -> None:
    with pytest.raises(RunError, match=rf"loop\.json: {name}: got "):
        settings_of(Sizes, {name: value}, "loop.json")


def test_there_are_numbers_of_a_loop() -> None:
    assert {"points", "rounds", "random", "accept", "samples", "seq_len", "batch_size"} <= set(NUMBERS)
