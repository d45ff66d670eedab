"""Benchmarks on local files: the same requests as the hub's task, few-shot, subjects, and what cannot be read."""

from __future__ import annotations

import json
import lzma
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")
pytest.importorskip("lm_eval", reason="the extra `quality` is not installed")
pytest.importorskip("accelerate", reason="the extra `quality` is not installed")

import datasets
from quality_cases import BERT, checkpoint, opened, write_lines

from costmodel.errors import InputError
from validate.quality import harness
from validate.quality.local_data import LocalData
from validate.quality.task_names import TaskName, item_name, parse_task
from validate.quality.tasks import open_tasks

Rows = list[dict[str, Any]]
QUESTIONS = ["What is  one?", " Who is two? ", "Which is three?", "Where is four?"]
CHOICES = [["a one", "b", "c", "d"], ["e", "f", "g two", "h"], ["i", "j", "k", "l"], ["m", "n", "o", "p"]]
PLAIN: Rows = [
    {"id": str(place), "question": question, "choices": choices, "gold": place % 4}
    for place, (question, choices) in enumerate(zip(QUESTIONS, CHOICES, strict=True))
]
LETTERS = ["A", "B", "C", "D"]


def lettered(name: str) -> Rows:
    return [
        {
            "id": row["id"],
            name: row["question"],
            "choices": {"text": row["choices"], "label": LETTERS},
            "answerKey": LETTERS[row["gold"]],
        }
        for row in PLAIN
    ]


BLANKS: Rows = [
    {"id": "0", "question": "Ann saw Eve since _ was near.", "choices": ["Ann", "Eve"], "gold": 1},
    {"id": "1", "question": "The cup was less than the jug: _ was small.", "choices": ["cup", "jug"], "gold": 0},
]
TRUE: Rows = [{**row, "gold": 0, "mc2_choices": ["yes", "no", "maybe"], "mc2_labels": [1, 1, 0]} for row in PLAIN]
ENDINGS: Rows = [
    {"id": row["id"], "query": f"Walking: A man goes. He {row['id']}", "choices": row["choices"], "gold": row["gold"]}
    for row in PLAIN
]
SUMS: Rows = [{"question": f"What is {n} + 1?", "answer": f"It is {n + 1}.\n#### {n + 1}"} for n in range(9)]

STAND_INS: dict[str, tuple[str, list[str], Rows, dict[str, Rows]]] = {
    "arc_easy": ("arc", ["arc_easy"], PLAIN, {"test": lettered("question")}),
    "openbookqa": ("openbookqa", ["openbookqa"], PLAIN, {"test": lettered("question_stem")}),
    "piqa": (
        "piqa",
        ["piqa"],
        [{**row, "choices": row["choices"][:2], "gold": row["gold"] % 2} for row in PLAIN],
        {
            "validation": [
                {
                    "goal": row["question"],
                    "sol1": row["choices"][0],
                    "sol2": row["choices"][1],
                    "label": row["gold"] % 2,
                }
                for row in PLAIN
            ]
        },
    ),
    "sciq": (
        "sciq",
        ["sciq"],
        [{**row, "support": " Some text.", "gold": 3} for row in PLAIN],
        {
            "test": [
                {
                    "question": row["question"],
                    "support": " Some text.",
                    **{f"distractor{n}": row["choices"][n - 1] for n in (1, 2, 3)},
                    "correct_answer": row["choices"][3],
                }
                for row in PLAIN
            ]
        },
    ),
    "boolq": (
        "super_glue/boolq",
        ["boolq"],
        [{"passage": "It is.", "question": "is it", "choices": ["no", "yes"], "gold": gold} for gold in (1, 0)],
        {"validation": [{"passage": "It is.", "question": "is it", "label": gold} for gold in (1, 0)]},
    ),
    "winogrande": (
        "winogrande",
        ["winogrande"],
        BLANKS,
        {
            "validation": [
                {
                    "sentence": row["question"],
                    "option1": row["choices"][0],
                    "option2": row["choices"][1],
                    "answer": str(row["gold"] + 1),
                }
                for row in BLANKS
            ]
        },
    ),
    "hellaswag": (
        "hellaswag",
        ["hellaswag"],
        ENDINGS,
        {
            "validation": [
                {
                    "activity_label": "Walking",
                    "ctx_a": "A man goes.",
                    "ctx_b": f"he {row['id']}",
                    "endings": row["choices"],
                    "label": str(row["gold"]),
                }
                for row in ENDINGS
            ]
        },
    ),
    "truthfulqa": (
        "truthfulqa",
        ["truthfulqa_mc1", "truthfulqa_mc2"],
        TRUE,
        {
            "validation": [
                {
                    "question": row["question"],
                    "mc1_targets": {"choices": row["choices"], "labels": [1, 0, 0, 0]},
                    "mc2_targets": {"choices": row["mc2_choices"], "labels": row["mc2_labels"]},
                }
                for row in TRUE
            ]
        },
    ),
    "mmlu": (
        "mmlu/default",
        ["mmlu_anatomy", "mmlu_virology"],
        [{**row, "subject": subject} for subject in ("anatomy", "virology") for row in PLAIN],
        {
            "test": [{**row, "answer": row["gold"]} for row in PLAIN],
            "dev": [{**row, "answer": row["gold"]} for row in reversed(PLAIN)],
        },
    ),
    "gsm8k": ("gsm8k", ["gsm8k"], SUMS[:3], {"test": SUMS[:3], "train": SUMS[3:]}),
}


def requests(tasks: Mapping[str, Any]) -> dict[str, list[Any]]:
    """What each task asks, in the order of its items."""
    found: dict[str, list[Any]] = {}
    for name, task in tasks.items():
        task.set_fewshot_seed(harness.SEED)
        if task.get_config("num_fewshot") is None:
            task.set_config(key="num_fewshot", value=0)
        task.build_all_requests(limit=None, rank=0, world_size=1)
        found[name] = [(each.arguments, each.doc_id) for each in task.instances]
    return found


def targets(tasks: Mapping[str, Any]) -> dict[str, list[Any]]:
    return {name: [task.doc_to_target(doc) for doc in task.task_docs] for name, task in tasks.items()}


def files(name: str, folder: Path, examples: bool) -> TaskName:
    rows, hub = STAND_INS[name][2:]
    path = folder / "items.jsonl.xz"
    path.write_bytes(lzma.compress("".join(json.dumps(row) + "\n" for row in rows).encode()))
    shown = hub.get("train") or hub.get("dev")
    if not examples or shown is None:
        return TaskName(name=name, data=str(path))
    if name == "mmlu":
        shown = [{**row, "subject": subject} for subject in ("anatomy", "virology") for row in shown]
    return TaskName(name=name, data=str(path), examples=str(write_lines(folder / "examples.jsonl", shown)))


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each benchmark's data, small, in place of the hub's; and its folder, so that no other is read."""
    kept = {name: (folder, tasks) for name, (folder, tasks, _, _) in STAND_INS.items()}
    monkeypatch.setattr(harness, "BENCHMARKS", kept)
    known = {"ai2_arc": "arc_easy", "super_glue": "boolq", "truthful_qa": "truthfulqa"}

    def load_dataset(path: str, name: str | None = None, **_: Any) -> Any:
        short = path.rpartition("/")[2]
        splits = STAND_INS[known.get(short, short)][3]
        first = next(iter(splits.values()))
        names = ("train", "validation", "test", "dev")
        return {split: datasets.Dataset.from_list(splits.get(split, first)) for split in names}

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    harness._quieten()


@pytest.mark.parametrize("name", list(STAND_INS))
def test_a_local_file_asks_what_the_hubs_data_ask(name: str, tmp_path: Path, hub: None) -> None:
    given = harness._load(name, None, None)["tasks"]
    if name == "gsm8k":
        assert given[name].get_config("num_fewshot") == 5
    local = harness._load(name, LocalData.read(files(name, tmp_path, examples=True)), None)["tasks"]
    assert requests(local) == requests(given)
    assert list(local) == STAND_INS[name][1]
    if name == "truthfulqa":
        assert [task.task_docs[0]["mc2_targets"]["labels"] for task in local.values()] == [[1, 1, 0]] * 2
    own, theirs = targets(local), targets(given)
    for task in own:
        choices = [given[task].doc_to_choice(doc) for doc in given[task].task_docs] if name != "gsm8k" else []
        assert [
            each[int(target)] if str(target).isdigit() else target
            for each, target in zip(choices, own[task], strict=False)
        ] == [
            each[int(target)] if str(target).isdigit() else target
            for each, target in zip(choices, theirs[task], strict=False)
        ]


@pytest.mark.parametrize("name", ["arc_easy", "winogrande", "truthfulqa"])
def test_rows_of_the_hub_are_taken_as_they_are(name: str, tmp_path: Path, hub: None) -> None:
    (rows,) = STAND_INS[name][3].values()
    path = write_lines(tmp_path / "hub.jsonl", rows)
    local = harness._load(name, LocalData.read(TaskName(name=name, data=str(path))), None)["tasks"]
    assert requests(local) == requests(harness._load(name, None, None)["tasks"])


def test_shots_are_drawn_from_the_file_of_examples(tmp_path: Path, hub: None) -> None:
    without = harness._load("gsm8k", LocalData.read(files("gsm8k", tmp_path, examples=False)), None)["tasks"]
    assert all(text.count("Question:") == 1 for (text, _), _ in requests(without)["gsm8k"])
    some = harness._load("gsm8k", LocalData.read(files("gsm8k", tmp_path, examples=True)), 2)["tasks"]
    assert all(text.count("Question:") == 3 for (text, _), _ in requests(some)["gsm8k"])
    with pytest.raises(InputError, match=r"gsm8k: examples without a file of them: got 2; allowed: NAME=FILE,EXAMPLES"):
        harness._load("gsm8k", LocalData.read(files("gsm8k", tmp_path, examples=False)), 2)
    fives = harness._load("mmlu", LocalData.read(files("mmlu", tmp_path, examples=True)), 3)["tasks"]
    (text, _), _ = requests(fives)["mmlu_virology"][0]
    assert text.count("Answer:") == 4
    assert "about virology" in text
    assert text.index(QUESTIONS[3]) < text.index(QUESTIONS[2])


def test_subjects_that_a_file_lacks_are_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    harness._quieten()
    monkeypatch.setattr(harness, "BENCHMARKS", {"mmlu": ("mmlu/default", ["mmlu_anatomy", "mmlu_virology"])})
    path = write_lines(tmp_path / "part.jsonl", [{**row, "subject": "virology"} for row in PLAIN])
    local = harness._load("mmlu", LocalData.read(TaskName(name="mmlu", data=str(path))), None)["tasks"]
    assert {name: len(task.task_docs) for name, task in local.items()} == {"mmlu_virology": 4}


def test_a_subject_may_be_spelled_otherwise_but_rows_of_none_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    harness._quieten()
    subjects = ["mmlu_anatomy", "mmlu_high_school_biology"]
    monkeypatch.setattr(harness, "BENCHMARKS", {"mmlu": ("mmlu/default", subjects)})

    def loaded(rows: Rows) -> Mapping[str, Any]:
        path = write_lines(tmp_path / "rows.jsonl", rows)
        tasks: Mapping[str, Any] = harness._load("mmlu", LocalData.read(TaskName(name="mmlu", data=str(path))), None)
        return tasks["tasks"]  # type: ignore[no-any-return]

    spelled = loaded([{**row, "subject": name} for row in PLAIN for name in ("Anatomy", "High School  Biology")])
    assert {name: len(task.task_docs) for name, task in spelled.items()} == dict.fromkeys(subjects, len(PLAIN))
    for rows in (PLAIN, [{**row, "subject": "chess"} for row in PLAIN]):
        with pytest.raises(InputError, match=r"of none of the 2 parts.*subject: one of anatomy, high_school_biology"):
            loaded(rows)


@pytest.mark.parametrize(
    "row", [{"question": "What?"}, {"question": "What?", "choices": ["a", "b"], "gold": 2}, {"x": 1}]
)
def test_items_of_another_layout_are_refused(row: dict[str, Any], tmp_path: Path, hub: None) -> None:
    path = write_lines(tmp_path / "odd.jsonl", [row])
    with pytest.raises(InputError, match=r"arc_easy cannot read .*odd\.jsonl") as error:
        harness._load("arc_easy", LocalData.read(TaskName(name="arc_easy", data=str(path))), None)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["arc_easy", "hellaswag", "winogrande"])
@pytest.mark.parametrize(
    "odd",
    [
        *({"gold": gold} for gold in (-1, True, 0.0, 1.0, None, "1", 2, [0], 10**30)),
        *({"question": text} for text in (None, 3, ["What?"], {"text": "What?"})),
        *({"choices": choices} for choices in ([], "ab", [1, 2], ["a", None], {"a": 1})),
    ],
)
def test_items_that_templates_would_take_for_others_are_refused(
    name: str, odd: dict[str, Any], tmp_path: Path, hub: None
) -> None:
    good = {"question": "What is _?", "choices": ["a", "b"], "gold": 0}
    path = write_lines(tmp_path / "odd.jsonl", [good, {**good, **odd}])
    with pytest.raises(InputError, match=rf"{name} cannot read .*odd\.jsonl"):
        harness._load(name, LocalData.read(TaskName(name=name, data=str(path))), None)


def test_answers_longer_than_the_model_are_refused_before_anything_is_measured(tmp_path: Path, hub: None) -> None:
    pretrained = opened(checkpoint(tmp_path / "model"))
    task = files("gsm8k", tmp_path, examples=False)
    with pytest.raises(InputError, match=r"gsm8k generates up to so many tokens: got 256; .* 128 positions"):
        open_tasks(pretrained, [f"gsm8k={task.data}"])


def test_names_and_files_are_told_apart() -> None:
    assert parse_task("arc_easy=a/b.jsonl.xz") == TaskName(name="arc_easy", data="a/b.jsonl.xz")
    assert parse_task("mmlu=t.jsonl,d.jsonl") == TaskName(name="mmlu", data="t.jsonl", examples="d.jsonl")
    assert parse_task("piqa") == TaskName(name="piqa")
    assert parse_task("./x=1/b.jsonl") == TaskName(name=None, data="./x=1/b.jsonl")
    assert parse_task("b.jsonl.gz") == TaskName(name=None, data="b.jsonl.gz")
    assert [item_name(path) for path in ("a/b.jsonl", "b.jsonl.xz", "a.b.jsonl")] == ["b", "b", "a.b"]


def test_a_tiny_model_is_scored_on_a_local_benchmark(tmp_path: Path, hub: None) -> None:
    pretrained = opened(checkpoint(tmp_path / "model"))
    task = files("arc_easy", tmp_path, examples=False)
    (measure,) = open_tasks(pretrained, [f"arc_easy={task.data}"], limit=3)
    (record,) = measure.measure()
    assert (record.name, record.kind, record.items, record.chance) == ("arc_easy", "multiple-choice", 3, 0.25)
    assert set(record.metrics) == {"acc", "acc_norm"}


def test_an_encoder_is_refused_before_its_file_is_read(tmp_path: Path) -> None:
    pretrained = opened(checkpoint(tmp_path / "model", BERT))
    path = write_lines(tmp_path / "arc.jsonl", PLAIN)
    with pytest.raises(InputError, match="is an encoder"):
        open_tasks(pretrained, [f"arc_easy={path}"])
