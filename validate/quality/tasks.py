"""Which evaluator a task gets: lm-evaluation-harness for causal models, our own for encoders."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from typing import Protocol

from costmodel.errors import InputError
from validate.models.pretrained import Pretrained
from validate.models.tokenizers import require_tokenizer
from validate.quality.harness import Harness, require_causal
from validate.quality.items import ChoiceItem, LabelledText, read_items
from validate.quality.local_data import LocalData
from validate.quality.records import TaskRecord
from validate.quality.rows import read_rows
from validate.quality.similarity import Similarity, is_pair, read_pairs
from validate.quality.task_names import item_name, parse_task


class TaskMeasure(Protocol):
    """Something that a model is asked, loaded once."""

    def measure(self) -> list[TaskRecord]:
        """A record per task, of the model as it is now."""
        ...


def open_tasks(
    pretrained: Pretrained,
    tasks: Sequence[str],
    *,
    batch: int = 8,
    limit: int | None = None,
    shots: int | None = None,
) -> list[TaskMeasure]:
    """Load tasks.

    Args:
        pretrained: the model, dense.
        tasks: names of benchmarks, with files of their data or without, and paths of JSON lines.
        batch: items that run together.
        limit: items of each task, the first ones.
        shots: few-shot examples of benchmarks; None for as many as each has.

    Raises:
        InputError: when a task is unknown, malformed, not for this model, or its data cannot be reached.
    """
    if tasks:
        require_tokenizer(pretrained.tokenizer, pretrained.folder)
    names: list[str] = []
    data: dict[str, LocalData] = {}
    choices: dict[str, Sequence[ChoiceItem]] = {}
    found: list[TaskMeasure] = []
    taken: set[str] = set()
    for task in map(parse_task, tasks):
        name = task.name or item_name(str(task.data))
        if name in taken:
            raise InputError("two tasks of one name", value=name, hint="rename a file")
        taken.add(name)
        if task.data is not None and _holds_pairs(task.data):
            found.append(Similarity(pretrained, name, read_pairs(task.data, limit), batch=batch))
        elif task.name is not None:
            require_causal(pretrained, name)  # whether the library is there or not
            names.append(name)
            if task.data is not None:
                data[name] = LocalData.read(task)
        else:
            items: Sequence[ChoiceItem | LabelledText] = read_items(str(task.data), limit)
            measured = _own(pretrained, name, items, batch)
            if measured is not None:
                found.append(measured)
            else:
                choices[name] = [item for item in items if isinstance(item, ChoiceItem)]
    if names or choices:
        _require_library()
        found.append(Harness(pretrained, names, choices, batch=batch, limit=limit, data=data, shots=shots))
    return found


def _holds_pairs(path: str) -> bool:
    """Whether a file's first row is a scored pair of sentences."""
    return next((is_pair(row) for _, row in read_rows(path)), False)


def _own(
    pretrained: Pretrained, name: str, items: Sequence[ChoiceItem | LabelledText], batch: int
) -> TaskMeasure | None:
    """What asks local items without the harness; None where the harness does."""
    if isinstance(items[0], LabelledText):
        from validate.quality.classification import Classification

        labelled = [item for item in items if isinstance(item, LabelledText)]
        return Classification(pretrained, name, labelled, batch=batch)
    asked = [item for item in items if isinstance(item, ChoiceItem)]
    return _cloze(pretrained, name, asked, batch) if pretrained.spec.is_encoder else None


def _cloze(pretrained: Pretrained, name: str, items: Sequence[ChoiceItem], batch: int) -> TaskMeasure:
    from validate.quality.cloze import Cloze

    if not type(pretrained.model).__name__.endswith("ForMaskedLM"):
        raise InputError(
            f"{name}: blanks need a masked LM", value=type(pretrained.model).__name__, allowed="...ForMaskedLM"
        )
    return Cloze(pretrained, name, items, batch=batch)


def _require_library() -> None:
    """Raise InputError with the extra's name where lm-evaluation-harness cannot be imported."""
    for name in ("lm_eval", "accelerate"):
        if importlib.util.find_spec(name) is None:
            hint = "install the extra: pip install -c constraints.txt '.[validate,quality]' in the checkout"
            raise InputError("a library that tasks need is missing", value=name, hint=hint)
