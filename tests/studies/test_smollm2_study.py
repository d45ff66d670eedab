"""The comparison with baselines: closed forms of each, sizes kept, and a run that continues."""

from __future__ import annotations

from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from click.testing import CliRunner  # noqa: E402
from quality_cases import LLAMA, OTHER_TEXT, TEXT, blocks, checkpoint, opened  # noqa: E402

from costmodel.decomposition.factors import LowRank, Site  # noqa: E402
from studies.comparison.baselines import AsvdFactors, FwsvdFactors, dropped, share_removed, uniform  # noqa: E402
from studies.comparison.statistics import Statistics, causal_statistics  # noqa: E402
from studies.smollm2.record import read_measured  # noqa: E402
from studies.smollm2.run import FILE, METHODS, command  # noqa: E402
from validate.factors.factorize import product  # noqa: E402


def test_sizes_are_what_was_asked_for(tmp_path: Path) -> None:
    spec = opened(checkpoint(tmp_path)).spec
    for removed in (0.2, 0.4):
        assert removed <= share_removed(spec, uniform(spec, removed)) < removed + 0.03
    scores = {0: 3.0, 1: 1.0, 2: 2.0}
    share = spec.layer_params(0) / spec.num_params
    assert dropped(spec, share, "alone", scores).dropped == {1}
    assert dropped(spec, share, "late", {}).dropped == {1}
    assert dropped(spec, 2 * share, "influence", scores).dropped == {1, 2}


def test_scaled_factors_are_the_best_of_their_norm() -> None:
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(6, 9, generator=generator, dtype=torch.float64)
    site, rows, columns = Site(0, "q_proj"), torch.rand(6).double() + 0.1, torch.rand(9).double() + 0.1
    known = Statistics(importances={site: rows}, magnitudes={site: columns})
    for maker, outer, inner in (
        (FwsvdFactors(known), rows.sqrt(), torch.ones(9)),
        (AsvdFactors(known), torch.ones(6), columns.sqrt()),
    ):
        full = maker.factorize(site, weight, tucker=False)
        assert torch.allclose(product(full.stages(LowRank(6))), weight)
        lost = outer[:, None] * (weight - product(full.stages(LowRank(2)))) * inner
        spectrum = torch.linalg.svdvals(outer[:, None] * weight * inner)
        assert float(lost.square().sum()) == pytest.approx(float(spectrum[2:].square().sum()))


def test_statistics_are_those_of_weights_that_have_gradients(tmp_path: Path) -> None:
    pretrained = opened(checkpoint(tmp_path / "model", scale=2.0))
    asked = blocks(pretrained, 3, 12)
    found = causal_statistics(pretrained, asked)
    module = pretrained.model.get_submodule("model.layers.1.mlp.down_proj")
    module.weight.requires_grad_()
    total = torch.zeros(64, dtype=torch.float64)
    for inputs, targets in zip(asked.inputs, asked.targets, strict=True):
        logits = pretrained.model(input_ids=inputs[None]).logits[0]
        loss = torch.nn.functional.cross_entropy(logits, targets, reduction="sum")
        (gradient,) = torch.autograd.grad(loss, module.weight)
        total += gradient.double().square().sum(1)
    assert torch.allclose(found.importances[Site(1, "down_proj")], total, rtol=1e-3)
    assert set(found.similarities) == {0, 1, 2}
    assert all(-1 <= value <= 1 for value in found.similarities.values())


def test_a_comparison_continues_and_makes_its_page(tmp_path: Path) -> None:
    model, out = checkpoint(tmp_path / "model", LLAMA, scale=2.0), tmp_path / "out"
    for name, text in (("text", TEXT), ("calibration", OTHER_TEXT)):
        (tmp_path / f"{name}.txt").write_text(text)
    call = [
        *("--model", str(model), "--text", str(tmp_path / "text.txt"), "--length", "32", "--blocks", "6"),
        *("--calibration-text", str(tmp_path / "calibration.txt"), "--calibration-blocks", "4"),
        *("--scratch", str(tmp_path / "scratch"), "--out", str(out), "--removed", "0.3"),
    ]
    first = CliRunner().invoke(command, [*call, "--methods", "svd"], catch_exceptions=False)
    assert first.exit_code == 0, first.output
    kept = (out / FILE).read_text()
    (out / FILE).write_text(kept + '{"method": "cut o')  # killed while it wrote
    assert CliRunner().invoke(command, call, catch_exceptions=False).exit_code == 0
    rows = read_measured(out / FILE)
    assert [row.method for row in rows] == ["dense", *METHODS]
    assert (out / FILE).read_text().startswith(kept)
    assert all(0.2 < row.removed < 0.6 for row in rows[1:])
    page = (out / "compared.md").read_text()
    assert all(f"| {method} |" in page for method in METHODS)
    assert (out / "compared.png").stat().st_size > 0
    (tmp_path / "text.txt").write_text(OTHER_TEXT + TEXT)
    with pytest.raises(Exception, match="other texts or weights"):
        CliRunner().invoke(command, call, catch_exceptions=False)
