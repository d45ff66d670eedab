"""Questions side by side: each is answered as if alone, or refused with its reason in its own place."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from costmodel.decomposition.factors import Decomposition
from costmodel.errors import CostModelError, HardwareError, InputError, ModelError
from costmodel.families.load import load_model
from costmodel.forward.workload import Phase, Runtime
from costmodel.hardware.profile import load_hardware
from costmodel.pricing.comparison import comparison_json
from costmodel.pricing.estimate import Estimate, estimate
from costmodel.pricing.setup import Setup, WorkloadSettings
from costmodel.pricing.several import IMPOSSIBLE, Place, Question, Refusal, answer_each, questions_of
from costmodel.timing.calibration.load import find_calibration
from costmodel.units import DType

MODEL, L4, T4 = load_model("gpt2"), load_hardware("l4"), load_hardware("t4")


def priced(setup: Setup) -> Estimate:
    return estimate(
        setup.model,
        setup.hardware,
        Decomposition(),
        setup.workloads,
        calibration=setup.calibration,
        new_tokens=setup.new_tokens,
    )


def asked(**options: Any) -> Question:
    return Question.of(WorkloadSettings(**{"model": "gpt2", "hw": "l4", **options}))


# --- Questions ------------------------------------------------------------------------------------------------------


def test_a_question_has_what_its_settings_name_unless_it_is_given() -> None:
    settings, model = WorkloadSettings(model="gpt2", hw="l4"), load_model("gpt2")  # others may change the registry
    assert Question.of(settings) == Question(settings=settings, model=model, hardware=L4)
    other = load_model("bert-base")
    assert Question.of(settings, other) == Question(settings=settings, model=other, hardware=L4)
    assert Question.of(settings, hardware=T4) == Question(settings=settings, model=model, hardware=T4)
    assert questions_of([settings, replace(settings, hw="t4")]) == [asked(), asked(hw="t4")]


@pytest.mark.parametrize("wrong", [{"model": "nothing"}, {"hw": "nothing"}, {"stack": "nothing"}, {"batch": 0}])
def test_a_wrong_name_or_number_is_no_question(wrong: dict[str, Any]) -> None:
    with pytest.raises(CostModelError, match=r"got (0|'nothing')"):
        asked(**wrong)


def test_what_is_asked_is_what_the_settings_say_of_the_questions_model_and_device() -> None:
    settings = WorkloadSettings(model="gpt2", hw="nothing", batch=3)
    question = Question.of(settings, hardware=T4)
    assert question.setup() == replace(settings, hw="t4").setup()
    other = find_calibration("auto", load_hardware("a100-sxm-80gb"), DType.BF16, Runtime.EAGER)
    assert other is not None
    given = replace(question, calibration=other)
    assert given.setup() == replace(question.setup(), calibration=other)
    assert question.setup().calibration != other


# --- Refusals -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "places"),
    [
        ({}, [(Phase.PREFILL, 512, 512), (Phase.DECODE, 1, 513)]),
        ({"seq_len": 7}, [(Phase.PREFILL, 7, 7), (Phase.DECODE, 1, 8)]),
        ({"seq_len": 7, "kv_len": 30}, [(Phase.PREFILL, 7, 7), (Phase.DECODE, 1, 30)]),
        ({"phase": "decode", "seq_len": 7}, [(Phase.DECODE, 1, 8)]),
        ({"phase": "prefill"}, [(Phase.PREFILL, 512, 512)]),
        ({"model": "bert-base"}, [(Phase.PREFILL, 512, 512)]),
        ({"model": "bert-base", "phase": "decode"}, [(Phase.PREFILL, 512, 512)]),
    ],
)
def test_a_refusal_says_where_it_was_asked(options: dict[str, Any], places: list[tuple[Phase, int, int]]) -> None:
    """A place for each phase that would have been answered, with the lengths that it would have had."""
    how: dict[str, Any] = {"batch": 2, "stack": "vllm", "tp": 2, "ep": 3, "pp": 4}
    found = asked(**options, **how).refused("why not")
    expected = [Place(phase=phase, q_len=q_len, kv_len=kv_len, **how) for phase, q_len, kv_len in places]
    assert found == Refusal(hardware="l4", places=tuple(expected), text="why not")


@pytest.mark.parametrize("options", [{}, {"seq_len": 7}, {"phase": "decode", "kv_len": 9}, {"model": "bert-base"}])
def test_a_refused_question_stands_where_its_answer_would(options: dict[str, Any]) -> None:
    question = asked(**options, batch=2)
    rows = question.refused("why not").rows(("workload", "verdict", "dense"))
    for work, row in zip(question.setup().workloads, rows, strict=True):
        answered = work.to_json()
        told = {key: answered[key] for key in ("phase", "batch", "q_len", "kv_len")}
        assert row == {
            "workload": {**told, "stack": None, "hardware": "l4"},
            "verdict": {"code": IMPOSSIBLE, "text": "why not"},
            "dense": None,
        }


def test_a_place_names_the_ways_that_share_the_model_out() -> None:
    place = Place(phase=Phase.DECODE, batch=2, q_len=1, kv_len=9, stack="vllm", tp=2, ep=1, pp=3)
    asked_of = {"phase": "decode", "batch": 2, "q_len": 1, "kv_len": 9, "tp": 2, "pp": 3, "stack": "vllm"}
    assert place.to_json() == asked_of
    assert replace(place, tp=1, pp=1, ep=2).to_json() == {
        **{key: value for key, value in asked_of.items() if key not in ("tp", "pp")},
        "ep": 2,
    }
    refusal = Refusal(hardware="l4", places=(place,), text="why not")
    told = {"hardware": "l4", **asked_of, "verdict": IMPOSSIBLE, "verdict_text": "why not"}
    assert refusal.csv_rows() == [told]


# --- Answers --------------------------------------------------------------------------------------------------------


def test_each_question_is_answered_or_refused_in_its_place() -> None:
    questions = [asked(hw="t4", dtype="bf16"), asked(batch=2), asked(stack="vllm", runtime=Runtime.EAGER)]
    numbers: list[int] = []
    found = answer_each(questions, priced, numbers.append)
    assert numbers == [1, 2, 3]
    assert found[1] == priced(questions[1].setup())
    for question, answer in zip(questions[::2], found[::2], strict=True):
        with pytest.raises(CostModelError) as refused:
            question.setup()
        assert answer == question.refused(str(refused.value))
    assert answer_each(questions[1:2], priced) == found[1:2]
    assert answer_each([], priced) == []


def test_where_none_can_be_answered_the_first_reason_is_raised() -> None:
    first, second = asked(hw="t4", dtype="bf16"), asked(phase="prefill", kv_len=3)
    with pytest.raises(HardwareError, match="t4 has no matrix rate"):
        answer_each([first, second], priced)
    with pytest.raises(InputError, match="--kv-len"):
        answer_each([second, first], priced)


def test_an_error_that_is_no_answer_to_the_question_is_not_a_refusal() -> None:
    def broken(setup: Setup) -> None:
        raise ValueError(setup.model.name)

    with pytest.raises(ValueError, match="gpt2"):
        answer_each([asked()], broken)
    with pytest.raises(ModelError, match="never"):
        answer_each([asked()], _never)


def _never(setup: Setup) -> None:
    raise ModelError(f"never {setup.model.name}")


def test_a_comparison_holds_each_answer_in_its_place() -> None:
    """One entry for each phase and request, with its device and stack; what is said of all, once."""
    how: dict[str, Any] = {"phase": "both", "seq_len": 8, "new_tokens": 2}
    questions = [asked(hw="t4", **how), asked(hw="t4", dtype="bf16", **how), asked(stack="vllm", **how)]
    results = answer_each(questions, priced)
    first, refused, last = results
    assert isinstance(first, Estimate)
    assert isinstance(refused, Refusal)
    assert isinstance(last, Estimate)
    one, two = first.to_json(), last.to_json()
    found = comparison_json(results)
    assert found.keys() == one.keys()
    assert (found["schema"], found["model"], found["hardware"]) == (1, "gpt2", ["t4", "l4"])
    assert found["decomposition"] == one["decomposition"]
    placed = [
        {**entry, "workload": {**entry["workload"], "hardware": device, "stack": stack}}
        for answer, device, stack in ((one, "t4", None), (two, "l4", "vllm"))
        for entry in answer["phases"]
    ]
    assert found["phases"] == [*placed[:2], *refused.rows(one["phases"][0]), *placed[2:]]
    assert found["request"] == [
        {"workload": placed[0]["workload"], **one["request"]},
        {"workload": placed[2]["workload"], **two["request"]},
    ]
    assert found["assumptions"] == list(dict.fromkeys([*one["assumptions"], *two["assumptions"]]))
    assert len(found["assumptions"]) < len(one["assumptions"]) + len(two["assumptions"])


def test_a_comparison_warns_once_and_has_no_request_where_none_was_asked_for() -> None:
    questions = [asked(hw=device, phase="prefill", seq_len=2000) for device in ("l4", "t4")]
    found = comparison_json(answer_each([asked(hw="t4", dtype="bf16", phase="prefill"), *questions], priced))
    refused, first, _ = found["phases"]
    assert refused["verdict"]["code"] == IMPOSSIBLE
    assert refused.keys() == first.keys()
    assert found["request"] is None
    assert [text for text in found["warnings"] if "2000 tokens" in text] == [found["warnings"][0]]
