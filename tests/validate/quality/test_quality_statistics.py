"""Intervals, the plan of samples, and rows made of records; nothing here needs torch."""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("scipy")

from validating import BERT, LLAMA, tiny_spec

from costmodel.decomposition.factors import Decomposition
from costmodel.decomposition.text import parse_decomposition
from costmodel.families.load import load_model
from validate.cli.quality_report import finish
from validate.errors import MeasurementError, RecordError, RunError
from validate.plans.balanced import BLOCK
from validate.plans.case import params_of, strata_of
from validate.quality.answers import choice_fields, compact
from validate.quality.case import QualityCase
from validate.quality.intervals import IDENTICAL, change, mcnemar, mean, paired_shares, share
from validate.quality.plan import sample_cases
from validate.quality.records import QUALITY, CheckpointRecord, QualityRecord, TaskRecord, TextRecord
from validate.quality.summary import bands, rows
from validate.store.digests import Source
from validate.store.journal import Journal


def test_the_bootstrap_covers_what_it_says() -> None:
    """Skewed sums over 64 paired blocks of unlike size: 95 % intervals hold the truth in 90 to 99 % of 300 trials."""
    rng = np.random.default_rng(0)
    held = 0
    for _ in range(300):
        counts = rng.integers(100, 300, 64)
        dense = counts * rng.gamma(20.0, 0.15, 64)
        candidate = dense + counts * rng.gamma(2.0, 0.05, 64)  # 0.1 nats per token more
        found = change(candidate.tolist(), dense.tolist(), counts.tolist())
        assert found.low is not None
        assert found.high is not None
        held += found.low <= 0.1 <= found.high
    assert 0.90 <= held / 300 <= 0.99


def test_pairing_is_what_makes_an_interval_narrow() -> None:
    rng = np.random.default_rng(1)
    dense = rng.normal(600, 100, 64)
    paired = change((dense + 10 + rng.normal(0, 1, 64)).tolist(), dense.tolist(), [200] * 64)
    shuffled = change(rng.permutation(dense + 10).tolist(), dense.tolist(), [200] * 64)
    assert paired.value == pytest.approx(0.05, abs=0.005)
    assert paired.high is not None
    assert paired.low is not None
    assert shuffled.high is not None
    assert shuffled.low is not None
    assert (shuffled.high - shuffled.low) > 20 * (paired.high - paired.low)
    counts = rng.integers(50, 400, 64)  # a block's tokens go with its sum
    unlike = change((dense + 0.1 * counts).tolist(), dense.tolist(), counts.tolist())
    assert unlike.value == pytest.approx(0.1)
    noisy = change((dense + 0.1 * counts + rng.normal(0, 0.1, 64)).tolist(), dense.tolist(), counts.tolist())
    assert noisy.low is not None
    assert noisy.high is not None
    assert noisy.high - noisy.low < 0.001


def test_intervals_of_few_and_equal_units() -> None:
    assert change([3.0], [1.0], [4]).to_json() == {"value": 0.5, "low": None, "high": None}
    assert change([3.0, 5.0], [1.0, 3.0], [2, 2]).to_json() == {"value": 1.0, "low": None, "high": None}
    assert change([3.0, 5.0], [3.0, 5.0], [2, 2]) == IDENTICAL
    assert mean([0.25, 0.25]).to_json() == {"value": 0.25, "low": None, "high": None}
    assert change([1.0, 2.0, 4.0], [0.0] * 3) == change([1.0, 2.0, 4.0], [0.0] * 3)  # the same seed


def test_changes_of_right_answers_have_score_intervals() -> None:
    found = paired_shares(1, 7, 21)  # Fagerland, Lydersen and Laake 2014, airway hyper-responsiveness
    assert (found.value, found.low, found.high) == pytest.approx((-6 / 21, -0.517, -0.026), abs=5e-4)
    none = change([1.0, 0.0] * 50, [1.0, 0.0] * 50)  # no item of 100 changed: up to z^2 / (n + z^2) might
    assert (none.value, none.low, none.high) == pytest.approx((0, -0.03699, 0.03699), abs=1e-5)
    one = change([1.0] + [0.0] * 30, [0.0] * 31)
    assert one == paired_shares(1, 0, 31)
    assert one.low is not None
    assert one.high is not None
    assert one.low < 0 < one.value < one.high
    ends = [(each.low, each.high) for each in (paired_shares(9, 0, 9), paired_shares(0, 9, 9))]
    assert ends == [(pytest.approx(0.4019, abs=1e-3), 1.0), (-1.0, pytest.approx(-0.4019, abs=1e-3))]


@pytest.mark.parametrize(("gained", "lost"), [(0.02, 0.02), (0.05, 0.15), (0.004, 0.0)])
def test_the_score_interval_holds_what_it_says(gained: float, lost: float) -> None:
    rng = np.random.default_rng(3)
    held = 0
    for b, c, _ in rng.multinomial(120, [gained, lost, 1 - gained - lost], size=400):
        found = paired_shares(int(b), int(c), 120)
        assert found.low is not None
        assert found.high is not None
        held += found.low <= gained - lost <= found.high
    assert held / 400 >= 0.92


def test_shares_and_mcnemar() -> None:
    half = share(50, 100)
    assert (half.value, half.low, half.high) == (0.5, pytest.approx(0.4038, abs=1e-3), pytest.approx(0.5962, abs=1e-3))
    assert mcnemar("1100", "1100") == 1.0
    assert mcnemar("000000", "111111") == pytest.approx(2 * 0.5**6)
    assert mcnemar("0011", "1100") == 1.0


def test_answers_of_likelihoods() -> None:
    fields = choice_fields([[-1.0, -2.0], [-3.0, -1.0, -2.0, -9.0]], [1, 1], "task")
    assert fields["answers"] == [0, 1]
    assert fields["chance"] == 0.375
    assert fields["truth_nll"] == pytest.approx([1.3133, 0.4079], abs=1e-4)
    assert "truth_nll" not in choice_fields([[-1.0, -2.0]], ["text"], "task")
    assert compact([1.0, 0.0, 1.0], "task") == "101"
    assert compact([0.5, 1.0], "task") == [0.5, 1.0]
    with pytest.raises(MeasurementError, match="in 1 of 2 items of task"):
        choice_fields([[-1.0, float("nan")], [0.0, 0.0]], [0, 0], "task")
    with pytest.raises(MeasurementError, match="a metric of task"):
        compact([float("inf")], "task")


@pytest.mark.parametrize("seed", [0, 1])
def test_a_longer_plan_begins_with_a_shorter_one(seed: int) -> None:
    spec = load_model("llama-70m")
    long = sample_cases(spec, 120, seed)
    assert [case.decomposition for case in sample_cases(spec, 47, seed)] == [case.decomposition for case in long[:47]]
    assert [case.decomposition for case in sample_cases(spec, 120, seed, "whitened")] == [
        case.decomposition for case in long
    ]
    assert long[0].is_dense
    assert len({case.id(spec, "model") for case in long}) == 120
    assert sample_cases(spec, 2, seed)[1].decomposition != sample_cases(spec, 2, seed + 1)[1].decomposition


@pytest.mark.parametrize("name", ["llama-70m", "bert-base"])
def test_a_plan_is_balanced_and_fits(name: str) -> None:
    spec = load_model(name)
    cases = sample_cases(spec, 1 + 10 * BLOCK, 0)[1:]
    for case in cases:
        case.decomposition.check(spec)
        assert not case.decomposition.above_break_even(spec)
        assert case.decomposition.factors or case.decomposition.dropped
    forms = Counter(strata_of(spec, case.decomposition).form for case in cases)
    assert forms["svd"] >= 80
    assert forms["tucker"] >= 60
    assert 10 <= forms["drop"] <= 20
    assert forms["drop+svd"] >= 10
    removed = [1 - params_of(spec, case.decomposition) / spec.num_params for case in cases]
    assert min(removed) < 0.01
    assert max(removed) > 0.4
    depths = Counter(len({site.layer for site in case.decomposition.factors}) for case in cases)
    assert depths[1] >= 20
    assert depths[spec.num_layers] >= 40


def test_a_small_space_is_taken_whole() -> None:
    spec = tiny_spec(
        {
            **LLAMA,
            "num_hidden_layers": 1,
            "hidden_size": 4,
            "intermediate_size": 4,
            "num_attention_heads": 1,
            "num_key_value_heads": 1,
        }
    )
    cases = sample_cases(spec, 100_000, 0)
    assert 50 < len(cases) < 100_000


def test_what_is_not_factored_has_no_kind_of_factors() -> None:
    dropped = Decomposition(dropped=frozenset({1}))
    spec = tiny_spec(LLAMA)
    one, other = (QualityCase(decomposition=dropped, factors=kind) for kind in ("plain", "whitened"))
    assert one.kind == other.kind == "none"
    assert one.id(spec, "model") == other.id(spec, "model")
    factored = parse_decomposition(["rank=1"], spec)
    ids = {QualityCase(decomposition=factored, factors=kind).id(spec, "model") for kind in ("plain", "whitened")}
    assert len(ids) == 2


def record(specs: list[str], *, nll: list[float], bits: str, index: int = 0, **fields: Any) -> QualityRecord:
    """A record of the tiny Llama as a run would have made it."""
    spec = tiny_spec(LLAMA)
    decomposition = parse_decomposition(specs, spec)
    case = QualityCase(decomposition=decomposition)
    text = TextRecord(
        kind="causal",
        source=Source(name="t", sha256="0"),
        length=11,
        tokens=[10] * len(nll),
        nll=nll,
        kl=[0.5 * value for value in nll],
        flips=[1] * len(nll),
        hits=[2] * len(nll),
    )
    tasks = tuple(
        TaskRecord(
            name=name,
            group="many",
            kind="multiple-choice",
            items=len(bits),
            prompts=name,
            chance=0.25,
            metrics={"acc": bits},
            answers=[int(bit) for bit in bits],
            truth_nll=[1.0] * len(bits),
        )
        for name in ("one", "two", "three")
    )
    given: dict[str, Any] = {
        "id": case.id(spec, "model"),
        "index": index,
        "status": "ok",
        "config": decomposition.to_json(),
        "model": CheckpointRecord(name="tiny", sha256="model", config=LLAMA, num_layers=3),
        "origin": "given",
        "factors": case.kind,
        "strata": strata_of(spec, decomposition),
        "params": params_of(spec, decomposition),
        "text": text,
        "tasks": tasks,
        "seconds": {},
        "environment": {},
        "started": "2026-01-02T03:04:05+00:00",
    }
    return QualityRecord(**{**given, **fields})


def test_a_perplexity_beyond_a_float_is_none_with_a_reason(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dense = record([], nll=[20.0, 30.0, 40.0], bits="1100")
    broken = record(["rank=1"], nll=[8000.0, 9000.0, 9000.0], bits="0100", index=1)
    for fmt in ("json", "csv", "table"):
        assert finish(tmp_path, [dense, broken], fmt=fmt) == 0
        out = capsys.readouterr().out
        assert "inf" not in out.lower()
        if fmt == "json":
            first, second = (each["text"] for each in json.loads(out)["configurations"])
            assert first["perplexity"] == pytest.approx(np.exp(3.0))
            assert first["perplexity_reason"] is None
            assert second["perplexity"] is None
            assert second["perplexity_reason"] == "exp(866.667) is beyond the largest float"
        if fmt == "csv":
            first, second = csv.DictReader(io.StringIO(out))
            assert float(first["perplexity"]) == pytest.approx(np.exp(3.0))
            assert (second["perplexity"], second["perplexity_reason"][:4]) == ("", "exp(")


def test_a_record_that_could_not_be_read_back_is_not_written(tmp_path: Path) -> None:
    """JSON has no NaN: a record would hold null where a number belongs, and spoil its file."""
    with Journal(tmp_path, QUALITY, resume=False) as journal:
        journal.append(record([], nll=[20.0, 30.0, 40.0], bits="1100"))
        with pytest.raises(RecordError, match="not a record"):
            journal.append(record(["rank=1"], nll=[20.0, 30.0, float("nan")], bits="1100", index=1))
    assert len(QUALITY.read(tmp_path)) == 1


def test_rows_compare_with_the_dense_record() -> None:
    dense = record([], nll=[20.0, 30.0, 40.0], bits="1100")
    worse = record(["rank=1"], nll=[21.0, 32.0, 43.0], bits="0100", index=1)
    first, second = rows([dense, worse])
    assert first.text is not None
    assert first.text.nll_change.to_json() == {"value": 0.0, "low": 0.0, "high": 0.0}
    assert first.params_removed == 0
    assert second.text is not None
    assert second.text.nll == pytest.approx(3.2)
    assert second.text.nll_change.value == pytest.approx(0.2)
    assert second.text.perplexity == pytest.approx(np.exp(3.2))
    assert second.text.flips == pytest.approx(0.1)
    assert second.params_removed == pytest.approx(1 - worse.params / dense.params)
    (pooled,) = second.tasks  # three subjects of one group, all items together
    assert (pooled.task, pooled.items, pooled.chance) == ("many", 12, 0.25)
    assert (pooled.value.value, pooled.change.value, pooled.flips) == (0.25, -0.25, 0.25)
    assert pooled.p == mcnemar("0100" * 3, "1100" * 3)
    assert bands([first, second]) == {"below 0.05": 0, "0.05 to 0.2": 0, "0.2 to 1": 1, "above 1": 0}
    assert second.to_json()["text"]["nll_change"]["value"] == pytest.approx(0.2)


def test_bands_of_damage() -> None:
    dense = record([], nll=[20.0, 30.0, 40.0], bits="1100")
    changes = [-0.2, 0.01, 0.1, 0.5, 0.9, 3.0]
    others = [
        record([f"rank={rank}"], nll=[value + 10 * each for value in (20.0, 30.0, 40.0)], bits="1100")
        for rank, each in enumerate(changes, 1)
    ]
    assert list(bands(rows([dense, *others])).values()) == [2, 1, 2, 1]


def test_records_that_cannot_be_paired_are_refused() -> None:
    dense, worse = record([], nll=[20.0, 30.0], bits="1100"), record(["rank=1"], nll=[21.0, 32.0, 43.0], bits="0100")
    with pytest.raises(RunError, match="of another text"):
        rows([dense, worse])
    with pytest.raises(RunError, match="without the dense model"):
        rows([worse])
    other = record(["rank=1"], nll=[21.0, 32.0], bits="0100")
    tasks = tuple(
        TaskRecord(**{**{f: getattr(t, f) for f in t.__struct_fields__}, "prompts": "x"}) for t in other.tasks
    )
    with pytest.raises(RunError, match="was asked something else"):
        rows([dense, record(["rank=1"], nll=[21.0, 32.0], bits="0100", tasks=tasks)])


def test_bert_has_its_own_tensors() -> None:
    spec = tiny_spec(BERT)
    names = {site.tensor for case in sample_cases(spec, 60, 0) for site in case.decomposition.factors}
    assert names == set(spec.groups["all"])
