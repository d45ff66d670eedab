"""Tasks through lm-evaluation-harness, in memory: benchmarks by name, with data of the hub or of local files, and local
multiple-choice items."""

from __future__ import annotations

import hashlib
import json
import logging
import random
import tempfile
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from costmodel.errors import InputError, nearest
from validate.errors import reason_of
from validate.models.pretrained import Pretrained
from validate.quality.answers import choice_fields, compact
from validate.quality.items import ChoiceItem
from validate.quality.local_data import LocalData, load_local_data
from validate.quality.records import TaskRecord
from validate.quality.task_names import BENCHMARKS

SEED = 1234
"""Of few-shot examples; the harness's own default."""


def require_causal(pretrained: Pretrained, task: str) -> None:
    """Raise InputError for an encoder, which the harness would score without an error, and wrongly: it reads the
    prediction of the next token at places where a masked LM predicts the token that it sees."""
    if pretrained.spec.is_encoder:
        raise InputError(
            f"{pretrained.spec.name} is an encoder, which lm-evaluation-harness scores wrongly without an error",
            value=task,
            allowed='a JSONL file with one [MASK] in each context, or with "text" and "label"',
        )


class Harness:
    """Some tasks, loaded once; each `measure` runs them on the model as it is then.

    Args:
        pretrained: a causal model with a tokenizer.
        names: benchmarks; see BENCHMARKS, or any other task of the harness.
        local: items by task name.
        batch: items that run together.
        limit: items of each benchmark, the first ones.
        data: of benchmarks that are not fetched, by name.
        shots: few-shot examples; None for the harness's numbers.

    Raises:
        InputError: when a task is unknown, its data cannot be reached, the model is an encoder, lacks a token or is too
            short for answers.
    """

    def __init__(
        self,
        pretrained: Pretrained,
        names: Sequence[str],
        local: Mapping[str, Sequence[ChoiceItem]],
        *,
        batch: int,
        limit: int | None = None,
        data: Mapping[str, LocalData] | None = None,
        shots: int | None = None,
    ) -> None:
        for name in [*names, *local]:
            require_causal(pretrained, name)
        _quieten()
        from validate.quality.shared_context import SharedContextLM

        self._limit = limit
        self._groups: dict[str, str] = {}
        self._tasks: dict[str, Any] = {"tasks": {}, "groups": {}, "group_map": {}}
        for name in names:
            self._add(name, _load(name, (data or {}).get(name), shots))
        for name, items in local.items():
            self._add(name, _load_local(name, items))
        windows = [window for window in pretrained.spec.sliding_windows if window is not None]
        self._lm = SharedContextLM(pretrained, batch=batch, shared=not windows)
        for name, task in self._tasks["tasks"].items():
            self._require_room(name, task)
        for name, items in local.items():
            for place, item in enumerate(items):
                self._lm.require_known(item, f"{name}, item {place},")

    def measure(self) -> list[TaskRecord]:
        """A record per task.

        Raises:
            MeasurementError: when a likelihood is not finite.
            InputError: when no item of a task can be scored, or a token is none of the model's.
        """
        from lm_eval.evaluator import evaluate

        random.seed(0)
        np.random.seed(SEED)
        torch.manual_seed(SEED)
        for task in self._tasks["tasks"].values():
            task.set_fewshot_seed(SEED)  # its state moves with use: every candidate must get the same examples
        found = evaluate(self._lm, self._tasks, limit=self._limit, bootstrap_iters=0, log_samples=True)
        return [self._record(name, found["samples"][name]) for name in self._tasks["tasks"]]

    def _add(self, group: str, loaded: Mapping[str, Any]) -> None:
        for name, task in loaded["tasks"].items():
            if name in self._groups:
                raise InputError("task given twice", value=name, hint="choose one, or rename the file")
            if task.get_config("num_fewshot") is None:
                task.set_config(key="num_fewshot", value=0)
            self._groups[name] = group
            self._tasks["tasks"][name] = task

    def _require_room(self, name: str, task: Any) -> None:
        """Raise InputError where a task's answers leave no room for its questions."""
        if task.OUTPUT_TYPE != "generate_until":
            return
        asked, longest = task.config.generation_kwargs or {}, self._lm.max_length
        tokens = asked.get("max_gen_toks", self._lm.max_gen_toks)
        if tokens >= longest:
            allowed = f"fewer than the model's {longest} positions"
            raise InputError(f"{name} generates up to so many tokens", value=tokens, allowed=allowed)

    def _record(self, name: str, samples: list[dict[str, Any]]) -> TaskRecord:
        multiple = self._tasks["tasks"][name].OUTPUT_TYPE == "multiple_choice"
        bad = {sample["doc_id"] for sample in samples if self._is_unscored(sample)}
        samples = [sample for sample in samples if sample["doc_id"] not in bad]
        if not samples:
            allowed = "choices with a token of their own behind the context, that the model takes"
            raise InputError("task without an item that can be scored", value=name, allowed=allowed)
        first = samples[0]["filter"]
        items = [sample for sample in samples if sample["filter"] == first]  # GSM8K has an entry per filter
        metrics: dict[str, str | list[float]] = {}
        for filtered in dict.fromkeys(sample["filter"] for sample in samples):
            suffix = "" if filtered == "none" else f",{filtered}"
            for metric in samples[0]["metrics"]:
                values = [sample[metric] for sample in samples if sample["filter"] == filtered]
                if all(isinstance(value, int | float | np.number) for value in values):
                    metrics[f"{metric}{suffix}"] = compact([float(value) for value in values], name)
        if not metrics:
            raise InputError("task without a number per item", value=name, hint="statistics could not be paired")
        record: dict[str, Any] = {}
        if multiple:
            likelihoods = [[float(pair[0]) for pair in sample["filtered_resps"]] for sample in items]
            record = choice_fields(likelihoods, [sample["target"] for sample in items], name)
            if any(not isinstance(values, str) for values in metrics.values()):
                record["chance"] = None  # not a share of right answers
        prompts = [[list(map(str, pair)) for pair in sample["arguments"]] for sample in items]
        return TaskRecord(
            name=name,
            group=self._groups[name],
            kind="multiple-choice" if multiple else "generation",
            items=len(items),
            prompts=hashlib.sha256(json.dumps(prompts).encode()).hexdigest()[:16],
            metrics=metrics,
            left_out=sorted(bad) or None,
            **record,
        )

    def _is_unscored(self, sample: Mapping[str, Any]) -> bool:
        """Whether a choice of an item has no likelihood: it merges into its context, say."""
        return any(tuple(map(str, pair)) in self._lm.unscored for pair in sample["arguments"])


def _load(name: str, data: LocalData | None, shots: int | None) -> Mapping[str, Any]:
    """The harness's tasks of a name, their data fetched, from the cache, or those given."""
    import lm_eval.tasks

    folder, tasks = BENCHMARKS.get(name, (None, [name]))
    if folder is None:
        manager = lm_eval.tasks.TaskManager()  # reads thousands of files: seconds
    else:
        path = Path(lm_eval.tasks.__file__).parent / folder
        manager = lm_eval.tasks.TaskManager(include_defaults=False, include_path=str(path))
    unknown = [each for each in tasks if each not in manager.all_tasks]
    if unknown:
        raise InputError(
            "unknown task",
            value=name,
            allowed=f"a JSONL file, {', '.join(BENCHMARKS)}, or any other of lm-evaluation-harness",
            hint=nearest(name, manager.all_tasks),
        )
    if data is not None:
        return load_local_data(lambda: manager.load(tasks), name, data, shots)
    try:
        loaded: dict[str, Any] = manager.load(tasks)
    except Exception as error:  # no network, an offline switch, a data set that moved: many kinds
        hint = f"{reason_of(error, 160)}; without a network give a local JSONL file, as {name}=FILE"
        raise InputError("the task's data cannot be reached", value=name, hint=hint) from error
    if shots is not None:
        for task in loaded["tasks"].values():
            task.set_config(key="num_fewshot", value=shots)
    return loaded


def _load_local(name: str, items: Sequence[ChoiceItem]) -> dict[str, Any]:
    """The items as a task of the harness, read back from a file of its own by its own loader."""
    import lm_eval.tasks

    rows = [{"context": item.context, "choices": list(item.choices), "answer": item.answer} for item in items]
    config: dict[str, Any] = {
        "task": name,
        "dataset_path": "json",
        "test_split": "test",
        "output_type": "multiple_choice",
        "doc_to_text": lambda item: item["context"],
        "doc_to_choice": lambda item: item["choices"],
        "doc_to_target": lambda item: item["answer"],
        "target_delimiter": "",  # choices are appended as they are
        "metric_list": [
            {"metric": metric, "aggregation": "mean", "higher_is_better": True} for metric in ("acc", "acc_norm")
        ],
    }
    with tempfile.TemporaryDirectory(prefix="quality-") as scratch:
        path = Path(scratch) / "items.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        config["dataset_kwargs"] = {"data_files": {"test": str(path)}, "cache_dir": scratch, "keep_in_memory": True}
        loaded: dict[str, Any] = lm_eval.tasks.TaskManager(include_defaults=False).load([config])
    return loaded


def _quieten() -> None:
    """Leave stderr to our own progress bar and errors, and tell no server of what is read from a local file.

    The harness's bars of requests have no switch, and tqdm reads its own when it is first imported: the name that the
    harness calls is bound to a silent one.
    """
    import datasets
    import lm_eval.api.task
    import tqdm

    datasets.disable_progress_bars()
    datasets.config.HF_UPDATE_DOWNLOAD_COUNTS = False
    lm_eval.api.task.tqdm = partial(tqdm.tqdm, disable=True)
    for name in ("lm_eval", "datasets", "accelerate"):
        logging.getLogger(name).setLevel(logging.ERROR)
