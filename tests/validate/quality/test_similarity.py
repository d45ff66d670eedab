"""Scored sentence pairs: embeddings against a direct computation, the correlation and its intervals."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")

import torch
from quality_cases import BERT, LLAMA, WORDS, case, checkpoint, evaluator, opened, write_lines
from scipy import stats

from costmodel.errors import InputError
from validate.quality.case import DENSE
from validate.quality.intervals import rank_correlations
from validate.quality.summary import rows
from validate.quality.tasks import open_tasks

RNG = random.Random(0)
PAIRS: list[dict[str, Any]] = [
    {
        "sentence1": " ".join(RNG.choices(WORDS, k=2 + place % 5)),
        "sentence2": " ".join(RNG.choices(WORDS, k=2 + place % 3)),
        "score": round(RNG.uniform(0, 5), 1),
    }
    for place in range(20)
]


def embedding(pretrained: Any, text: str) -> torch.Tensor:
    encoded = pretrained.tokenizer(text, return_tensors="pt")
    with torch.no_grad():
        states = pretrained.model.base_model(input_ids=encoded["input_ids"]).last_hidden_state[0]
    return states.double().mean(0)


@pytest.mark.parametrize(
    ("config", "kind"),
    [(BERT, "Model"), (BERT, "ForMaskedLM"), (LLAMA, "ForCausalLM")],
    ids=["encoder", "masked", "llama"],
)
def test_pairs_are_compared_by_mean_pooled_states(config: dict[str, Any], kind: str, tmp_path: Path) -> None:
    pretrained = opened(checkpoint(tmp_path / "model", config, kind=kind))
    path = write_lines(tmp_path / "pairs.jsonl", PAIRS)
    measuring = evaluator(pretrained, text=None, tasks=open_tasks(pretrained, [f"stsb={path}"], batch=3))
    dense = measuring.measure(DENSE, 0)
    assert dense.failure is None
    (task,) = dense.tasks
    cosines = [
        float(
            torch.nn.functional.cosine_similarity(
                *(embedding(pretrained, row[side]) for side in ("sentence1", "sentence2")), dim=0
            )
        )
        for row in PAIRS
    ]
    assert task.metrics["cosine"] == pytest.approx(cosines, abs=1e-5)
    factored = measuring.measure(case(pretrained, "rank=2"), 1)
    own, other = rows([dense, factored])
    assert (own.tasks[0].metric, own.tasks[0].items) == ("spearman", len(PAIRS))
    truth = stats.spearmanr(cosines, [row["score"] for row in PAIRS]).statistic
    assert own.tasks[0].value.value == pytest.approx(truth, abs=1e-3)
    assert own.tasks[0].change.value == 0
    assert other.tasks[0].change.value == pytest.approx(other.tasks[0].value.value - own.tasks[0].value.value)


def test_correlations_are_scipys_and_their_change_is_paired() -> None:
    rng = np.random.default_rng(1)
    scores = rng.normal(size=60).round(1)
    dense, noise = scores + rng.normal(size=60), rng.normal(size=60)
    value, moved = rank_correlations(dense + 0.05 * noise, dense, scores)
    assert value.value == pytest.approx(stats.spearmanr(dense + 0.05 * noise, scores).statistic)
    ends, narrow = (value.low, value.high), (moved.low, moved.high)
    assert ends[0] < value.value < ends[1]
    assert narrow[1] - narrow[0] < (ends[1] - ends[0]) / 3
    assert rank_correlations([1.0] * 60, dense, scores)[0].value == 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sentence2": " "}, "pairs.jsonl:1: no two sentences"),
        ({"score": "high"}, "pairs.jsonl:1: score is no number"),
        ({"score": True}, "pairs.jsonl:1: score is no number"),
    ],
)
def test_what_is_no_scored_pair_is_named(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    pretrained = opened(checkpoint(tmp_path / "model", BERT))
    path = write_lines(tmp_path / "pairs.jsonl", [{**PAIRS[0], **changes}, *PAIRS[1:]])
    with pytest.raises(InputError, match=message):
        open_tasks(pretrained, [str(path)])
    with pytest.raises(InputError, match="fewer than two pairs"):
        open_tasks(pretrained, [str(write_lines(tmp_path / "one.jsonl", PAIRS[:1]))])
