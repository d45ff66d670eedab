"""The case studies on records made by hand, of a model whose damage is known; nothing here needs torch."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

pytest.importorskip("scipy")
pytest.importorskip("matplotlib")

from validating import BERT, LLAMA, tiny_spec

from costmodel.decomposition.factors import break_even_rank
from costmodel.model import ModelSpec
from studies.paper.figures import draw
from studies.paper.findings import Finding, Twin, findings, twins
from studies.paper.points import PAPER_SETS, case_studies, factored, matched, paper_sets, removed, spread
from studies.paper.report import to_json, to_markdown
from studies.paper.results import Results
from studies.paper.tests_of_claims import Difference, holm, paired_p, verdict
from validate.errors import RunError
from validate.plans.case import params_of, strata_of
from validate.quality.case import DENSE, QualityCase
from validate.quality.records import CheckpointRecord, QualityRecord, TaskRecord, TextRecord
from validate.store.digests import Source

ROOT = Path(__file__).resolve().parents[2]

EIGHT = {**LLAMA, "num_hidden_layers": 8}
BLOCKS, ITEMS = 16, 120


def damage(spec: ModelSpec, case: QualityCase) -> float:
    """A site costs its share of the parameters times what its rank lacks, the first layer four times that, whitened
    half; neighbours that are both touched cost a tenth more."""
    total, layers = 0.0, set(case.decomposition.dropped)
    for site, factor in case.decomposition.factors.items():
        tensor = spec.tensor(site.tensor)
        lacks = 1 - factor.ranks[0] / (1 + break_even_rank(tensor.out_features, tensor.in_features, "svd"))
        total += tensor.weight_params / spec.params_per_layer * lacks * (4 if site.layer == 0 else 1)
        layers.add(site.layer)
    total += sum(4.0 if layer == 0 else 1.0 for layer in case.decomposition.dropped)
    total += 0.1 * sum(layer + 1 in layers for layer in layers)
    return total * (0.5 if case.kind == "whitened" else 1.0)


def record(spec: ModelSpec, config: dict[str, Any], case: QualityCase, index: int) -> QualityRecord:
    noise = np.random.default_rng(index).normal(0, 0.02, BLOCKS)
    nll = 100 * (3 + np.linspace(0, 1, BLOCKS) + damage(spec, case) + (0 if case.is_dense else noise))
    text = TextRecord(
        kind="causal",
        source=Source(name="t", sha256="0"),
        length=101,
        tokens=[100] * BLOCKS,
        nll=nll.tolist(),
        kl=[0.0] * BLOCKS,
        flips=[0] * BLOCKS,
        hits=[0] * BLOCKS,
    )
    return QualityRecord(
        id=case.id(spec, "model"),
        index=index,
        status="ok",
        config=case.decomposition.to_json(),
        origin=case.origin,
        model=CheckpointRecord(name="tiny", sha256="model", config=config, num_layers=spec.num_layers),
        factors=case.kind,
        strata=strata_of(spec, case.decomposition),
        params=params_of(spec, case.decomposition),
        text=text,
        tasks=(task(spec, case),),
        seconds={},
        environment={},
        started="",
    )


def task(spec: ModelSpec, case: QualityCase) -> TaskRecord:
    """Items of rising difficulty: fewer are right the more is damaged, down to chance."""
    right = round(ITEMS * (0.25 + 0.55 * np.exp(-damage(spec, case))))
    return TaskRecord(
        name="riddles",
        group="riddles",
        kind="multiple-choice",
        items=ITEMS,
        prompts="p",
        chance=0.25,
        metrics={"acc": "1" * right + "0" * (ITEMS - right)},
    )


@pytest.fixture(scope="module")
def measured() -> tuple[ModelSpec, list[QualityRecord]]:
    spec = tiny_spec(EIGHT)
    cases = {case.id(spec, "model"): case for case in (DENSE, *(point.case for point in case_studies(spec)))}
    return spec, [record(spec, EIGHT, case, index) for index, case in enumerate(cases.values())]


@pytest.fixture(scope="module")
def results(measured: tuple[ModelSpec, list[QualityRecord]]) -> Results:
    spec, records = measured
    return Results(case_studies(spec), records)


@pytest.fixture(scope="module")
def found(results: Results) -> list[Finding]:
    return findings(results)


@pytest.fixture(scope="module")
def pairs(results: Results) -> list[Twin]:
    return twins(results)


def test_layers_are_spread() -> None:
    spec = tiny_spec(EIGHT)
    assert [spread(spec, count) for count in (1, 2, 3, 4)] == [[4], [2, 6], [2, 4, 6], [1, 3, 5, 7]]
    assert spread(spec, 7) == list(range(1, 8))
    assert spread(spec, 8) == list(range(8))


@pytest.mark.parametrize("config", [EIGHT, {**BERT, "num_hidden_layers": 12}], ids=["llama", "bert"])
def test_studies_fit_the_model_and_budgets_match(config: dict[str, Any]) -> None:
    spec = tiny_spec(config)
    points = case_studies(spec)
    for point in points:
        point.case.decomposition.check(spec)
        assert not point.case.decomposition.above_break_even(spec)
    sizes: dict[str, list[float]] = {}
    for point in points:
        if point.study == "budget" and point.series == "plain":
            sizes.setdefault(point.panel, []).append(removed(spec, point.case.decomposition))
    assert len(sizes) == 3
    for group in sizes.values():
        assert len(group) >= 3
        assert max(group) - min(group) < 0.012  # ranks of a tiny model are coarse
    assert {point.study for point in points} == {"rank", "tensor", "count", "position", "spacing", "budget"}


def test_the_papers_sets_are_its_own_at_its_depth_and_keep_their_share_of_another() -> None:
    def sets(num_layers: int) -> list[tuple[int, ...]]:
        spec = tiny_spec({**LLAMA, "num_hidden_layers": num_layers})
        found = [p.case.decomposition for p in paper_sets(spec) if p.series == "plain"]
        assert all({factor.ranks[0] for factor in each.factors.values()} == {1} for each in found)
        return [tuple(sorted({site.layer for site in each.factors})) for each in found]

    assert sets(32) == list(PAPER_SETS)
    assert [len(layers) for layers in sets(32)] == [2, 3, 5, 7, 11, 16, 20, 25, 28, 32]
    assert sets(30)[:4] == [(2, 27), (2, 16, 29), (2, 7, 13, 19, 24), (4, 7, 11, 15, 19, 22, 26)]
    assert sets(30)[-1] == tuple(range(30))
    assert not sets(8)


def test_the_papers_sets_have_claims_a_figure_and_a_table(tmp_path: Path) -> None:
    config = {**LLAMA, "num_hidden_layers": 16}
    spec = tiny_spec(config)
    points = list(paper_sets(spec))
    cases = {case.id(spec, "model"): case for case in (DENSE, *(point.case for point in points))}
    deep = Results(points, [record(spec, config, case, index) for index, case in enumerate(cases.values())])
    claims = [each for each in findings(deep) if each.study == "sets" and each.measure == "nll"]
    assert len(claims) == 2 * 6  # three sets are one at half the depth, and nothing is left where all are dropped
    assert all(each.verdict == "holds" for each in claims if each.claim.startswith("whitened"))  # half the damage
    assert [each.point.x for each in deep.of("sets", series="dropped")][1] == "1, 8, 15"
    page = to_markdown(deep, findings(deep), [], {"sets": "sets.png"})
    assert "| 1, 8, 15 | " in page
    assert deep.of("sets", series="plain")[1].change.value < deep.of("sets", series="plain")[-1].change.value


def test_budgets_compare_like_with_like(found: list[Finding]) -> None:
    budget = [each for each in found if each.study == "budget" and each.measure == "nll"]
    alike = [each for each in budget if each.claim.endswith(("in neither)", "in both)"))]
    for where in ("neither", "both", "the second alone"):
        assert sum(each.claim.endswith(f"(the first layer in {where})") for each in budget) >= 12
    # damage follows size alone but for the first layer and neighbours: only the confounded claim differs by much
    inner = [each.difference.value for each in alike if "plain" in each.claim and "neither" in each.claim]
    mixed = [each.difference.value for each in budget if "plain" in each.claim and "alone" in each.claim]
    assert max(map(abs, inner)) < 0.75 < max(mixed)
    for each in alike:
        few, many = each.claim.removesuffix(")").split(" costs less than ")
        assert ("layer 0" in few or "layers 0, " in few) == ("but the first" not in many)


def test_a_size_beyond_a_tensor_has_no_match() -> None:
    spec = tiny_spec(EIGHT)
    assert matched(spec, ["k_proj"], 0.5) is None
    found = matched(spec, spec.groups["all"], 0.5)
    assert found is not None
    assert removed(spec, found) == pytest.approx(0.5, abs=0.02)
    assert set(factored(spec, [1], ["q_proj"], None).factors.values()) == {
        *factored(spec, [1], ["q_proj"], 0.001).factors.values()
    }


def test_findings_recover_what_was_put_in(results: Results, found: list[Finding], pairs: list[Twin]) -> None:
    verdicts = {each.claim: each.verdict for each in found if each.measure == "nll"}
    assert verdicts["plain: the first layer costs more than the middle on average"] == "holds"
    assert verdicts["plain: the last layer costs more than the middle on average"] != "holds"
    assert verdicts["plain: in all layers, half of break-even costs less than rank 1"] == "holds"
    spacing = [each for each in found if each.study == "spacing" and each.claim.startswith("plain")]
    for each in spacing:
        if each.measure == "nll":
            assert each.verdict == "holds"
            assert each.difference.value == pytest.approx(0.1, abs=0.03)
    assert (
        results.difference(results.of("count", series="dropped")[:1], results.of("position", series="plain")[4:5]).value
        > 0
    )
    assert len(pairs) > 80
    assert all(each.saved.value > 0 for each in pairs if each.plain.change.value > 0.2)


def test_each_tensor_is_judged_by_its_size(results: Results, found: list[Finding]) -> None:
    """Damage is by size but for neighbours, which weigh the more the smaller a tensor is."""
    claims = {each.claim: each for each in found if each.study == "tensor" and each.measure == "nll"}
    assert len(claims) == 2 * 2 * (7 + 1)
    at = {each.point.x: each for each in results.of("tensor", "rank 1", "plain")}
    for name, verdict_of in (("k_proj", "fails"), ("down_proj", "holds")):
        each = claims[
            f"plain, rank 1: {name} costs less than the other tensors on average, per % of parameters removed"
        ]
        rates = {other: at[other].change.value / (100 * at[other].removed) for other in at if "group" not in str(other)}
        own = rates.pop(name)
        assert each.difference.value == pytest.approx(sum(rates.values()) / 6 - own, rel=1e-9)
        assert each.verdict == verdict_of
    group = claims["plain, rank 1: the attention group costs less than the MLP group, per % of parameters removed"]
    assert group.verdict == "fails"


def test_accuracy_has_intervals_and_claims(results: Results, found: list[Finding]) -> None:
    dense = results.accuracy_of_dense()["riddles"]
    assert dense.value == pytest.approx(0.8)
    assert dense.low is not None
    assert dense.low < 0.8
    for each in results.of("rank"):
        accuracy = each.accuracy["riddles"]
        assert accuracy.change.value == pytest.approx(accuracy.share.value - 0.8)
        assert accuracy.share.low is not None
        assert accuracy.share.low < accuracy.share.value
    claim = "plain: the first layer costs more than the middle on average"
    first = next(each for each in found if (each.claim, each.measure) == (claim, "riddles"))
    middle = [results.singles("plain")[layer].accuracy["riddles"].share.value for layer in range(1, 7)]
    own = results.singles("plain")[0].accuracy["riddles"].share.value
    assert first.difference.value == pytest.approx(sum(middle) / 6 - own)
    assert first.verdict == "holds"
    assert first.line().endswith("points of riddles")
    assert len([each for each in found if each.measure == "riddles"]) == len(found) / 2


def test_a_study_is_one_family_of_tests(found: list[Finding], pairs: list[Twin]) -> None:
    for study in {each.study for each in found}:
        family = [each for each in found if each.study == study]
        assert [each.p_holm for each in family] == holm([each.difference.p for each in family])
        assert {each.measure for each in family} == {"nll", "riddles"}
    assert all(each.p_holm < 0.05 for each in found if each.verdict != "undecided")
    alone = [each for each in found if each.difference.p < 0.05 <= each.p_holm]
    assert alone  # decided one by one, not together
    assert {each.verdict for each in alone} == {"undecided"}
    assert [each.p_holm for each in pairs] == holm([each.saved.p for each in pairs])


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([]) == []


def test_false_verdicts_are_rare_where_nothing_differs() -> None:
    """Forty claims about noise, two hundred times: some p below 0.05 nearly always, some verdict in one of twenty."""
    source, counts = np.random.default_rng(0), np.full(16, 100.0)
    noise = source.normal(0, 1, (200, 40, 16)) * counts
    values = [[paired_p(row, counts) for row in family] for family in noise]
    assert np.mean([min(family) < 0.05 for family in values]) > 0.8
    assert np.mean([min(holm(family)) < 0.05 for family in values]) == pytest.approx(0.05, abs=0.035)


def test_paired_p_is_students_and_has_ends() -> None:
    from scipy import stats

    sample = np.random.default_rng(1).normal(0.3, 1, 30)
    assert paired_p(sample, np.ones(30)) == pytest.approx(stats.ttest_1samp(sample, 0).pvalue, rel=1e-9)
    assert paired_p(np.zeros(30), np.ones(30)) == 1.0
    assert paired_p(np.ones(1), np.ones(1)) == 1.0
    assert paired_p(np.ones(5), np.ones(5)) == 1 / 16
    assert verdict(Difference(1.0, 0.5, 1.5, 0.001), 0.2) == "undecided"
    assert verdict(Difference(1.0, -0.1, 1.5, 0.001), 0.01) == "undecided"
    assert verdict(Difference(-1.0, -1.5, -0.5, 0.001), 0.01) == "fails"


@pytest.mark.slow
def test_pages_and_figures(
    measured: tuple[ModelSpec, list[QualityRecord]],
    results: Results,
    found: list[Finding],
    pairs: list[Twin],
    tmp_path: Path,
) -> None:
    spec, _ = measured
    names = draw(results, tmp_path / "figures")
    studies = {"rank", "tensor", "count", "position", "spacing", "budget", "whitening"}
    assert set(names) == studies | {"accuracy"}
    for name in names.values():
        assert (tmp_path / "figures" / name).read_bytes().startswith(b"\x89PNG")
        assert (tmp_path / "figures" / name).with_suffix(".svg").stat().st_size > 5_000
    page = to_markdown(results, found, pairs, {study: f"figures/{name}" for study, name in names.items()})
    for study in names:
        assert f"](figures/{study}.png)" in page
    assert "| plain: the first layer costs more than the middle on average | +" in page
    assert "Holm's correction" in page
    assert "Accuracy on `riddles`" in page
    assert "| riddles | 120 | 80.0 % [72.0, 86.2] | 25.0 % |" in page
    data = json.loads(json.dumps(to_json(results, found, pairs), allow_nan=False))
    assert data["schema"] == 2
    assert len(data["points"]) == len(case_studies(spec))
    assert set(data["points"][0]["accuracy"]["riddles"]) == {"share", "change"}
    assert {each["verdict"] for each in data["findings"]} <= {"holds", "fails", "undecided"}
    without = to_markdown(results, found, pairs, {study: "a.png" for study in studies})
    assert "the paper's measure" not in without


def test_records_without_tasks_have_no_accuracy(measured: tuple[ModelSpec, list[QualityRecord]]) -> None:
    spec, records = measured
    points = case_studies(spec)[:8]
    bare = Results(points, [msgspec.structs.replace(each, tasks=()) for each in records])
    assert (bare.measures, bare.tasks, bare.found[0].accuracy) == (["nll"], {}, {})
    other = [records[0], *(msgspec.structs.replace(each, tasks=()) for each in records[1:])]
    with pytest.raises(RunError, match="a case has no result"):
        Results(points, other)


def test_a_case_without_a_record_is_named(measured: tuple[ModelSpec, list[QualityRecord]]) -> None:
    spec, records = measured
    with pytest.raises(RunError, match=r"a case has no result: got 'rank plain 0\.0'; not measured"):
        Results(case_studies(spec), records[:1])


@pytest.mark.slow
def test_the_script_measures_and_writes(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    from quality_cases import OTHER_TEXT, TEXT, checkpoint

    model = checkpoint(tmp_path / "llama", LLAMA)
    (tmp_path / "text.txt").write_text(TEXT)
    (tmp_path / "calibration.txt").write_text(OTHER_TEXT * 5)
    start = [
        sys.executable,
        "-m",
        "studies.paper.run",
        "--model",
        str(model),
        "--text",
        str(tmp_path / "text.txt"),
        "--calibration-text",
        str(tmp_path / "calibration.txt"),
        "--out",
        str(tmp_path / "out"),
        "--blocks",
        "3",
        "--threads",
        "1",
    ]
    first = subprocess.run([*start, "--stop-after", "1"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert first.returncode == 1
    assert "configurations are not measured yet; the same command continues" in first.stderr
    run = subprocess.run(start, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (run.returncode, run.stderr) == (0, "progress: loading torch and transformers\n")
    assert (tmp_path / "out" / "case_studies.md").read_text().startswith("# Case studies on llama")
    assert json.loads((tmp_path / "out" / "case_studies.json").read_text())["findings"]
