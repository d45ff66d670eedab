"""Which evaluator a task gets: lm-evaluation-harness for causal models, our own for encoders."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from costmodel.errors import InputError
from validate.models.pretrained import Pretrained
from validate.quality.items import ChoiceItem, LabelledText, read_items
from validate.quality.records import TaskRecord
from validate.quality.task_names import is_file


class TaskMeasure(Protocol):
    """Something that a model is asked, loaded once."""

    def measure(self) -> list[TaskRecord]:
        """A record per task, of the model as it is now."""
        ...


def open_tasks(
    pretrained: Pretrained, tasks: Sequence[str], *, batch: int = 8, limit: int | None = None
) -> list[TaskMeasure]:
    """Load tasks.

    Args:
        pretrained: the model, dense.
        tasks: names of benchmarks, and paths of JSON lines.
        batch: items that run together.
        limit: items of each task, the first ones.

    Raises:
        InputError: when a task is unknown, malformed, not for this model, or its data cannot be reached.
    """
    if tasks and pretrained.tokenizer is None:
        raise InputError("checkpoint without a tokenizer", value=str(pretrained.folder), allowed="tokenizer.json")
    names = [task for task in tasks if not is_file(task)]
    choices: dict[str, Sequence[ChoiceItem]] = {}
    found: list[TaskMeasure] = []
    taken: set[str] = set()
    for path in (task for task in tasks if is_file(task)):
        name = Path(path).stem
        if name in taken:
            raise InputError("two tasks of one name", value=path, hint="rename a file")
        taken.add(name)
        items: Sequence[ChoiceItem | LabelledText] = read_items(path, limit)
        if isinstance(items[0], LabelledText):
            from validate.quality.classification import Classification

            labelled = [item for item in items if isinstance(item, LabelledText)]
            found.append(Classification(pretrained, name, labelled, batch=batch))
            continue
        asked = [item for item in items if isinstance(item, ChoiceItem)]
        if pretrained.spec.is_encoder:
            found.append(_cloze(pretrained, name, asked, batch))
        else:
            choices[name] = asked
    if names or choices:
        from validate.quality.harness import Harness, require_causal

        for name in names:
            require_causal(pretrained, name)  # whether the library is there or not
        _require_library()
        found.append(Harness(pretrained, names, choices, batch=batch, limit=limit))
    return found


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
            hint = "install the extra: pip install -c constraints.txt -e '.[validate,quality]' in the checkout"
            raise InputError("a library that tasks need is missing", value=name, hint=hint)
