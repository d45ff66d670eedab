"""The predictor recovers known coefficients, its intervals hold, and explore reads its sums as they are."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import math
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

pytest.importorskip("scipy")
pytest.importorskip("safetensors")
pytest.importorskip("matplotlib")

from cases import few_or_all
from predicting import (
    CONFIG,
    TRUTH,
    inputs_of_ranks,
    made_record,
    made_records,
    made_sensitivity,
    write_records,
)
from schemas import checker
from scipy import stats

from costmodel.cli import cli as costmodel_cli
from costmodel.cli import run
from costmodel.decomposition.factors import Decomposition
from costmodel.decomposition.text import Rank
from costmodel.explore.quality import load_quality
from costmodel.space.make import design_space
from costmodel.space.settings import parse_ranks
from validate.cli import cli
from validate.cli.quality_fit_report import print_fit
from validate.errors import FitError, RecordError, RunError
from validate.predictor import additivity, crossval
from validate.predictor import fit as fit_module
from validate.predictor.crossval import candidates, nested, random_folds
from validate.predictor.evidence import Evidence, read_evidence
from validate.predictor.figures import form_looks
from validate.predictor.fit import CROSS, OTHERS, PredictorFit, _without, fit_predictor
from validate.predictor.fitting import fit_score
from validate.predictor.interval import Band
from validate.predictor.nulls import null_predictions
from validate.predictor.page import predictor_page
from validate.predictor.parts import Cover, families, find_covers
from validate.predictor.quality_file import quality_content, score_of_change
from validate.predictor.score import Form, compress, expand
from validate.predictor.task_link import fit_tasks
from validate.predictor.weight_maps import WeightDamage
from validate.quality.case import QualityCase
from validate.quality.given import given_cases
from validate.quality.plan import ADVISED, sample_cases
from validate.quality.records import CalibrationSource
from validate.sensitivity.file import save_sensitivity
from validate.sensitivity.quality_file import quality_bytes

FULL = Form(name="full", measure="output", layers=True, prior=True)
STATES = dataclasses.replace(TRUTH, shared=0.6, pair=0.3)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Records with tasks, the last 20 not sampled, and a sensitivity file beside them."""
    made, found = tmp_path_factory.mktemp("predictor"), made_sensitivity()
    save_sensitivity(made / "tiny.sensitivity", found)
    records = made_records(found, 180, tasks=True)
    records[160:] = [msgspec.structs.replace(record, origin="given") for record in records[160:]]
    write_records(made / "records", records)
    return made


@pytest.fixture(scope="module", params=few_or_all([(5, 8)], [range(9)]), ids=["few-forms", "all-forms"])
def forms(request: pytest.FixtureRequest) -> list[int]:
    """Places of the forms that are tried, among all candidates."""
    return list(request.param)


@pytest.fixture
def few_folds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crossval, "OUTER", 4)
    monkeypatch.setattr(crossval, "INNER", 3)


@pytest.fixture(scope="module")
def fit(folder: Path, forms: list[int]) -> PredictorFit:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(additivity, "REFITS", 20)
        patch.setattr(crossval, "OUTER", 5)
        patch.setattr(fit_module, "candidates", lambda evidence: [candidates(evidence)[place] for place in forms])
        return fit_predictor(read_evidence([folder / "records"], made_sensitivity()))


@pytest.fixture(scope="module")
def printed(folder: Path, fit: PredictorFit) -> dict[str, Any]:
    """What the command prints of this fit as JSON; its quality file is beside the records."""
    words = [str(folder / "records"), "--sensitivity", str(folder / "tiny.sensitivity"), "--ranks", "25%,50%,75%"]
    for option, name in {"--out": "quality.json", "--plot": "figure.svg", "--parts": "parts.json"}.items():
        words += [option, str(folder / name)]
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(io.StringIO()) as out:
        patch.setattr(fit_module, "fit_predictor", lambda evidence, show: fit)
        assert run(cli, ["quality", "fit", *words, "--parts-of", "10", "--format", "json"]) == 0
    found: dict[str, Any] = json.loads(out.getvalue())
    checker("predictor").validate(found)
    return found


@pytest.fixture(scope="module")
def content(folder: Path, printed: dict[str, Any]) -> dict[str, Any]:
    """The quality file."""
    found: dict[str, Any] = json.loads((folder / printed["quality_file"]).read_text())
    return found


def test_known_coefficients_are_recovered() -> None:
    found = made_sensitivity()
    evidence = evidence_of(found, count=500, noise=0.0)
    inputs = inputs_of_ranks(found, evidence.points.ranks)
    score = fit_score(FULL, inputs, evidence.points.change)
    assert score.predict(inputs) == pytest.approx(evidence.points.change, rel=0.1, abs=0.002)
    assert score.exponent == pytest.approx(TRUTH.exponent, abs=0.25)
    assert np.ptp(score.layer - TRUTH.layer) < 0.4
    assert (score.prior, score.drop) == (pytest.approx(TRUTH.prior, abs=0.15), pytest.approx(TRUTH.drop, abs=0.2))
    assert (score.ceiling, score.bend) == (pytest.approx(TRUTH.ceiling, rel=0.2), pytest.approx(TRUTH.bend, abs=0.1))


def test_a_sum_without_link_is_fitted_as_one() -> None:
    found = made_sensitivity()
    truth = dataclasses.replace(TRUTH, ceiling=1e9, bend=1.0)
    evidence = evidence_of(found, count=300, noise=0.0, truth=truth)
    inputs = inputs_of_ranks(found, evidence.points.ranks)
    score = fit_score(FULL, inputs, evidence.points.change, straight=True)
    assert score.bend == 1.0
    assert score.predict(inputs) == pytest.approx(evidence.points.change, rel=0.05, abs=0.002)
    assert score.score(inputs) == pytest.approx(score.predict(inputs), rel=1e-4)


def test_interactions_that_are_there_are_worth_their_coefficients() -> None:
    found = made_sensitivity()
    evidence = evidence_of(found, count=400, noise=0.02, truth=STATES)
    inputs, change = inputs_of_ranks(found, evidence.points.ranks), evidence.points.change
    with_states = fit_score(dataclasses.replace(FULL, shared=True, pair=True), inputs, change)
    without = fit_score(FULL, inputs, change)
    error, other = (
        np.mean((compress(each.predict(inputs)) - compress(change)) ** 2) for each in (with_states, without)
    )
    assert error < 0.5 * other
    assert with_states.shared == pytest.approx(STATES.shared, abs=0.1)
    assert with_states.pair == pytest.approx(STATES.pair, abs=0.15)


def test_more_damage_never_predicts_less() -> None:
    found, rng = made_sensitivity(), np.random.default_rng(0)
    ranks = rng.integers(1, 30, (200, found.spec.num_layers, len(found.spec.tensors)))
    for score in (TRUTH, STATES):
        before = score.predict(inputs_of_ranks(found, ranks))
        lower = np.maximum(ranks - rng.integers(0, 5, ranks.shape), 1)
        after = score.predict(inputs_of_ranks(found, lower))
        assert (after >= before - 1e-12).all()
        assert (after > before).mean() > 0.9


def test_held_out_predictions_rank_and_cover(fit: PredictorFit) -> None:
    assert fit.spearman is not None
    assert fit.spearman > 0.98
    assert 0.82 <= fit.coverage <= 0.97
    rows = [row for row in fit.errors if row["protocol"] == CROSS]
    own = {row["band"]: row for row in rows if row["model"] == "predictor"}
    for row in rows:
        if row["model"] != "predictor" and row["judged"]:
            assert row["mean_abs"] > 2 * own[row["band"]]["mean_abs"]
            assert row["difference_low"] <= row["difference"] <= row["difference_high"] < 0
            assert row["ratio"] == pytest.approx(own[row["band"]]["mean_abs"] / row["mean_abs"])
    strata = {row["protocol"] for row in fit.errors} - {CROSS, OTHERS}
    assert {"without form svd", "without form tucker", "without layers 1 layer"} <= strata


def test_errors_are_counted_on_what_was_sampled(fit: PredictorFit) -> None:
    """What was picked is fitted to, and has a line of its own."""
    assert len(fit.evidence.points) == 179
    counts = {row["protocol"]: row["points"] for row in fit.errors if row["band"] == "all"}
    assert (counts[CROSS], counts[OTHERS]) == (159, 20)
    assert sum(count for name, count in counts.items() if name.startswith("without form")) == 159
    change, held_out = fit.evidence.points.change[:159], fit.held_out
    (row,) = (row for row in fit.errors if (row["protocol"], row["band"], row["model"]) == (CROSS, "all", "predictor"))
    assert row["mean_abs"] == pytest.approx(np.abs(held_out.predicted[:159] - change).mean())
    assert row["spearman"] == fit.spearman == stats.spearmanr(held_out.predicted[:159], change).statistic
    inside = (held_out.low[:159] <= change) & (change <= held_out.high[:159])
    assert row["coverage"] == fit.coverage == pytest.approx(inside.mean())
    assert [row["counted"] for row in fit.tasks] == [159]
    singles = {row["points"] for row in fit.additivity if (row["against"], row["group"]) == ("fitted sum", "sites")}
    assert sum(singles) <= 159


def test_relatives_of_what_is_held_out_whole_are_not_fitted_to() -> None:
    """Other measurements of them change nothing."""
    evidence = evidence_of(made_sensitivity(gradients=False), count=120)
    points, tried = evidence.points, candidates(evidence)[0]
    forms = np.array(points.strata("form"))
    related = np.arange(len(points))
    poisoned = np.flatnonzero(forms == "tucker")[:15]
    related[poisoned] = np.flatnonzero(forms == "svd")[0]
    other = points.change.copy()
    other[poisoned] = 5.0
    changed = dataclasses.replace(evidence, points=dataclasses.replace(points, change=other))
    before, after, apart = (
        [row for row in _without(each, tried, "form", family, lambda: None) if row["protocol"] == "without form svd"]
        for each, family in ((evidence, related), (changed, related), (changed, np.arange(len(points))))
    )
    assert before == after
    assert before != apart


def test_families_are_resampled_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the bootstrap of the interactions."""
    evidence = evidence_of(made_sensitivity(gradients=False), count=61)
    drawn: list[Any] = []

    def fake(form: Form, inputs: Any, change: Any) -> Any:
        drawn.append(np.bincount(change.astype(int), minlength=60))
        return TRUTH

    monkeypatch.setattr(additivity, "fit_score", fake)
    additivity.interaction_rows(candidates(evidence)[0], np.arange(60.0), np.repeat(np.arange(30), 2))
    assert len(drawn) == 1 + additivity.REFITS == 1001
    assert all((counts[::2] == counts[1::2]).all() for counts in drawn)
    assert any(counts.max() > 1 for counts in drawn)


def test_an_overfitted_form_would_be_seen(few_folds: None) -> None:
    """Changes that have nothing to do with the sites: no held-out rank correlation, and intervals that still hold."""
    found = made_sensitivity(gradients=False)
    records = made_records(found, 80)
    values = np.random.default_rng(3).permutation([change_of(record) for record in records[1:]])
    shuffled = [
        records[0],
        *(
            made_record(case_of(record, found), found.spec, float(value), 1)
            for record, value in zip(records[1:], values, strict=True)
        ),
    ]
    evidence = evidence_from(found, shuffled)
    change = evidence.points.change
    held_out, _ = nested(candidates(evidence)[:2], change, np.arange(len(change)))
    assert abs(stats.spearmanr(held_out.predicted, change).statistic) < 0.4
    assert ((held_out.low <= change) & (change <= held_out.high)).mean() > 0.75


def test_what_is_held_out_is_not_looked_at(few_folds: None) -> None:
    """Other measurements in a fold change no prediction of that fold, the null models' neither."""
    evidence = evidence_of(made_sensitivity(gradients=False), count=80)
    points, tried = evidence.points, candidates(evidence)[:2]
    first, folds = nested(tried, points.change, np.arange(len(points)))
    out = folds == 3
    other = np.where(out, 5.0, points.change)
    second, _ = nested(tried, other, np.arange(len(points)))
    for name in ("predicted", "low", "high"):
        assert (getattr(first, name)[out] == getattr(second, name)[out]).all()
        assert (getattr(first, name)[~out] != getattr(second, name)[~out]).any()
    changed = dataclasses.replace(evidence, points=dataclasses.replace(points, change=other))
    before, after = (null_predictions(each, folds) for each in (evidence, changed))
    for name, values in before.items():
        assert (values[out] == after[name][out]).all()
        assert (values[~out] != after[name][~out]).any()


def test_a_task_falls_to_its_floor(fit: PredictorFit) -> None:
    (link,), (row,) = fit.links, fit.tasks
    assert link.scale == pytest.approx(0.8, rel=0.2)
    assert link.accuracy(np.array([-1.0, 0.0, 100.0])) == pytest.approx([link.dense, link.dense, 0.25])
    assert row["mean_abs"] < 0.5 * row["mean_abs_constant"]
    assert row["difference_high"] < 0


def test_accuracies_have_intervals(
    fit: PredictorFit, content: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    (link,), (row,) = fit.links, fit.tasks
    assert 0.82 <= row["coverage"] <= 0.97
    assert 2 * row["mean_abs"] < row["interval_width"] < 8 * row["mean_abs"]
    (task,) = content["tasks"]
    low, high = link.interval(np.array(task["nll_change"]))
    assert (task["low"], task["high"], task["level"]) == (low.tolist(), high.tolist(), 0.9)
    assert all(
        0 <= below < value < above <= 1
        for below, value, above in zip(task["low"], task["accuracy"], task["high"], strict=True)
    )
    print_fit(fit, content["link"], Path("quality.json"))
    shown = capsys.readouterr().out
    for key in ("difference", "difference_low", "difference_high"):
        assert f"{100 * row[key]:+.2f}" in shown


def test_intervals_of_accuracies_do_not_see_their_fold() -> None:
    """A fold that is off by much is not covered, though its own residuals would make room for it."""
    found = made_sensitivity(gradients=False)
    evidence = evidence_from(found, made_records(found, 101, tasks=True))
    change = evidence.points.change
    alone = np.arange(len(change))
    folds = alone // 40
    guess = np.where(folds == 1, change + 3.0, change)
    (link,), (row,) = fit_tasks(evidence, guess, folds, alone)
    assert 0.45 < row["coverage"] < 0.72
    assert (link.residual > 0.2).sum() > 20


def test_tasks_are_of_those_that_were_asked() -> None:
    """A second folder that was not asked joins in; too few answers give no link."""
    found = made_sensitivity()
    asked, silent = made_records(found, 100, tasks=True), made_records(found, 130, tasks=False)
    evidence = evidence_from(found, [*asked, *silent])
    change = evidence.points.change
    folds = random_folds(np.arange(len(change)), 10, 0)
    alone = np.arange(len(change))
    (link,), (row,) = fit_tasks(evidence, change, folds, alone)
    assert (len(change), row["points"]) == (129, 99)
    assert link.scale == pytest.approx(0.8, rel=0.2)
    assert fit_tasks(evidence_from(found, [*asked[:30], *silent]), change, folds, alone) == ([], [])


def test_explore_adds_up_what_the_predictor_does(folder: Path, fit: PredictorFit, content: dict[str, Any]) -> None:
    """The same configurations through the quality file and through the fitted score, interactions included."""
    evidence = fit.evidence
    space = design_space(evidence.spec, "per-site", ranks=[Rank.parse(each) for each in ("25%", "50%", "75%")])
    choices = np.random.default_rng(0).integers(0, 4, (50, *space.free.shape))
    table = load_quality(str(folder / "quality.json"), space)
    assert table.num_states == 1 or fit.chosen.candidate.form.states
    for score, form in ((STATES, dataclasses.replace(FULL, shared=True, pair=True)), (TRUTH, FULL)):
        made = quality_content(
            evidence, form, score, fit.band, kind="svd", ranks=[Rank.parse(each) for each in ("25%", "50%", "75%")]
        )
        (folder / "made.json").write_bytes(quality_bytes(made))
        table = load_quality(str(folder / "made.json"), space)
        ranks = np.array(space.ranks)  # (tensors, R)
        chosen = np.where(choices > 0, ranks[np.arange(7), np.maximum(choices - 1, 0)], -1)
        expected = score.score(inputs_of_ranks(evidence.sensitivity, chosen))
        assert table.ticks(choices) * table.quantum == pytest.approx(expected, rel=1e-9)
    assert score_of_change(TRUTH, float(TRUTH.link(np.array([0.3]))[0])) == pytest.approx(0.3)


def test_the_file_says_what_its_sums_are(content: dict[str, Any]) -> None:
    assert content["model"] == "tiny"
    assert "score" in content["metric"]
    link = content["link"]
    back = link["ceiling"] * (1 - np.exp(-((np.array(link["score"]) / link["ceiling"]) ** link["bend"])))
    assert back == pytest.approx(link["nll_change"])
    assert all(
        low < change < high for low, change, high in zip(link["low"], link["nll_change"], link["high"], strict=True)
    )
    assert len(content["dropped_layers"]) == 6
    assert len(content["entries"]) == 6 * 7 * 3
    assert content["provenance"]["factors"] == "plain"
    assert {row["model"] for row in content["errors"]} >= {"predictor", "constant", "line in parameters removed"}


def test_explore_finds_a_frontier(folder: Path, content: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    model = folder / "tiny"
    model.mkdir(exist_ok=True)
    (model / "config.json").write_text(json.dumps(CONFIG))
    capsys.readouterr()
    words = [
        "--model",
        str(model),
        "--hw",
        "a100-sxm-80gb",
        "--ranks",
        "25%,75%",
        "--space",
        "per-site",
        "--objectives",
        "params,quality",
        "--quality",
        str(folder / "quality.json"),
        "--format",
        "json",
    ]
    assert run(costmodel_cli, ["explore", *words]) == 0
    assert len(json.loads(capsys.readouterr().out)["frontier"]) > 5


WITHOUT_TORCH = """
import sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "transformers", "tensorly", "lm_eval"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Absent())
from validate.cli import main
from validate.predictor import additivity, crossval, fit
additivity.REFITS, crossval.OUTER, crossval.INNER, every = 4, 3, 3, fit.candidates
fit.candidates = lambda evidence: every(evidence)[5:6]
main(sys.argv[1:])
"""


def test_the_command_needs_no_torch(folder: Path, tmp_path: Path) -> None:
    write_records(tmp_path / "records", made_records(made_sensitivity(), 90, tasks=True))
    words = ["records", "--sensitivity", str(folder / "tiny.sensitivity"), "--ranks", "25%", "--out", "quality.json"]
    words += ["--plot", "figure.svg", "--parts", "parts.json", "--format", "json"]
    command = [sys.executable, "-c", WITHOUT_TORCH, "quality", "fit", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["quality_file"] == "quality.json"
    assert {path.name for path in tmp_path.iterdir()} >= {"quality.json", "figure.svg", "parts.json"}


def test_the_page_has_both_pictures_and_a_map(fit: PredictorFit, printed: dict[str, Any]) -> None:
    damage = WeightDamage(Path(printed["quality_file"]), fit.evidence.spec, parse_ranks("25%,50%,75%"))
    sensitivity = damage.at_reference()
    text = predictor_page(fit, sensitivity)
    assert text.count("data:image/svg+xml") == 4
    assert text.count("<title>layer ") == len(fit.evidence.sensitivity.sites)


def test_no_two_forms_look_alike() -> None:
    forms = ["svd", "drop+svd", "drop", "drop+tucker", "tucker", "svd+tucker", "drop+svd+tucker", "svd", "dense"]
    looks = form_looks(forms)
    assert len(set(looks.values())) == len(looks) == 8
    assert list(looks)[:3] == ["drop", "svd", "tucker"]


def test_what_is_printed(
    fit: PredictorFit, printed: dict[str, Any], content: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    assert printed["predictor"]["points"] == 179
    assert (printed["predictor"]["origins"], printed["predictor"]["counted"]) == ({"sample": 159, "given": 20}, 159)
    assert printed["predictor"]["spearman"] == fit.spearman
    assert printed["errors"] == content["errors"]
    assert printed["task_errors"][0]["task"] == "toy"
    print_fit(fit, content["link"], Path("quality.json"))
    out = capsys.readouterr().out
    for words in (
        "Held out whole",
        "stable rank / rank",
        "without layers all layers",
        "rank correlation",
        "toy",
        "159 sampled and 20 other",
        "20 other configurations, not sampled: mean error",
    ):
        assert words in out


def test_a_fitted_sum_is_not_taken_for_parts(fit: PredictorFit, capsys: pytest.CaptureFixture[str]) -> None:
    """What strengthens and masks is said of measured parts alone."""
    fitted = [row for row in fit.additivity if row["against"] == "fitted sum"]
    link: dict[str, list[float]] = {"nll_change": [], "score": []}
    print_fit(dataclasses.replace(fit, additivity=fitted), link, Path("quality.json"))
    out = capsys.readouterr().out
    assert "no configuration's parts were measured; see --parts" in out
    assert "Misfit of a fitted sum over sites" in out
    assert "strengthen each other, below" not in out
    parts = [{**row, "against": "parts"} for row in fitted]
    print_fit(dataclasses.replace(fit, additivity=[*fitted, *parts]), link, Path("quality.json"))
    assert "above 0, damages strengthen each other, below 0 they mask" in " ".join(capsys.readouterr().out.split())


def test_a_whole_is_held_out_with_its_parts() -> None:
    found = made_sensitivity()
    kept = [record for record in made_records(found, 130) if not record.config["drop"]]
    evidence = evidence_from(found, kept[:101])
    covers = [Cover(whole=2, parts=(0, 1)), Cover(whole=3, parts=(0, 4)), Cover(whole=9, parts=(7, 8))]
    family = families(evidence, covers)
    assert len(set(family.tolist())) == 100 - 4 - 2
    folds = random_folds(family, 10, 0)
    assert len({folds[place] for place in (0, 1, 2, 3, 4)}) == 1
    assert len({folds[place] for place in (7, 8, 9)}) == 1
    assert set(np.bincount(folds)) == {10}


def test_dropped_layers_are_not_all_of_one_family() -> None:
    """Though every single one was measured; halves are held out with their whole, whatever else makes it up."""
    found = made_sensitivity()
    sets = [{0, 1, 2, 3}, {0, 2}, {1, 3}, {0, 5}, {1, 2}, {3, 4, 5}, *({layer} for layer in range(6))]
    cases = [QualityCase(decomposition=Decomposition(dropped=frozenset(each))) for each in sets]
    records = [made_record(case, found.spec, 0.1, place) for place, case in enumerate(cases, start=200)]
    kept = [record for record in made_records(found, 100) if not record.config["drop"]]
    evidence = evidence_from(found, [*kept, *records])
    first = len(evidence.points) - len(sets)
    covers = find_covers(evidence)
    assert {len(cover.parts) for cover in covers if cover.whole == first} == {4}  # the single layers
    family = families(evidence, covers)[first:]
    assert len(set(family[:3].tolist())) == 1
    assert len(set(family.tolist())) == len(sets) - 2


def test_halves_make_up_the_wholes(folder: Path, printed: dict[str, Any]) -> None:
    """Measured beside them, they give sums for all of the configurations that were halved."""
    found = made_sensitivity()
    halves = given_cases(found.spec, config=(), configs=str(folder / "parts.json"), decompose=(), factors="plain")
    assert 18 <= len(halves) <= 20
    records = made_records(found, 180)
    known = {record.id for record in records}
    more = [
        made_record(case, found.spec, 0.1, 200 + place)
        for place, case in enumerate(halves)
        if case.id(found.spec, "model") not in known
    ]
    assert len(more) >= 16
    assert len(find_covers(evidence_from(found, [*records, *more]))) >= 10


def test_interactions_have_intervals(fit: PredictorFit) -> None:
    rows = {row["coefficient"]: row for row in fit.interactions}
    assert rows["shared"]["value"] < 0.15
    assert rows["bend"]["low"] <= TRUTH.bend <= rows["bend"]["high"]
    assert all(row["low"] <= row["high"] for row in rows.values())


def test_the_figure_shows_both_panels(folder: Path, printed: dict[str, Any]) -> None:
    text = (folder / "figure.svg").read_text()
    for words in ("predicted change of NLL", "mean absolute error", "Frobenius error, rising link", "0.05 to 0.2"):
        assert words in text


def test_intervals_are_local_and_cover() -> None:
    rng = np.random.default_rng(0)
    predicted = np.exp(rng.uniform(-5, 1, 3000))
    spread = np.where(predicted < 0.1, 0.1, 0.6)
    measured = expand(compress(predicted) + spread * rng.normal(size=3000))
    band = Band.of(predicted[:1500], measured[:1500])
    low, high = band.around(predicted[1500:])
    held = (low <= measured[1500:]) & (measured[1500:] <= high)
    small = predicted[1500:] < 0.1
    assert 0.87 < held[small].mean() < 0.93
    assert 0.87 < held[~small].mean() < 0.93
    assert (high - low)[small].max() < (high - low)[~small].max() / 3


def test_what_cannot_be_fitted_is_refused(tmp_path: Path, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = made_sensitivity()
    records = made_records(found, 60)
    with pytest.raises(FitError, match=r"too few measured configurations.*--samples 320 "):
        evidence_from(found, records[:30])
    with pytest.raises(RunError, match="without the dense model"):
        evidence_from(found, records[1:])
    with pytest.raises(FitError, match="no records with such factors: got 'whitened'"):
        read_evidence([write_records(tmp_path / "a", records)], found, "whitened")
    other = made_sensitivity(config={**CONFIG, "intermediate_size": 128})
    with pytest.raises(RecordError, match="different models: got 'intermediate_size'"):
        evidence_from(other, records)
    infinite = made_record(case_of(records[5], found), found.spec, math.inf)
    with pytest.raises(RecordError, match="not a record"):
        evidence_from(found, [*records[:5], infinite, *records[6:]])
    for words in (
        ["nowhere"],
        [str(folder / "records"), "--ranks", "0"],
        [str(folder / "quality.json")],
        [str(folder / "records"), "--factors", "whitened"],
    ):
        capsys.readouterr()
        code = run(cli, ["quality", "fit", *words, "--sensitivity", str(folder / "tiny.sensitivity")])
        out, err = capsys.readouterr()
        assert (code in (1, 2), out, err.count("\n")) == (True, "", 1), words
    capsys.readouterr()
    assert run(cli, ["quality", "fit", str(folder / "records"), "--sensitivity", str(folder / "records")]) == 2
    assert "cannot read sensitivity file" in capsys.readouterr().err
    assert run(cli, ["quality", "--model", "m", "fit", str(folder / "records")]) == 2
    assert "belong to a run: model" in capsys.readouterr().err


def test_sensitivity_of_other_weights_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """And a file that does not say whose it is draws a note, with what there is to compare."""
    found, old = made_sensitivity(checkpoint="other"), made_sensitivity(checkpoint=None)
    records = made_records(found, 60)
    with pytest.raises(RecordError, match="different weights: got 'other'; allowed: model"):
        evidence_from(found, records)
    assert evidence_from(made_sensitivity(), records).notes == []
    (note,) = evidence_from(old, records).notes
    assert "NLL is 3.0000 nats on its text and 3.0000 nats on the records'" in note
    save_sensitivity(tmp_path / "old", old)
    folder = write_records(tmp_path / "records", records)
    words = [str(folder), "--sensitivity", str(tmp_path / "old"), "--parts", str(tmp_path / "no" / "parts")]
    capsys.readouterr()
    assert run(cli, ["quality", "fit", *words]) == 2  # before anything is fitted
    first, second = capsys.readouterr().err.splitlines()
    assert first == f"note: {note}"
    assert second.startswith("error: ")


def test_recipes_ask_for_enough() -> None:
    """The dense model is one of the samples, and some may fail: 300 would leave fewer than 300 to fit to."""
    assert sum(not case.is_dense for case in sample_cases(made_sensitivity().spec, ADVISED, 0)) > 300
    text = (Path(__file__).resolve().parents[3] / "docs" / "quality.md").read_text(encoding="utf-8")
    asked = [int(count) for count in re.findall(r"validate quality .*--samples (\d+)", text)]
    assert asked
    assert min(asked) >= ADVISED


@pytest.mark.parametrize(
    ("first", "second", "message"),
    [
        ({"dtype": "fp32"}, {"dtype": "bf16"}, "types: got 'bf16 and fp32'"),
        ({"sha256": "1"}, {"sha256": "2"}, r"calibration texts: got 'c \(1\) and c \(2\)'"),
        ({"blocks": 20}, {"blocks": 64}, "numbers of calibration blocks: got '20 and 64'"),
        ({"dtype": "fp32", "blocks": 20}, {}, None),
    ],
)
def test_unlike_records_are_not_pooled(first: dict[str, Any], second: dict[str, Any], message: str | None) -> None:
    """Those from before they said how they were measured pass."""
    found = made_sensitivity()
    replace = msgspec.structs.replace
    records = made_records(found, 60)
    for place, record in enumerate(records):
        own = first if place < 30 else second
        calibration = CalibrationSource(name="c", sha256=own.get("sha256", "0"), blocks=own.get("blocks"))
        records[place] = replace(
            record,
            model=replace(record.model, dtype=own.get("dtype")),
            factors="whitened" if place else "none",
            calibration=calibration if place else None,
        )
    if message is None:
        assert len(evidence_from(found, records).points) == 59
        return
    with pytest.raises(RunError, match=f"records are of different {message}"):
        evidence_from(found, records)


def evidence_of(found: Any, **options: Any) -> Evidence:
    return evidence_from(found, made_records(found, **options))


def evidence_from(found: Any, records: Any) -> Evidence:
    with tempfile.TemporaryDirectory() as scratch:
        return read_evidence([write_records(Path(scratch), records)], found)


def change_of(record: Any) -> float:
    return float(sum(record.text.nll) / sum(record.text.tokens) - 3.0)


def case_of(record: Any, found: Any) -> QualityCase:
    return QualityCase(decomposition=record.decomposition(found.spec))
