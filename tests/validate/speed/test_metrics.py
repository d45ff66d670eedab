"""Error tables of records whose errors are known; the page made of them."""

from __future__ import annotations

import html.parser
import math
import re

import pytest
from validating import sample

from costmodel.forward.workload import Workload
from validate.speed.metrics import NULL_MODELS, evaluate
from validate.speed.records import Sample
from validate.speed.report import page
from validate.store.record_format import Failure

RANKS = (2, 5, 9, 16, 24, 32)


def true_ratio(record: Sample) -> float:
    return record.predicted[0].decomposed_s / record.predicted[0].dense_s


def run(error: float, **fields: float) -> list[Sample]:
    """Six samples whose predicted ratio is too high by `error`."""
    records = []
    for rank in RANKS:
        ratio = true_ratio(sample([f"rank={rank}"], 1.0)) / (1 + error)
        records.append(sample([f"rank={rank}"], ratio, index=rank, **fields))  # type: ignore[arg-type]
    return records


@pytest.mark.parametrize("error", [-0.2, 0.0, 0.1])
def test_a_known_error_is_found(error: float) -> None:
    row = evaluate(run(error)).ratios[0]
    assert (row.name, row.count) == ("datasheet", 6)
    assert row.bias == pytest.approx(error, abs=1e-9)
    assert row.median == row.p95 == pytest.approx(abs(error), abs=1e-9)
    assert row.worst == pytest.approx(abs(error), abs=1e-9)
    assert row.tau == pytest.approx(1)
    assert (row.sign_right, row.decided) == (1.0, 6)


def test_null_models_are_beside_it() -> None:
    evaluation = evaluate([sample(["rank=2"], 0.5)])
    ratio = sample(["rank=2"], 0.5).strata.param_ratio
    rows = {row.name: row for row in evaluation.ratios}
    assert set(NULL_MODELS) <= set(rows)
    assert rows["time ~ parameters"].bias == pytest.approx(ratio / 0.5 - 1)
    assert rows["time ~ 0.6 x parameters"].bias == pytest.approx((1 - 0.6 * (1 - ratio)) / 0.5 - 1)


def test_noise_comes_from_repeats_and_from_dense() -> None:
    records = [sample([], 1.03), sample(["rank=2"], 0.8, repeat=0.84), sample(["rank=3"], 0.8)]
    noise = evaluate(records).noise
    assert noise.median == noise.worst == pytest.approx(math.log(0.84 / 0.8) / math.sqrt(2))
    assert (noise.repeats, noise.dense) == (1, 1)
    assert noise.dense_worst == pytest.approx(0.03)
    assert noise.half_width == pytest.approx(0.01)
    assert evaluate([sample(["rank=2"], 0.8)]).noise.median is None


def test_only_clear_samples_decide_the_sign() -> None:
    records = [sample(["rank=2"], 0.995), sample(["rank=3"], 1.2), sample(["rank=4"], 0.8)]
    row = evaluate(records).ratios[0]
    assert row.decided == 2
    assert row.sign_right == 0.5  # predicted faster, 1.2 times slower


def test_dense_samples_are_not_counted_as_predictions() -> None:
    evaluation = evaluate([sample([], 1.0), sample(["rank=2"], 0.9)])
    assert evaluation.ratios[0].count == 1
    assert evaluation.latencies[0].count == 4


def test_further_levels_come_last_and_are_the_gate() -> None:
    records = run(0.2)
    held_out = {
        record.id: (record.timing.dense.median_s, record.timing.candidate.median_s)
        for record in records
        if record.timing
    }
    evaluation = evaluate(records, {"samples": held_out})
    assert [row.name for row in evaluation.ratios] == ["datasheet", "samples", *NULL_MODELS]
    assert evaluation.level == "samples"
    assert evaluation.gate == pytest.approx(0, abs=1e-9)
    assert evaluate(records).gate == pytest.approx(0.2)


def test_groups() -> None:
    records = [*run(0.1), sample(["rank=7"], 0.9, work=Workload.prefill(8))]
    groups = evaluate(records).groups
    assert [row.name for row in groups["phase"]] == ["decode", "prefill"]
    assert [row.count for row in groups["phase"]] == [6, 1]
    assert {row.name for row in groups["rank class"]} == {"mod 1", "mod 2", "mod 8", "mod 16"}


def test_failures_are_apart() -> None:
    failure = Failure(stage="build", kind="out-of-memory", reason="CUDA out of memory")
    evaluation = evaluate([sample(["rank=2"], None, failure=failure), sample(["rank=3"], 0.9)])
    assert (len(evaluation.samples), len(evaluation.failed)) == (1, 1)
    assert evaluation.to_json()["failed"] == 1


def test_nothing_to_compare() -> None:
    for records in ([], [sample([], 1.0)]):
        evaluation = evaluate(records)
        assert evaluation.gate is None
        assert "</html>" in page(evaluation, records)


class Checker(html.parser.HTMLParser):
    """Collects what a page refers to, and checks that tags close."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.references: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in ("meta", "br", "img", "source"):
            self.open.append(tag)
        self.references += [value or "" for name, value in attrs if name in ("src", "href", "xlink:href")]

    def handle_endtag(self, tag: str) -> None:
        if tag in self.open:
            assert self.open.pop() == tag


def test_the_page_is_whole_and_refers_to_nothing_outside() -> None:
    failure = Failure(stage="timing", kind="non-finite", reason="<script>alert(1)</script> & more")
    records = [*run(0.1, repeat=0.7), sample([], 1.01), sample(["rank=3"], None, failure=failure, index=99)]
    text = page(evaluate(records), records)
    checker = Checker()
    checker.feed(text)
    assert checker.open == []
    assert all(reference.startswith(("#", "data:")) for reference in checker.references)
    assert not re.search(r"https?://(?!www\.w3\.org)", text)
    assert "<script" not in text
    assert "&lt;script&gt;alert(1)" in text
    assert "Test &lt;CPU&gt;" in text
    assert text.count('<img src="data:image/svg+xml;base64,') == 4
    assert text.count('prefers-color-scheme: dark)" srcset') == 8  # wide and narrow
    assert page(evaluate(records), records) == text
