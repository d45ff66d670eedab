"""How tasks are named: benchmarks of lm-evaluation-harness, their data as local files, and local items. No torch."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import PurePath

BENCHMARKS = {
    "arc_easy": ("arc", ["arc_easy"]),
    "arc_challenge": ("arc", ["arc_challenge"]),
    "hellaswag": ("hellaswag", ["hellaswag"]),
    "mmlu": ("mmlu/default", ["mmlu"]),
    "truthfulqa": ("truthfulqa", ["truthfulqa_mc1", "truthfulqa_mc2"]),
    "winogrande": ("winogrande", ["winogrande"]),
    "gsm8k": ("gsm8k", ["gsm8k"]),
}
"""The paper's six and GSM8K: the folder of lm-evaluation-harness that has them, and its tasks. TruthfulQA by its
multiple-choice variants, of which mc2 scores the probability of true answers rather than one choice."""

_ENDINGS = (".jsonl", ".json", ".jsonl.xz", ".jsonl.gz", ".jsonl.bz2")
_NAMED = re.compile(r"([A-Za-z0-9_][\w.-]*)=(.+)", re.ASCII | re.DOTALL)


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskName:
    """What `--tasks` was given.

    Attributes:
        name: of a benchmark; None for local items, which their file names.
        data: file with the items to judge on; None for those of the hub.
        examples: file with the items that few-shot examples are drawn from; None for no examples, or the hub's.
    """

    name: str | None
    data: str | None = None
    examples: str | None = None

    @property
    def files(self) -> tuple[str, ...]:
        """All that it reads."""
        return tuple(each for each in (self.data, self.examples) if each is not None)


def parse_task(task: str) -> TaskName:
    """`NAME`, `FILE.jsonl`, `NAME=FILE` or `NAME=FILE,EXAMPLES`, told apart by their form alone."""
    if match := _NAMED.fullmatch(task):
        data, _, examples = match[2].partition(",")
        return TaskName(name=match[1], data=data, examples=examples or None)
    if task.endswith(_ENDINGS) or "/" in task:
        return TaskName(name=None, data=task)
    return TaskName(name=task)


def item_name(path: str) -> str:
    """What a task of local items is called: its file, without the endings of its kind."""
    name = PurePath(path)
    return PurePath(name.stem).stem if name.suffix in (".xz", ".gz", ".bz2") else name.stem


def is_file(task: str) -> bool:
    """Whether a task's data are local rather than the hub's."""
    return parse_task(task).data is not None
