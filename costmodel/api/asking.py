"""The four questions of the Python API, with the same defaults as the commands.

import costmodel as cm

cm.estimate("llama2-7b", "h100-sxm-80gb", "tensors=mlp rank=512", phase="decode", kv_len=2048)
cm.compare("llama2-7b", ["l4", "h100-sxm-80gb"], "rank=50%", batch=[1, 32], phase="decode")
cm.explore("llama2-7b", "l4", ranks="25%,50%", limits=["decode.saved.latency_p05_pct>=20%"], phase="decode")
cm.recommend("qwen2.5-1.5b", ["l4", "h100-sxm-80gb"], faster="20%", batch=[1, 32], phase="decode")
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from numbers import Integral, Real
from types import UnionType
from typing import Unpack, cast, overload

from costmodel.api.answers import Comparison, EstimateAnswer, ExplorationAnswer, Recommendations
from costmodel.api.options import (
    Corrections,
    Hardware,
    Model,
    Options,
    Several,
    Specs,
    decomposition_of,
    hardware_of,
    model_of,
    named_of,
    question_of,
    texts_of,
    warn_of_held,
)
from costmodel.decomposition.factors import Form
from costmodel.errors import InputError
from costmodel.explore.beside import held_beside, price_beside
from costmodel.explore.explore import explore as explored
from costmodel.explore.goal import Goal
from costmodel.explore.recommend import recommend_each
from costmodel.explore.recommendation import Recommendation
from costmodel.explore.settings import ExploreSettings
from costmodel.forward.workload import Workload
from costmodel.pricing.estimate import estimate as estimated
from costmodel.pricing.setup import SEVERAL, Setup
from costmodel.pricing.several import Question, answer_each
from costmodel.show.next_command import next_command
from costmodel.space.base import SpaceKind
from costmodel.space.settings import SpaceSettings
from costmodel.timing.calibration.load import find_calibration
from costmodel.timing.calibration.record import Calibration

_EXPLORE = ("space", "form", "ranks", "rank_multiple", "keep", "objectives", "limits", "top", "quality", "recipe")
"""What `explore` takes beside the workload."""


@overload
def estimate(
    model: Model, hw: Hardware, decompose: Specs = (), *, calibration: Corrections = "auto", **options: Unpack[Options]
) -> EstimateAnswer: ...
@overload
def estimate(
    model: Model,
    hw: Hardware,
    decompose: Specs,
    workloads: Iterable[Workload],
    *,
    calibration: Corrections = "auto",
    new_tokens: int | None = None,
) -> EstimateAnswer: ...
def estimate(
    model: Model,
    hw: Hardware,
    decompose: Specs = (),
    workloads: Iterable[Workload] | None = None,
    *,
    calibration: Corrections = "auto",
    **options: Unpack[Options],
) -> EstimateAnswer:
    """Price one configuration, as `costmodel estimate` does.

    Args:
        model, hw: built-in names, paths, or what `load_model` and `load_hardware` return.
        decompose: SPECs, a configuration, a preset, or the path of a recipe (.toml) or of a configuration (.json), in
            a list with SPECs on top; nothing is the dense model.
        workloads: passes as objects, instead of options.
        calibration: auto, none, a file or a `Calibration`.
        options: the workload, as the command's options name it.

    Raises:
        CostModelError: in one line.
    """
    if workloads is None:
        setup = question_of(model, hw, calibration, options, ("decompose", "workloads")).setup()
    else:
        works = tuple(cast("list[Workload]", _several(workloads)))
        for work in works:
            _check_kinds({"workloads": work}, Workload, "passes: Workload.prefill or Workload.decode")
        setup = _given(model, hw, works, calibration, options)
    return _estimated(setup, decompose)


def _estimated(setup: Setup, decompose: Specs) -> EstimateAnswer:
    return EstimateAnswer.of(
        estimated(
            setup.model,
            setup.hardware,
            decomposition_of(decompose, setup.model),
            setup.workloads,
            calibration=setup.calibration,
            new_tokens=setup.new_tokens,
        )
    )


def compare(
    model: Model,
    hw: Hardware | Sequence[Hardware],
    decompose: Specs = (),
    *,
    calibration: Corrections = "auto",
    **options: Unpack[Several],
) -> Comparison:
    """One configuration on several devices, as `costmodel estimate --hw A,B --batch 1,32` does: `stack`, `tp`, `ep`,
    `pp`, `batch`, `seq_len` and `kv_len` take several too, in lists.

    What cannot be answered is in `refused` with its reason, while the rest is answered.

    Raises:
        CostModelError: in one line, where none can be answered.
    """
    specs = texts_of("decompose", decompose) if isinstance(decompose, Iterator) else decompose
    questions = _questions(model, hw, calibration, options, ("decompose",))
    return Comparison(answers=tuple(answer_each(questions, lambda setup: _estimated(setup, specs))))


def explore(
    model: Model,
    hw: Hardware,
    *,
    space: SpaceKind = "homogeneous",
    form: Form = "svd",
    ranks: str | int | Iterable[int | str] | None = None,
    rank_multiple: int = 1,
    keep: str | Sequence[str] = (),
    objectives: str | Sequence[str] | None = None,
    limits: str | Sequence[str] = (),
    top: int = 5,
    quality: str | None = None,
    recipe: Specs | None = None,
    calibration: Corrections = "auto",
    **options: Unpack[Options],
) -> ExplorationAnswer:
    """Answer a question about every configuration of a space, as `costmodel explore` does.

    Args:
        model, hw: names, paths, or loaded objects.
        space: one set of tensors and one rank in all chosen layers; a set for each layer; or a rank for each site.
        form: two factors, or three as in the paper.
        ranks: candidates: text as --ranks takes it (`64-512:64`, `25%,50%`), a number, or several of either in a list.
        rank_multiple: ranks are multiples of it; shares of break-even are rounded down to one.
        keep: SPECs of what stays dense, for example `layers=0,31`; a text, or several in a list.
        objectives: names as `costmodel objectives` lists them; the first orders the best.
        limits: for example `saved.latency_p05_pct>=20%`; a text, or several in a list.
        top: how many of the best to list.
        quality: a file, `prior`, `standin:params` or `standin:energy:FILE`; None for the prior as damage alone.
        recipe: a configuration to price beside those that are found, as `estimate` takes it.
        calibration: `auto`, `none`, a file, or a calibration that was loaded.
        options: the workload, as the command's options name it: `batch`, `kv_len`, `stack` and the like.

    Raises:
        CostModelError: in one line.
    """
    _check_kinds({"top": top, "rank_multiple": rank_multiple}, Integral, "a whole number")
    _check_kinds({"quality": quality}, str | None, "a name or a file")
    setup = question_of(model, hw, calibration, options, _EXPLORE).setup()
    if ranks is not None and not isinstance(ranks, str):
        ranks = ",".join(map(str, ranks if isinstance(ranks, Iterable) else [ranks]))
    settings = SpaceSettings(
        space=space, form=form, ranks=ranks, rank_multiple=rank_multiple, keep=texts_of("keep", keep)
    )
    asked = ExploreSettings(
        objectives=None if objectives is None else ",".join(texts_of("objectives", objectives)),
        limits=texts_of("limits", limits),
        top=top,
        quality=quality,
    )
    warn_of_held(setup.model)
    config = None if recipe is None else named_of(recipe, setup.model)
    result = explored(
        settings.of(setup.model),
        setup.hardware,
        setup.workloads,
        asked,
        calibration=setup.calibration,
        new_tokens=setup.new_tokens,
    )
    beside = held_beside(result, quality) if config is None else price_beside(result, config, quality)
    return ExplorationAnswer.of(result, beside)


def recommend(
    model: Model,
    hw: Hardware | Sequence[Hardware],
    *,
    faster: str | float | None = None,
    smaller: str | float | None = None,
    fits: str | float | None = None,
    max_damage: float | None = None,
    quality: str | None = None,
    recipe: Specs | None = None,
    calibration: Corrections = "auto",
    **options: Unpack[Several],
) -> Recommendations:
    """The least damaging configuration that reaches a goal on each device, stack and workload, as `costmodel recommend`
    does: one of faster="20%", smaller="25%", fits="24GB"; a number is percent, or bytes, and refused
    where it may mean a share of 1 or gigabytes (0.2, 24). With `recipe`, a configuration as `estimate` takes it, that
    one alone is judged.

    Raises:
        CostModelError: in one line.
    """
    _check_kinds({"max_damage": max_damage}, Real | None, "a number")
    max_damage = None if max_damage is None else float(max_damage)
    _check_kinds({"quality": quality}, str | None, "a name or a file")
    own = ("faster", "smaller", "fits", "max_damage", "quality", "recipe")
    questions = _questions(model, hw, calibration, options, own)
    goal = Goal.of(faster, smaller, fits)
    warn_of_held(questions[0].model)
    only = None if recipe is None else named_of(recipe, questions[0].model)
    found = recommend_each(questions, goal, max_damage=max_damage, quality=quality, only=only)
    following = (
        next_command(row, questions[at].settings) if isinstance(row, Recommendation) else None for at, row in found
    )
    return Recommendations(answers=tuple(row for _, row in found), following=tuple(following))


def _questions(
    model: Model,
    hw: Hardware | Sequence[Hardware],
    calibration: Corrections,
    options: Several,
    own: Sequence[str],
) -> list[Question]:
    """A question for each combination, in the command's order.

    Raises:
        InputError: when there is none.
    """
    devices = list(hw) if isinstance(hw, list | tuple) else [cast("Hardware", hw)]
    given = cast("dict[str, object]", options)
    lists = {"hw": devices, **{name: _several(given[name]) for name in SEVERAL if name in given}}
    for name, several in lists.items():
        if not several:
            raise InputError(f"no {name}", value="[]", allowed="one or several")
    questions = []
    for device, *row in itertools.product(*lists.values()):
        one = cast("Options", {**given, **dict(zip([*lists][1:], row, strict=True))})
        questions.append(question_of(model, cast("Hardware", device), calibration, one, own))
    return questions


def _check_kinds(values: Mapping[str, object], kind: type | UnionType, allowed: str) -> None:
    """Raise InputError unless all values are of the kind."""
    for name, value in values.items():
        if not isinstance(value, kind):
            raise InputError(f"{name} is of the wrong kind", value=value, allowed=allowed)


def _several(value: object) -> list[object]:
    """A value alone, or the values of a list."""
    return [value] if isinstance(value, str) or not isinstance(value, Iterable) else list(value)


def _given(
    model: Model, hw: Hardware, workloads: tuple[Workload, ...], calibration: Corrections, options: Options
) -> Setup:
    """A question whose passes are objects."""
    if set(options) - {"new_tokens"}:
        raise InputError("workloads say what runs already", value=sorted(options), hint="leave the options out")
    device = hardware_of(hw)
    if not isinstance(calibration, Calibration | None) and workloads:
        work = workloads[0]
        calibration = find_calibration(str(calibration), device, work.dtype, work.runtime, work.stack)
    return Setup(
        model=model_of(model),
        hardware=device,
        workloads=workloads,
        calibration=calibration if isinstance(calibration, Calibration) else None,
        new_tokens=options.get("new_tokens"),
    )
