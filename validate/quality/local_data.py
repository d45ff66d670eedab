"""Benchmarks of lm-evaluation-harness on local files: its own prompts, metrics and few-shot, without the hub's data.

The one method that fetches data is exchanged while a task is made, so that all else of the task is untouched: rows that
are those of the hub give the requests of the hub's task.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from costmodel.errors import InputError
from validate.errors import reason_of
from validate.quality.plain_rows import Row, bind_rows, is_place
from validate.quality.rows import read_rows
from validate.quality.task_names import TaskName

Form = Callable[[Any, Sequence[Row]], Sequence[Row]]
"""From a task that is being made and rows of a file to rows that it reads."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalData:
    """Rows of a benchmark's files.

    Attributes:
        where: the files, for messages.
        rows: to judge on, at least one.
        examples: that few-shot examples are drawn from; none for a task without examples.
    """

    where: str
    rows: Sequence[Row]
    examples: Sequence[Row] = ()

    @classmethod
    def read(cls, task: TaskName) -> LocalData:
        """The rows of the files that a task names.

        Raises:
            InputError: when one cannot be read or has no rows.
        """
        parts = [[row for _, row in read_rows(path)] for path in task.files]
        for path, rows in zip(task.files, parts, strict=True):
            if not rows:
                raise InputError("task without items", value=path, allowed="JSON lines")
        return cls(where=",".join(task.files), rows=parts[0], examples=parts[1] if len(parts) > 1 else ())


def load_local_data(
    load: Callable[[], Mapping[str, Any]], name: str, data: LocalData, shots: int | None = None
) -> Mapping[str, Any]:
    """The harness's tasks with the rows in place of the hub's.

    Rows are taken as they are where the task reads them so, else as plain items (see `plain_rows`). Of a benchmark in
    parts, such as MMLU's subjects, each part gets the rows whose `subject` is its own ("High School Biology" is
    high_school_biology), and those without any are left out.

    Args:
        load: makes the tasks.
        name: what was asked for, for messages.
        shots: few-shot examples; None for as many as the task has, 0 where the file of examples is missing.

    Raises:
        InputError: when the task reads the rows in neither way, or has parts and no row is of any of them.
    """
    reasons = []
    for form in (_as_they_are, bind_rows):
        filling = _Filling(data, form, shots)
        try:
            with filling.active():
                loaded = load()
            tasks = filling.kept(loaded["tasks"])
            for task in tasks.values():
                _check(task)
        except InputError:
            raise
        except Exception as error:  # templates and functions of hundreds of tasks, over columns of any kind
            reasons.append(reason_of(error, 120))
            continue
        return {**loaded, "tasks": tasks}
    hint = f"as columns of its data set: {reasons[0]}; as question, choices and gold: {reasons[1]}"
    raise InputError(f"{name} cannot read {data.where}", value=sorted(data.rows[0])[:12], hint=hint)


class _Filling:
    """Gives the tasks that are made while it is active the rows of a file."""

    def __init__(self, data: LocalData, form: Form, shots: int | None) -> None:
        self._data, self._form, self._shots = data, form, shots
        self._subjects = {subject for row in data.rows if (subject := _spelled(row.get("subject")))}
        self._own: set[str] = set()

    @contextmanager
    def active(self) -> Iterator[None]:
        """While it lasts, no task fetches anything."""
        from lm_eval.api.task import ConfigurableTask

        def fill(task: Any, *_: Any, **__: Any) -> None:
            self._fill(task)

        fetch = ConfigurableTask.download
        ConfigurableTask.download = fill
        try:
            yield
        finally:
            ConfigurableTask.download = fetch

    def kept(self, tasks: Mapping[str, Any]) -> dict[str, Any]:
        """The tasks that have rows of their own; all where they are not parts of one data set.

        Raises:
            InputError: when they are, and no row is of any of them.
        """
        own = {name: task for name, task in tasks.items() if task.config.task in self._own}
        parts = sorted({str(task.config.dataset_name) for task in tasks.values()})
        if own or len(parts) < 2:
            return own or dict(tasks)
        value = sorted(self._subjects)[:3] or "no subject"
        allowed = f"in each row, subject: one of {', '.join(parts[:3])}{', ...' if parts[3:] else ''}"
        raise InputError(f"{self._data.where}: rows of none of the {len(parts)} parts", value=value, allowed=allowed)

    def _fill(self, task: Any) -> None:
        import datasets

        config = task.config
        judged = config.test_split or config.validation_split
        if judged is None:
            raise ValueError("the task has no split to judge on")
        rows, examples = self._part(task, self._data.rows), self._part(task, self._data.examples)
        splits = {judged: rows}
        shown = task.fewshot_cfg.split or config.training_split or config.validation_split
        if examples:
            splits |= dict.fromkeys({shown, config.training_split, config.validation_split} - {None, judged}, examples)
            if shown in (None, judged):
                raise InputError(f"{config.task} takes its examples from the items themselves", value=self._data.where)
        else:
            _leave_out(task, judged)
        if self._shots is not None:
            config.num_fewshot = self._shots
        if config.num_fewshot and not examples and shown != judged and not task.fewshot_cfg.samples:
            if self._shots:
                allowed = "NAME=FILE,EXAMPLES"
                raise InputError(f"{config.task}: examples without a file of them", value=self._shots, allowed=allowed)
            config.num_fewshot = 0
        made = {split: self._form(task, part) for split, part in splits.items()}
        task.dataset = {split: datasets.Dataset.from_list(list(map(dict, part))) for split, part in made.items()}

    def _part(self, task: Any, rows: Sequence[Row]) -> Sequence[Row]:
        """The rows of a task's own subject; all of them where there are no subjects, or none is its own."""
        subject = _spelled(task.config.dataset_name)
        if subject not in self._subjects:
            return rows
        self._own.add(task.config.task)
        return [row for row in rows if _spelled(row.get("subject")) == subject]


def _spelled(subject: object) -> str | None:
    """A subject as data sets spell it; None where it is no text."""
    return "_".join(subject.casefold().split()) if isinstance(subject, str) else None


def _leave_out(task: Any, judged: str) -> None:
    """Take from a task the splits that a file lacks."""
    for key in ("training_split", "validation_split", "fewshot_split"):
        if getattr(task.config, key) not in (None, judged):
            setattr(task.config, key, None)
    if task.fewshot_cfg.split not in (None, judged):
        task.fewshot_cfg.split = None


def _as_they_are(_: Any, rows: Sequence[Row]) -> Sequence[Row]:
    return rows


def _check(task: Any) -> None:
    """Raise where a template would be printed rather than filled, or an item has no right choice.

    A bare word in a template is a column, and the word itself where there is no such column: without this check, items
    of another layout would be asked nonsense.
    """
    for key in ("doc_to_text", "doc_to_choice", "doc_to_target"):
        template = getattr(task.config, key)
        if isinstance(template, str) and template.isidentifier() and template not in task.features:
            raise ValueError(f"no column {template}")
    multiple = task.OUTPUT_TYPE == "multiple_choice"
    for place, doc in enumerate(task.task_docs):
        text, target = task.doc_to_text(doc), task.doc_to_target(doc)
        if not multiple:
            if not isinstance(text, str) or target is None:
                raise ValueError(f"item {place} has no text, or no answer")
            continue
        choices = task.doc_to_choice(doc)
        if not isinstance(choices, list) or not all(isinstance(each, str) for each in choices):
            raise ValueError(f"item {place}: choices are no list of texts")
        right = [text] if isinstance(text, int) else target if isinstance(target, list) else [target]
        if not all(each in choices if isinstance(each, str) else is_place(each, choices) for each in right):
            raise ValueError(f"item {place}: the right choice is none of {len(choices)}")
