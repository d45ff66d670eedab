"""The prior of damage: its law, its stated errors, and what explorations make of it."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
from exploring import small_model

from costmodel.cli import cli, run
from costmodel.decomposition.factors import Decomposition
from costmodel.decomposition.prior import DESTROYED, METRIC, WITHIN
from costmodel.decomposition.recipe import load_recipe
from costmodel.decomposition.text import parse_decomposition
from costmodel.explore import explore
from costmodel.explore.quality import load_quality
from costmodel.explore.settings import ExploreSettings
from costmodel.families.load import load_model
from costmodel.forward.workload import Workload
from costmodel.hardware.profile import load_hardware
from costmodel.space.make import design_space
from studies.models.prior import held_out_factor, prior_damage, rank_correlation

LLAMA = load_model("llama2-7b")
QUESTION = ["explore", "--model", "smollm2-135m", "--hw", "l4", "--phase", "decode", "--runtime", "graph"]


def damage(*specs: str) -> float:
    return prior_damage(parse_decomposition(specs, LLAMA), LLAMA)


def test_the_dense_model_is_not_damaged_and_a_lower_rank_damages_more() -> None:
    assert prior_damage(Decomposition(), LLAMA) == 0
    assert damage("rank=75%") < damage("rank=50%") < damage("rank=1") < damage("rank=1", "layers=0-30 form=drop")
    assert damage("layers=0 rank=50%") > 10 * damage("layers=15 rank=50%")
    assert damage("rank=1") > 1 > damage("layers=1-30 rank=75%")


def test_both_forms_are_judged_by_their_own_break_even() -> None:
    assert damage("rank=50%") == pytest.approx(damage("rank=50% form=tucker"), rel=0.01)


def test_the_table_of_a_space_is_the_law(tmp_path: Path) -> None:
    space = design_space(small_model(tmp_path), "per-site", ranks=[4, 32])
    table = load_quality("prior", space)
    assert table.stand_in
    assert table.metric == METRIC
    for number in space.sample(20, seed=0):
        found = float(table.ticks(space.choices(number)) * table.quantum)
        assert found == pytest.approx(prior_damage(space.config(number), space.model), rel=1e-9)


@pytest.mark.slow
def test_its_errors_are_those_of_the_records() -> None:
    assert [round(rank_correlation(name), 2) for name in ("llama", "bert")] == [0.93, 0.88]
    factors = [held_out_factor("llama", "bert"), held_out_factor("bert", "llama")]
    assert max(factors) == pytest.approx(WITHIN, rel=0.02)


def test_nothing_is_called_best_without_a_measurement(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(cli, [*QUESTION, "--ranks", "1"]) == 0
    text = capsys.readouterr().out
    assert "best" not in text.lower()
    assert "likely destroyed" in text
    assert any(line.split()[:1] == ["dense"] for line in text.splitlines())
    assert run(cli, [*QUESTION, "--ranks", "75%", "--keep", "layers=0,29", "--format", "json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["damage"] == {"metric": METRIC, "stand_in": True}
    for each in found["top"]:
        dense, value = found["dense"]["decode.latency_s"], each["objectives"]["decode.latency_s"]
        assert each["saved_pct"]["decode.latency_s"] == pytest.approx(100 * (dense - value) / dense)
        assert 0 <= each["damage"] < 1


def test_a_table_opens_with_a_model_that_is_alive_and_json_keeps_its_order(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    question = ["explore", "--model", "qwen2.5-1.5b", "--hw", "l4", "--phase", "prefill", "--top", "2"]
    assert run(cli, question) == 0
    text = capsys.readouterr().out
    alive, everything = text.index("with less than 1 nat of damage by the prior"), text.index("whatever it does")
    assert alive < everything
    first = next(line.split() for line in text[alive:].splitlines() if line.split()[:1] == ["1"])
    assert 0.5 < float(first[-1]) < DESTROYED
    recipe = tmp_path / "recipe.toml"
    assert run(cli, [*question, "--save-recipe", str(recipe)]) == 0
    capsys.readouterr()
    model = load_model("qwen2.5-1.5b")
    assert prior_damage(parse_decomposition(load_recipe(recipe), model), model) == pytest.approx(float(first[-1]), 0.01)
    assert run(cli, [*question, "--hw", "l40"]) == 0
    assert " ".join(first[1:3]) in " ".join(capsys.readouterr().out.split())
    assert run(cli, [*question, "--format", "json"]) == 0
    top = json.loads(capsys.readouterr().out)["top"]
    assert top[0]["damage"] > DESTROYED
    assert top[0]["objectives"]["prefill.latency_s"] <= top[1]["objectives"]["prefill.latency_s"]
    for words in (["--quality", "standin:params"], ["--limit", "quality<=4"], ["--top", "0"]):
        assert run(cli, [*question, *words]) == 0
        assert "nat of damage by the prior\n" not in capsys.readouterr().out


def test_it_is_said_where_none_that_is_alive_is_ahead_of_dense(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("costmodel.cli.explore.milder", lambda result: dataclasses.replace(result.answer, top=()))
    assert run(cli, [*QUESTION, "--ranks", "1"]) == 0
    assert "with less than 1 nat of damage by the prior: nothing is ahead of dense" in capsys.readouterr().out


def test_it_is_said_how_far_the_first_alive_can_be_from_the_best(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Sums over kinds of layers can be compared on a grid, though the question without damage was answered exactly."""
    from costmodel.explore import milder

    exact = milder.answer
    monkeypatch.setattr(milder, "answer", lambda question: dataclasses.replace(exact(question), top_gap=1.5e-6))
    words = "with less than 1 nat of damage by the prior, within 1.5 us of the optimum"
    page = tmp_path / "page.html"
    question = [*QUESTION, "--ranks", "1,256"]
    assert run(cli, [*question, "--report", str(page)]) == 0
    assert f"Least decode.latency_s (saved) {words}" in " ".join(capsys.readouterr().out.split())
    assert words in page.read_text()
    assert run(cli, [*question, "--hw", "l40"]) == 0
    assert f"first: {words}" in " ".join(capsys.readouterr().out.split())


def test_what_comes_nearest_is_said_where_nothing_keeps_the_limits(tmp_path: Path) -> None:
    space = design_space(small_model(tmp_path, layers=2), ranks=[8])
    found = explore(
        space,
        load_hardware("a100-sxm-80gb"),
        [Workload.decode(129)],
        ExploreSettings(limits=("decode.saved.latency_pct>=99", "saved.params_pct>=20")),
    )
    first, second = found.nearest
    assert first.binds
    assert first.value is not None
    assert first.value < 99
    assert second.value is None
    assert found.held_back is not None
    assert "launches" in found.held_back


@pytest.mark.parametrize(
    ("limits", "said"),
    [
        (["saved.latency_pct>=20"], "saved.latency_pct>=20: no configuration saves any"),
        (["saved.params_pct>=99.9"], "saved.params_pct>=99.9: at best "),
        (
            ["saved.latency_pct>=20", "quality<=4"],
            "saved.latency_pct>=20: no configuration saves any within the others",
        ),
    ],
)
def test_other_limits_are_spoken_of_where_there_are_some(limits: list[str], said: str, tmp_path: Path) -> None:
    space = design_space(small_model(tmp_path, layers=2), ranks=[8])
    asked = ExploreSettings(limits=tuple(limits))
    found = explore(space, load_hardware("a100-sxm-80gb"), [Workload.decode(129)], asked)
    text = found.nearest[0].text()
    assert text.startswith(said)
    assert ("others" in text) == (len(limits) > 1)
