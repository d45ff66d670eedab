"""Plain items - a question, choices, the place of the right one - as rows that a task of lm-evaluation-harness reads.

A task's templates name the columns of one data set of the hub. Where a local file lacks them, its own `question` (or
`query`), `choices` and `gold` take their places; what the templates say around them stays.
"""

from __future__ import annotations

import re
import string
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

Row = Mapping[str, Any]

_LETTERED = re.compile(r"choices(\.|\[['\"])(text|label)\b")
_QUESTIONS = ("question", "query", "context", "text")
_ANSWERS = ("gold", "label", "answer")


def bind_rows(task: Any, rows: Sequence[Row]) -> list[dict[str, Any]]:
    """The rows with the columns that a task's prompts name, as far as theirs can stand for them; the task's templates
    are changed where a column cannot: choices become those of the file, and targets the file's.

    Args:
        task: lm-evaluation-harness's, while it is being made.
        rows: at least one.

    Raises:
        ValueError: naming the first item whose question is no text or whose right choice is none of them.
    """
    for place, row in enumerate(rows):
        _require_plain(row, place)
    config = task.config
    columns = _NAMED_ROWS.get(str(config.dataset_path).rpartition("/")[2])
    found = [dict(row) for row in rows]
    if columns is not None:
        return [{**row, **columns(row)} if "gold" in row and "choices" in row else row for row in found]
    _set(task, process_docs=None)  # makes these columns out of the hub's
    if any(_LETTERED.search(each) for each in _templates(config)) and isinstance(found[0].get("choices"), list):
        found = [_lettered(row) for row in found]
    fields = set(found[0])
    _bind_text(task, found, fields)
    fields = set(found[0])
    if _lacking(config.doc_to_choice, fields) and "choices" in fields:
        _set(task, doc_to_choice="choices", doc_to_target="gold")
    elif _lacking(config.doc_to_target, fields):
        _set(task, doc_to_target=next((name for name in _ANSWERS if name in fields), config.doc_to_target))
    return found


def is_place(value: object, choices: Sequence[object]) -> bool:
    """Whether a value is the place of a choice, from 0: neither true nor counted from the end."""
    return type(value) is int and 0 <= value < len(choices)


def _require_plain(row: Row, place: int) -> None:
    """Raise where templates would take what is there for something else: nothing for the word None, -1 for the last."""
    for name in _QUESTIONS:
        if name in row and not isinstance(row[name], str):
            raise ValueError(f"item {place}: {name} is no text")
    if "choices" not in row or "gold" not in row:
        return
    choices = row["choices"]
    if not isinstance(choices, list) or not all(isinstance(each, str) for each in choices):
        raise ValueError(f"item {place}: choices are no list of texts")
    if not is_place(row["gold"], choices):
        raise ValueError(f"item {place}: gold is none of {len(choices)} choices, counted from 0")


def _bind_text(task: Any, rows: list[dict[str, Any]], fields: set[str]) -> None:
    text = task.config.doc_to_text
    lacking = _lacking(text, fields)
    asked = next((name for name in _QUESTIONS if name in fields), None)
    if not lacking or asked is None:
        return
    if len(lacking) == 1 and asked not in _variables(text):
        (name,) = lacking
        for row in rows:
            row[name] = row[asked]
    elif "query" in fields:
        _set(task, doc_to_text="{{query}}")


def _set(task: Any, **values: Any) -> None:
    """Change the templates of a task and of its examples."""
    for key, value in values.items():
        if getattr(task.fewshot_cfg, key) == getattr(task.config, key):
            setattr(task.fewshot_cfg, key, value)
        setattr(task.config, key, value)


def _templates(config: Any) -> list[str]:
    parts = (config.doc_to_text, config.doc_to_choice, config.doc_to_target)
    return [each for each in parts if isinstance(each, str)]


def _variables(template: Any) -> set[str]:
    """Columns that a template names; a bare word is a column."""
    if not isinstance(template, str):
        return set()
    if template.isidentifier():
        return {template}
    from jinja2 import meta
    from lm_eval.utils import env

    return set(meta.find_undeclared_variables(env.parse(template)))


def _lacking(template: Any, fields: Iterable[str]) -> set[str]:
    return _variables(template) - set(fields)


def _lettered(row: Row) -> dict[str, Any]:
    """As ARC, OpenBookQA and CommonsenseQA have them: texts beside labels, and the label of the right one."""
    choices = row["choices"]
    labels = row.get("labels") or list(string.ascii_uppercase[: len(choices)])
    key = {"answerKey": labels[row["gold"]]} if isinstance(row.get("gold"), int) else {}
    return {**row, "choices": {"text": choices, "label": labels}, **key}


def _winogrande(row: Row) -> Row:
    first, second = row["choices"]
    return {"sentence": row["question"], "option1": first, "option2": second, "answer": str(row["gold"] + 1)}


def _truthful(row: Row) -> Row:
    choices = list(row["choices"])
    choices.insert(0, choices.pop(row["gold"]))  # the hub has the right one first
    found: dict[str, Any] = {"mc1_targets": {"choices": choices, "labels": [1] + [0] * (len(choices) - 1)}}
    if "mc2_choices" in row:
        found["mc2_targets"] = {"choices": row["mc2_choices"], "labels": row["mc2_labels"]}
    return found


def _super_glue(row: Row) -> Row:
    named = {f"choice{place}": choice for place, choice in enumerate(row["choices"], start=1)}
    return {**named, "label": row["gold"]}


_NAMED_ROWS: Mapping[str, Callable[[Row], Row]] = {
    "winogrande": _winogrande,
    "truthful_qa": _truthful,
    "super_glue": _super_glue,
}
"""By data set: columns of those whose prompts are functions, or that hold lists within lists."""
