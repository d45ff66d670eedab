"""Local tasks: JSON lines of multiple-choice items or of texts with labels, checked before anything is measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from costmodel.errors import InputError
from validate.quality.rows import read_rows

MAX_CHOICES = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class ChoiceItem:
    """A context, what may follow it or fill its blank, and which is right (from 0)."""

    context: str
    choices: tuple[str, ...]
    answer: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelledText:
    """A text and its class: a number, or a name that the model's config knows."""

    text: str
    label: int | str


def read_items(path: str | Path, limit: int | None = None) -> list[ChoiceItem] | list[LabelledText]:
    """Items of a file of JSON lines, all of one kind: `{"context", "choices", "answer"}` or `{"text", "label"}`.

    Other keys are ignored.

    Args:
        limit: read this many, the first ones.

    Raises:
        InputError: naming the first line that is neither, or when there are none.
    """
    choices: list[ChoiceItem] = []
    labelled: list[LabelledText] = []
    for where, line in read_rows(path):
        if limit is not None and len(choices) + len(labelled) == limit:
            break
        if "label" in line:
            labelled.append(_labelled(line, where))
        else:
            choices.append(_choice(line, where))
        if choices and labelled:
            raise InputError(
                f"{where}: another kind of item than those before it",
                value=sorted(line),
                allowed="context, choices, answer; or text, label; in one file alike",
            )
    if not choices and not labelled:
        raise InputError("task without items", value=str(path), allowed="JSON lines with context, choices, answer")
    return choices or labelled


def _choice(line: Mapping[str, Any], where: str) -> ChoiceItem:
    context, choices, answer = (line.get(name) for name in ("context", "choices", "answer"))
    if not isinstance(context, str):
        raise InputError(f"{where}: context is no text", value=context)
    if (
        not isinstance(choices, list)
        or not 2 <= len(choices) <= MAX_CHOICES
        or not all(isinstance(each, str) and each for each in choices)
    ):
        raise InputError(f"{where}: choices is no list of texts", value=choices, allowed="two or more, none empty")
    if type(answer) is not int or not 0 <= answer < len(choices):
        raise InputError(
            f"{where}: answer is not the place of a choice", value=answer, allowed=f"0 to {len(choices) - 1}"
        )
    return ChoiceItem(context=context, choices=tuple(choices), answer=answer)


def _labelled(line: Mapping[str, Any], where: str) -> LabelledText:
    text, label = line.get("text"), line["label"]
    if not isinstance(text, str) or not text:
        raise InputError(f"{where}: text is no text", value=text)
    if isinstance(label, bool) or not isinstance(label, int | str):
        raise InputError(f"{where}: label is no class", value=label, allowed="a number or a name")
    return LabelledText(text=text, label=label)
