"""The comparison of a sentence encoder: no sentence leaks, responses against measured changes, a run that continues."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from click.testing import CliRunner  # noqa: E402
from quality_cases import BERT, WORDS, checkpoint, opened, write_lines  # noqa: E402

from costmodel.decomposition.factors import Decomposition, LowRank  # noqa: E402
from studies.comparison.record import read_lines  # noqa: E402
from studies.minilm.compare import METHODS, Comparison  # noqa: E402
from studies.minilm.record import Judged  # noqa: E402
from studies.minilm.responses import PROBES, collect_responses  # noqa: E402
from studies.minilm.run import FILE, command  # noqa: E402
from studies.minilm.sentences import Sentences, embedded, normal  # noqa: E402
from validate.factors.replace import Replacement  # noqa: E402
from validate.factors.whitening import WhitenedFactors  # noqa: E402
from validate.quality.similarity import ScoredPair, Similarity, read_pairs  # noqa: E402


def pairs(path: Path, seed: int, count: int = 24) -> Path:
    rng = random.Random(seed)
    sentence = [lambda: " ".join(rng.choices(WORDS, k=rng.randint(2, 6))) for _ in range(2)]
    rows: list[dict[str, Any]] = [
        {"sentence1": sentence[0](), "sentence2": sentence[1](), "score": round(rng.uniform(0, 5), 1)}
        for _ in range(count)
    ]
    return write_lines(path, rows)


def test_no_judged_sentence_is_fitted_to_or_chosen_on(tmp_path: Path) -> None:
    model = checkpoint(tmp_path / "model", BERT, kind="Model")
    judged = pairs(tmp_path / "judged.jsonl", 1)
    known = tmp_path / "known.jsonl"
    shout = judged.read_text().replace("alpha", "Alpha!")  # the same sentences, written otherwise
    known.write_text(pairs(tmp_path / "other.jsonl", 2, 60).read_text() + shout)
    comparison = Comparison(str(model), str(judged), str(known), blocks=8, length=16)
    parts = [{normal(text) for text in part.texts} for part in (comparison.judged, comparison.fitted, comparison.rest)]
    assert all(parts)
    assert sum(map(len, parts)) == len(set.union(*parts))
    scored = [line.replace('"score": ', '"score": 1') for line in known.read_text().splitlines()]
    known.write_text("\n".join(scored) + "\n")
    again = Comparison(str(model), str(judged), str(known), blocks=8, length=16)
    assert again.calibration == comparison.calibration
    assert again.fitted.texts == comparison.fitted.texts  # sentences alone are kept: scores play no part


def test_embeddings_are_those_that_the_task_compares(tmp_path: Path) -> None:
    pretrained = opened(checkpoint(tmp_path / "model", BERT, kind="Model"))
    scored = read_pairs(str(pairs(tmp_path / "pairs.jsonl", 3)))
    sentences = Sentences(pretrained, scored)
    found = sentences.embeddings(pretrained.body)
    places = {text: place for place, text in enumerate(sentences.texts)}
    cosines = [float(found[places[pair.first]] @ found[places[pair.second]]) for pair in scored]
    (record,) = Similarity(pretrained, "stsb", scored, batch=5).measure()
    assert cosines == pytest.approx(record.metrics["cosine"], abs=1e-5)


def test_a_response_is_the_change_of_the_embedding_to_first_order(tmp_path: Path) -> None:
    pretrained = opened(checkpoint(tmp_path / "model", BERT, kind="Model", scale=2.0))
    words = [ScoredPair(first=" ".join(WORDS[place:]), second=WORDS[place], score=1.0) for place in range(8)]
    blocks = Sentences(pretrained, words).blocks(12, 10)
    assert blocks.shape == (10, 12)
    responses = collect_responses(pretrained, blocks)
    probes = torch.randn(len(blocks), PROBES, pretrained.spec.hidden_size, generator=torch.Generator().manual_seed(0))
    seen = torch.ones_like(blocks)
    before, tested = embedded(pretrained.body, blocks, seen), set()
    for site, response in responses.sites.items():
        assert not response[:, -1].any()
        sizes = np.sqrt((response**2).mean(0))
        rank = 1 + int(np.argmin(np.abs(sizes[1:-1] - 2e-3)))  # small
        if not 1e-3 < sizes[rank] < 4e-3:
            continue  # of queries and keys, in a model without much attention
        tested.add(site.tensor)
        with Replacement(
            pretrained.body,
            pretrained.spec,
            Decomposition({site: LowRank(rank)}),
            WhitenedFactors(responses.moments),
        ):
            change = embedded(pretrained.body, blocks, seen) - before
        measured = (probes * change[:, None]).sum(2).T.flatten().numpy()
        error = np.linalg.norm(response[:, rank] - measured)
        assert error < 0.4 * np.linalg.norm(measured)
        assert responses.losses()[site][rank] == pytest.approx(float((measured**2).mean() / 2), rel=0.3)
    assert tested >= {"value", "attn_output", "intermediate", "output"}
    measured = responses.layers[0]
    with Replacement(
        pretrained.body, pretrained.spec, Decomposition(dropped=frozenset({0})), WhitenedFactors(responses.moments)
    ):
        change = embedded(pretrained.body, blocks, seen) - before
    assert np.allclose((probes * change[:, None]).sum(2).T.flatten().numpy(), measured, atol=1e-5)


def compared(folder: Path) -> list[str]:
    """Arguments of the study on a small model, whose results are under `out` in the folder."""
    model = checkpoint(folder / "model", BERT, kind="Model", scale=2.0)
    return [
        *("--model", str(model), "--pairs", str(pairs(folder / "judged.jsonl", 1)), "--blocks", "12"),
        *("--calibration-pairs", str(pairs(folder / "known.jsonl", 2, 60))),
        *("--out", str(folder / "out"), "--removed", "0.15"),
    ]


def test_a_comparison_continues_behind_a_line_cut_off(tmp_path: Path) -> None:
    call, file = [*compared(tmp_path), "--methods", "svd"], tmp_path / "out" / FILE
    assert CliRunner().invoke(command, call, catch_exceptions=False).exit_code == 0
    whole = file.read_text()
    dense = whole.splitlines(keepends=True)[0]
    file.write_text(dense + '{"method": "cut o')  # killed while it wrote
    assert CliRunner().invoke(command, call, catch_exceptions=False).exit_code == 0
    assert file.read_text().startswith(dense)
    assert [row.method for row in read_lines(file, Judged)] == ["dense", "svd"]
    with pytest.raises(Exception, match="other texts or weights"):
        CliRunner().invoke(command, [*call, "--length", "20"], catch_exceptions=False)


@pytest.mark.slow
def test_a_comparison_of_all_methods_continues_and_makes_its_page(tmp_path: Path) -> None:
    call, out = compared(tmp_path), tmp_path / "out"
    first = CliRunner().invoke(command, [*call, "--methods", "svd"], catch_exceptions=False)
    assert first.exit_code == 0, first.output
    kept = (out / FILE).read_text()
    (out / FILE).write_text(kept + '{"method": "cut o')  # killed while it wrote
    assert CliRunner().invoke(command, call, catch_exceptions=False).exit_code == 0
    rows = read_lines(out / FILE, Judged)
    assert [row.method for row in rows] == ["dense", *METHODS]
    assert (out / FILE).read_text().startswith(kept)
    chosen = {row.method: row.config for row in rows}
    assert chosen["ours"] in (chosen[f"ours, {kind}"] for kind in ("whitened", "fisher", "sequential"))
    page = (out / "compared.md").read_text()
    assert all(f"| {method} |" in page for method in METHODS)
    assert "- 15%: ours " in page
    assert (out / "compared.png").stat().st_size > 0
