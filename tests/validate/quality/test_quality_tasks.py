"""Tasks: the harness end to end without a network, encoders by blanks and labels, and what is refused."""

from __future__ import annotations

import json
import math
import socket
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")

import torch
from quality_cases import BERT, LLAMA, case, checkpoint, evaluator, items, opened, write_lines
from torch import nn
from validating import GPT2, QWEN3

from costmodel.errors import InputError
from validate.factors.replace import Replacement, WeightFactors
from validate.models.pretrained import Pretrained
from validate.quality.case import DENSE
from validate.quality.cloze import Cloze
from validate.quality.items import ChoiceItem, read_items
from validate.quality.records import TaskRecord
from validate.quality.tasks import open_tasks

WINDOWS = {**LLAMA, "model_type": "mistral", "sliding_window": 8}


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Every attempt to reach another machine, which fails."""
    attempts: list[Any] = []

    def refuse(*arguments: Any, **_: Any) -> None:
        attempts.append(arguments)
        raise OSError("no network in tests")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    return attempts


def harness() -> None:
    pytest.importorskip("lm_eval", reason="the extra `quality` is not installed")
    pytest.importorskip("accelerate", reason="the extra `quality` is not installed")


def direct(model: nn.Module, context: list[int], continuation: list[int]) -> float:
    """Log-likelihood of a continuation, one sequence at a time."""
    ids = torch.tensor([context + continuation])
    with torch.no_grad():
        predicted = model(input_ids=ids).logits[0].double().log_softmax(-1)
    return sum(float(predicted[len(context) + place - 1, token]) for place, token in enumerate(continuation))


def expected(pretrained: Pretrained, rows: list[dict[str, Any]]) -> list[list[float]]:
    words = pretrained.tokenizer
    return [
        [
            direct(pretrained.model, words(row["context"])["input_ids"], words(choice)["input_ids"])
            for choice in row["choices"]
        ]
        for row in rows
    ]


def check(record: TaskRecord, rows: list[dict[str, Any]], likelihoods: list[list[float]]) -> None:
    best = [max(range(len(row)), key=row.__getitem__) for row in likelihoods]
    normed = [
        [value / len(choice) for value, choice in zip(values, row["choices"], strict=True)]
        for values, row in zip(likelihoods, rows, strict=True)
    ]
    best_normed = [max(range(len(row)), key=row.__getitem__) for row in normed]
    assert record.answers == best
    assert record.metrics["acc"] == "".join(
        "01"[answer == row["answer"]] for answer, row in zip(best, rows, strict=True)
    )
    assert record.metrics["acc_norm"] == "".join(
        "01"[answer == row["answer"]] for answer, row in zip(best_normed, rows, strict=True)
    )
    truth = [
        math.log(sum(map(math.exp, values))) - values[row["answer"]]
        for values, row in zip(likelihoods, rows, strict=True)
    ]
    assert record.truth_nll == pytest.approx(truth, abs=1e-3)
    assert record.chance == pytest.approx(sum(1 / len(row["choices"]) for row in rows) / len(rows), abs=1e-6)


@pytest.mark.parametrize("config", [LLAMA, GPT2, QWEN3, WINDOWS], ids=["llama", "gpt2", "tied", "windows"])
def test_the_harness_agrees_with_a_direct_computation(
    config: dict[str, Any], tmp_path: Path, no_network: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    harness()
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", False)  # nothing is asked for even where it could be
    monkeypatch.setattr("datasets.load.get_session", lambda: no_network.append("session"))
    pretrained = opened(checkpoint(tmp_path / "model", config))
    rows = items()
    path = write_lines(tmp_path / "which.jsonl", rows)
    (task,) = open_tasks(pretrained, [str(path)], batch=5)
    (dense,) = task.measure()
    assert (dense.name, dense.group, dense.kind, dense.items) == ("which", "which", "multiple-choice", len(rows))
    check(dense, rows, expected(pretrained, rows))
    factored = case(pretrained, "rank=3", "layers=1 form=drop").decomposition
    with Replacement(pretrained.body, pretrained.spec, factored, WeightFactors()):
        (candidate,) = task.measure()
        check(candidate, rows, expected(pretrained, rows))
    assert candidate.truth_nll != dense.truth_nll
    assert candidate.prompts == dense.prompts
    assert task.measure() == [dense]
    assert no_network == []


def test_sharing_contexts_is_what_the_harness_does_alone(tmp_path: Path) -> None:
    harness()
    from validate.quality.harness import Harness

    pretrained = opened(checkpoint(tmp_path / "model"))
    rows = [ChoiceItem(context=row["context"], choices=tuple(row["choices"]), answer=row["answer"]) for row in items()]
    long = ChoiceItem(context="the two " * 20, choices=(" of", " is", " no"), answer=1)  # beyond the model's length
    task = Harness(pretrained, [], {"a": rows, "b": [long, rows[0]]}, batch=4)
    shared = task.measure()
    task._lm._shared = False
    for one, other in zip(shared, task.measure(), strict=True):
        assert one.answers == other.answers
        assert one.truth_nll == pytest.approx(other.truth_nll, abs=2e-4)


def test_a_context_of_many_items_is_several_sequences(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    harness()
    from validate.quality import shared_context

    pretrained = opened(checkpoint(tmp_path))
    generator = torch.Generator().manual_seed(0)
    rows = [torch.randint(1, 90, (size,), generator=generator).tolist() for size in [3, 1, 5, 40] * 20]
    requests = [(("", ""), [7, 9], row) for row in rows]
    widths: list[int] = []
    pretrained.model.register_forward_hook(lambda module, given, output: widths.append(output.logits.shape[1]))
    own = shared_context.SharedContextLM(pretrained, batch=3)
    found = own._loglikelihood_tokens(requests)
    assert own.max_length == 128
    assert 90 < max(widths) <= 128
    assert sum(map(len, rows)) > 5 * 128
    monkeypatch.setattr(shared_context, "WIDEST", 30)
    widths.clear()
    narrow = own._loglikelihood_tokens(requests)
    assert sorted(set(widths))[-1] == 41  # what is wider alone runs alone, as the harness does it: without the last
    assert sorted(set(widths))[-2] <= 30
    for (value, greedy), (other, same), row in zip(found, narrow, rows, strict=True):
        assert value == pytest.approx(other, abs=1e-4) == pytest.approx(direct(pretrained.model, [7, 9], row), abs=1e-4)
        assert greedy == same


def test_limit_takes_the_first_items(tmp_path: Path) -> None:
    harness()
    pretrained = opened(checkpoint(tmp_path / "model"))
    path = write_lines(tmp_path / "which.jsonl", items(10))
    whole, part = (open_tasks(pretrained, [str(path)], limit=limit)[0].measure()[0] for limit in (None, 4))
    assert (whole.items, part.items) == (10, 4)
    assert str(whole.metrics["acc"])[:4] == part.metrics["acc"]


def test_a_task_that_is_not_finite_is_a_failure(tmp_path: Path) -> None:
    harness()
    pretrained = opened(checkpoint(tmp_path / "model"))
    path = write_lines(tmp_path / "which.jsonl", items(4))
    measuring = evaluator(pretrained, text=None, tasks=open_tasks(pretrained, [str(path)]))
    assert measuring.measure(DENSE, 0).status == "ok"
    with torch.no_grad():
        pretrained.model.get_submodule("model.layers.2.self_attn.q_proj").weight[0, 0] = float("nan")
    record = measuring.measure(case(pretrained, "layers=0 rank=2"), 1)
    assert record.failure is not None
    assert (record.failure.stage, record.failure.kind) == ("tasks", "non-finite")
    assert "in 4 of 4 items of which" in record.failure.reason
    assert record.tasks == ()


def test_every_candidate_gets_the_same_examples(tmp_path: Path) -> None:
    harness()
    pretrained = opened(checkpoint(tmp_path / "model"))
    (task,) = open_tasks(pretrained, [str(write_lines(tmp_path / "which.jsonl", items(8)))])
    (plain,) = task.measure()
    loaded = task._tasks["tasks"]["which"]  # type: ignore[attr-defined]
    loaded.set_config(key="num_fewshot", value=2)
    (first,), (second,) = task.measure(), task.measure()
    assert first.prompts != plain.prompts
    assert first == second


def test_generation_goes_through_factored_layers(tmp_path: Path, no_network: list[Any]) -> None:
    harness()
    from lm_eval.tasks import TaskManager

    from validate.quality.harness import Harness

    pretrained = opened(checkpoint(tmp_path / "model"))
    path = write_lines(tmp_path / "ask.jsonl", [{"question": "the one is", "answer": " two"}] * 3)
    config = {
        "task": "ask",
        "dataset_path": "json",
        "test_split": "test",
        "output_type": "generate_until",
        "dataset_kwargs": {"data_files": {"test": str(path)}, "cache_dir": str(tmp_path / "cache")},
        "doc_to_text": "{{question}}",
        "doc_to_target": "{{answer}}",
        "metric_list": [{"metric": "exact_match"}],
        "generation_kwargs": {"until": ["<end>"], "max_gen_toks": 6, "do_sample": False},
    }
    task = Harness(pretrained, [], {}, batch=2)
    task._add("ask", TaskManager(include_defaults=False).load([config]))
    (dense,) = task.measure()
    assert (dense.kind, dense.items, dense.answers) == ("generation", 3, None)
    assert set(dense.metrics) == {"exact_match"}
    factored = case(pretrained, "layers=0 rank=3", "layers=1 form=drop").decomposition
    with Replacement(pretrained.body, pretrained.spec, factored, WeightFactors()):
        inputs = torch.tensor([pretrained.tokenizer("the one is")["input_ids"]])
        cached, whole = (
            pretrained.model.generate(inputs, max_new_tokens=6, do_sample=False, use_cache=cache)  # type: ignore[operator]
            for cache in (True, False)
        )
        assert torch.equal(cached, whole)
        assert task.measure()[0].prompts == dense.prompts
    assert task.measure() == [dense]
    assert no_network == []


@pytest.mark.parametrize("name", ["arc_easy", "mmlu", "truthfulqa", "gsm8k"])
def test_benchmarks_that_cannot_be_reached_are_one_line(name: str, tmp_path: Path, no_network: list[Any]) -> None:
    harness()
    pretrained = opened(checkpoint(tmp_path / "model"))
    with pytest.raises(InputError, match=f"data cannot be reached: got '{name}'; .*give a local JSONL file") as error:
        open_tasks(pretrained, [name])
    assert "\n" not in str(error.value)


def test_a_missing_extra_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pretrained = opened(checkpoint(tmp_path / "model"))
    monkeypatch.setattr("validate.quality.tasks.importlib.util.find_spec", lambda name: None)
    with pytest.raises(
        InputError, match=r"a library that tasks need is missing: got 'lm_eval'; .*\[validate,quality\]"
    ):
        open_tasks(pretrained, ["hellaswag"])


def test_a_masked_model_is_refused_by_the_harness(tmp_path: Path) -> None:
    pretrained = opened(checkpoint(tmp_path / "model", BERT))
    with pytest.raises(InputError, match=r"is an encoder, which lm-evaluation-harness scores wrongly without an error"):
        open_tasks(pretrained, ["hellaswag"])


BLANKS: list[dict[str, Any]] = [
    {"context": "the [MASK] is not two", "choices": ["one", "two", "not"], "answer": 0},
    {"context": "[MASK] of gamma", "choices": ["a", "b", "c"], "answer": 2},
    {"context": "delta is [MASK]", "choices": ["x", "y"], "answer": 1},
]


def pseudo(pretrained: Pretrained, context: str, choice: str) -> float:
    """Sum of log p(token | the rest), one token masked at a time."""
    words = pretrained.tokenizer
    before, after = (words(part, add_special_tokens=False)["input_ids"] for part in context.split("[MASK]"))
    filling = words(choice, add_special_tokens=False)["input_ids"]
    total = 0.0
    for place, token in enumerate(filling):
        masked = [*filling[:place], words.mask_token_id, *filling[place + 1 :]]
        ids = torch.tensor([[words.cls_token_id, *before, *masked, *after, words.sep_token_id]])
        with torch.no_grad():
            predicted = pretrained.model(input_ids=ids).logits[0, 1 + len(before) + place]
        total += float(predicted.double().log_softmax(-1)[token])
    return total


def test_blanks_are_filled_by_pseudo_likelihood(tmp_path: Path) -> None:
    pretrained = opened(checkpoint(tmp_path / "model", BERT))
    path = write_lines(tmp_path / "blank.jsonl", BLANKS)
    (task,) = open_tasks(pretrained, [str(path)], batch=3)
    (dense,) = task.measure()
    likelihoods = [[pseudo(pretrained, row["context"], choice) for choice in row["choices"]] for row in BLANKS]
    best = [max(range(len(row)), key=row.__getitem__) for row in likelihoods]
    assert (dense.kind, dense.answers) == ("cloze", best)
    truth = [
        math.log(sum(map(math.exp, values))) - values[row["answer"]]
        for values, row in zip(likelihoods, BLANKS, strict=True)
    ]
    assert dense.truth_nll == pytest.approx(truth, abs=1e-3)
    with Replacement(pretrained.body, pretrained.spec, case(pretrained, "rank=1").decomposition, WeightFactors()):
        (candidate,) = task.measure()
    assert candidate.truth_nll != dense.truth_nll
    assert task.measure() == [dense]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"context": "no blank", "choices": ["a", "b"], "answer": 0}, "item 0 has 0 blanks"),
        ({"context": "[MASK] [MASK]", "choices": ["a", "b"], "answer": 0}, "item 0 has 2 blanks"),
        ({"context": "[MASK] " + "the " * 40, "choices": ["a", "b"], "answer": 0}, "item 0 does not fit: got '16"),
    ],
)
def test_blanks_that_cannot_be_asked(row: dict[str, Any], message: str, tmp_path: Path) -> None:
    pretrained = opened(checkpoint(tmp_path / "model", BERT))
    item = ChoiceItem(context=row["context"], choices=tuple(row["choices"]), answer=row["answer"])
    with pytest.raises(InputError, match=message):
        Cloze(pretrained, "blanks", [item], batch=2)


def test_labels_of_texts(tmp_path: Path) -> None:
    names = {"id2label": {0: "bad", 1: "good", 2: "odd"}, "label2id": {"bad": 0, "good": 1, "odd": 2}}
    pretrained = opened(checkpoint(tmp_path / "model", BERT, kind="ForSequenceClassification", **names))
    rows = [
        {"text": "alpha is one", "label": 0},
        {"text": "not the two of them", "label": "odd"},
        {"text": "gamma", "label": 1},
    ]
    (task,) = open_tasks(pretrained, [str(write_lines(tmp_path / "labels.jsonl", rows))], batch=2)
    (dense,) = task.measure()
    scores = []
    for row in rows:
        encoded = pretrained.tokenizer(row["text"], return_tensors="pt")
        with torch.no_grad():
            scores.append(pretrained.model(**encoded).logits[0].log_softmax(-1).tolist())
    assert dense.answers == [max(range(3), key=each.__getitem__) for each in scores]
    assert dense.truth_nll == pytest.approx([-scores[0][0], -scores[1][2], -scores[2][1]], abs=1e-3)
    assert (dense.kind, dense.chance) == ("classification", pytest.approx(1 / 3, abs=1e-6))
    with pytest.raises(InputError, match="item 0 has a label unknown to the model: got 'worse'"):
        open_tasks(pretrained, [str(write_lines(tmp_path / "bad.jsonl", [{"text": "a", "label": "worse"}]))])
    with pytest.raises(InputError, match="blanks need a masked LM"):
        open_tasks(pretrained, [str(write_lines(tmp_path / "blank.jsonl", BLANKS))])


def test_labels_need_a_head(tmp_path: Path) -> None:
    pretrained = opened(checkpoint(tmp_path / "model", BERT))
    with pytest.raises(InputError, match="labels need a model for sequence classification: got 'BertForMaskedLM'"):
        open_tasks(pretrained, [str(write_lines(tmp_path / "labels.jsonl", [{"text": "a", "label": 0}]))])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "task without items"),
        ("{", "items.jsonl:1: item is not JSON"),
        ("[1]", "items.jsonl:1: not an object"),
        ('{"context": 3}', "items.jsonl:1: context is no text: got 3"),
        ('{"context": "a", "choices": ["b"], "answer": 0}', "choices is no list of texts"),
        ('{"context": "a", "choices": ["b", ""], "answer": 0}', "choices is no list of texts"),
        ('{"context": "a", "choices": ["b", "c"], "answer": 2}', "answer is not the place of a choice: got 2"),
        ('{"context": "a", "choices": ["b", "c"], "answer": true}', "answer is not the place of a choice: got True"),
        ('\n{"text": "a", "label": 1}\n{"context": "a", "choices": ["b", "c"], "answer": 1}', "l:3: another kind"),
        ('{"text": "", "label": 1}', "text is no text"),
        ('{"text": "a", "label": 1.5}', "label is no class"),
    ],
)
def test_malformed_items_are_named(content: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "items.jsonl"
    path.write_text(content)
    with pytest.raises(InputError, match=message):
        read_items(path)


def test_items_keep_what_they_are(tmp_path: Path) -> None:
    row = {"context": "a\u2028 {{b}}", "choices": ["\n c", "d "], "answer": 1, "source": {"any": "thing"}}
    (tmp_path / "items.jsonl").write_text(json.dumps(row, ensure_ascii=False) + "\n\n", encoding="utf-8")
    assert read_items(tmp_path / "items.jsonl") == [
        ChoiceItem(context="a\u2028 {{b}}", choices=("\n c", "d "), answer=1)
    ]


def merging() -> Any:
    """A tokenizer in which `a` and `b` become one token."""
    import transformers
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    letters = [*sorted(pre_tokenizers.ByteLevel.alphabet())[:90], "Ġ"]
    vocabulary = {token: index for index, token in enumerate(dict.fromkeys(["<end>", *letters, "ab"]))}
    made = Tokenizer(models.BPE(vocab=vocabulary, merges=[("a", "b")], unk_token="<end>"))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    return transformers.PreTrainedTokenizerFast(tokenizer_object=made, bos_token="<end>", eos_token="<end>")


def test_an_item_that_the_harness_would_stop_at_is_left_out_by_name(tmp_path: Path) -> None:
    harness()
    model = checkpoint(tmp_path / "model")
    merging().save_pretrained(model)
    pretrained = opened(model)
    good = items(4)
    bad = [
        {"context": "x a", "choices": ["b", " c"], "answer": 0},  # no token of its own behind the context
        {"context": "  ", "choices": ["b", "c"], "answer": 0},  # no context once its spaces are the choice's
        {"context": "of", "choices": [" the" * 60, " c"], "answer": 0},  # longer than the model takes
    ]
    mixed = write_lines(tmp_path / "mixed.jsonl", [good[0], bad[0], good[1], bad[1], bad[2], *good[2:]])
    alone = write_lines(tmp_path / "alone.jsonl", good)
    both = [each for task in open_tasks(pretrained, [str(mixed), str(alone)]) for each in task.measure()]
    found, truth = both
    assert (found.left_out, truth.left_out) == ([1, 3, 4], None)
    assert found.items == 4
    assert (found.metrics["acc"], found.answers) == (truth.metrics["acc"], truth.answers)
    assert found.truth_nll == pytest.approx(truth.truth_nll, abs=1e-4)
    assert found.prompts == truth.prompts
    only = write_lines(tmp_path / "only.jsonl", bad)
    (task,) = open_tasks(pretrained, [str(only)])
    with pytest.raises(InputError, match="without an item that can be scored: got 'only'"):
        task.measure()
