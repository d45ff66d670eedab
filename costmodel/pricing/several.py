"""Questions side by side: each is answered, or refused with its reason while the others are answered."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from costmodel.errors import CostModelError
from costmodel.families.load import load_model
from costmodel.forward.shares import Shares
from costmodel.forward.workload import Phase
from costmodel.hardware.profile import HardwareProfile, load_hardware
from costmodel.hardware.stack import load_stack
from costmodel.model import ModelSpec
from costmodel.pricing.checks import usual_lengths
from costmodel.pricing.setup import PHASES, Setup, WorkloadSettings
from costmodel.timing.calibration.record import Calibration

T = TypeVar("T")
IMPOSSIBLE = "impossible"
"""The verdict of a question that cannot be answered."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place(Shares):
    """What was asked of a device, as far as it tells one row of a comparison from another; fields as of `Workload`."""

    phase: Phase
    batch: int
    q_len: int
    kv_len: int
    stack: str | None
    tp: int
    ep: int
    pp: int

    def to_json(self) -> dict[str, Any]:
        """The contract's keys of a workload, as far as they were asked."""
        asked = {"phase": self.phase.value, "batch": self.batch, "q_len": self.q_len, "kv_len": self.kv_len}
        ways = {name: size for name, size in self.split.items() if size > 1}
        return {**asked, **ways, "stack": self.stack}


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """A question that cannot be answered: where it was asked, and in one line why not; a place for each phase."""

    hardware: str
    places: tuple[Place, ...]
    text: str

    @property
    def verdict(self) -> dict[str, str]:
        """The contract's verdict."""
        return {"code": IMPOSSIBLE, "text": self.text}

    def csv_rows(self) -> list[dict[str, object]]:
        """A row of a CSV for each place."""
        why = {"verdict": IMPOSSIBLE, "verdict_text": self.text}
        return [{"hardware": self.hardware, **place.to_json(), **why} for place in self.places]

    def rows(self, like: Iterable[str]) -> list[dict[str, Any]]:
        """An entry for each place, with the keys of an answer's entry, of which nothing is known."""
        empty = dict.fromkeys(like)
        return [
            {**empty, "workload": {**place.to_json(), "hardware": self.hardware}, "verdict": self.verdict}
            for place in self.places
        ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """Settings whose names are known; a calibration that is given takes the place of the one that they name."""

    settings: WorkloadSettings
    model: ModelSpec
    hardware: HardwareProfile
    calibration: Calibration | None = None

    @classmethod
    def of(
        cls, settings: WorkloadSettings, model: ModelSpec | None = None, hardware: HardwareProfile | None = None
    ) -> Question:
        """The question that settings ask; a model or device that is given takes the place of its name.

        Raises:
            CostModelError: when a name is unknown or a number out of range.
        """
        settings.require_numbers()
        if settings.stack is not None:
            load_stack(settings.stack)
        return cls(
            settings=settings,
            model=load_model(settings.model) if model is None else model,
            hardware=load_hardware(settings.hw) if hardware is None else hardware,
        )

    def setup(self) -> Setup:
        """What is asked, checked.

        Raises:
            CostModelError: when it cannot be asked of this model and device.
        """
        setup = self.settings.setup(self.model, self.hardware)
        return setup if self.calibration is None else replace(setup, calibration=self.calibration)

    def refused(self, text: str) -> Refusal:
        """This question as one that cannot be answered."""
        asked = self.settings
        prompt, attended = usual_lengths(self.model, asked.seq_len, asked.kv_len)
        how: dict[str, Any] = {name: getattr(asked, name) for name in ("batch", "stack", "tp", "ep", "pp")}
        lengths = {Phase.PREFILL: (prompt, prompt), Phase.DECODE: (1, attended)}
        phases = [phase for phase in lengths if asked.phase in (phase.value, PHASES[-1])]
        if not self.model.generates:
            phases = [Phase.PREFILL]
        places = [Place(phase=phase, q_len=lengths[phase][0], kv_len=lengths[phase][1], **how) for phase in phases]
        return Refusal(hardware=self.hardware.name, places=tuple(places), text=text)


def questions_of(asked: Iterable[WorkloadSettings]) -> list[Question]:
    """The questions that settings ask. Errors as of `Question.of`."""
    return [Question.of(settings) for settings in asked]


def answer_each(
    questions: Sequence[Question], answer: Callable[[Setup], T], begin: Callable[[int], None] | None = None
) -> list[T | Refusal]:
    """The answer of each question in order, or why there is none; `begin` is told the number of each, from 1, before it
    is answered.

    Raises:
        CostModelError: of the first question, where none can be answered.
    """
    found: list[T | Refusal] = []
    errors = []
    for number, question in enumerate(questions, 1):
        if begin is not None:
            begin(number)
        try:
            found.append(answer(question.setup()))
        except CostModelError as error:
            errors.append(error)
            found.append(question.refused(str(error)))
    if errors and len(errors) == len(found):
        raise errors[0]
    return found
