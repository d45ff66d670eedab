"""The accuracies beside the comparison: what is asked for, and which record a line of the page is of."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")

from click.testing import CliRunner
from validating import LLAMA, tiny_spec

from costmodel.decomposition.factors import Decomposition
from costmodel.decomposition.text import parse_decomposition
from studies.comparison.record import append
from studies.smollm2.accuracy import command, to_markdown
from studies.smollm2.record import Measured, read_measured
from studies.smollm2.run import FILE
from validate.factors.kinds import FactorsUsed
from validate.plans.case import params_of, strata_of
from validate.quality.case import QualityCase
from validate.quality.records import QUALITY, CheckpointRecord, QualityRecord, TaskRecord
from validate.quality.summary import rows

ROOT = Path(__file__).resolve().parents[2]
SPEC = tiny_spec(LLAMA)
HALF = parse_decomposition(["rank=50%"], SPEC)


def compared(method: str, removed: float, decomposition: Decomposition) -> Measured:
    same: dict[str, Any] = {"text": "t", "calibration": "c", "weights": "w", "seconds": 1.0}
    config = decomposition.to_json()
    loss = {"nll": [1.0 + removed], "kl": [removed], "tokens": [1]}
    return Measured(method=method, asked=removed, removed=removed, config=config, **same, **loss)


def answered(decomposition: Decomposition, factors: FactorsUsed, right: str) -> QualityRecord:
    case = QualityCase(decomposition=decomposition, factors=factors)
    task = TaskRecord(
        name="arc_easy", group="arc_easy", kind="multiple-choice", items=len(right), prompts="p", chance=0.25,
        metrics={"acc": right, "acc_norm": right[::-1]},
    )  # fmt: skip
    return QualityRecord(
        id=case.id(SPEC, "model"),
        index=0,
        status="ok",
        config=decomposition.to_json(),
        origin="given",
        model=CheckpointRecord(name="tiny", sha256="model", config=LLAMA, num_layers=SPEC.num_layers),
        factors=case.kind,
        strata=strata_of(SPEC, decomposition),
        params=params_of(SPEC, decomposition),
        tasks=(task,),
        seconds={},
        environment={},
        started="",
    )


def test_a_list_for_each_kind_of_factors_holds_what_was_compared(tmp_path: Path) -> None:
    dropped = parse_decomposition(["layers=1 form=drop"], SPEC)
    for row in (
        compared("dense", 0.0, Decomposition()),
        compared("svd-llm", 0.2, HALF),
        compared("ours, sequential", 0.2, HALF),
        compared("drop influence", 0.2, dropped),
        compared("asvd", 0.2, HALF),
        compared("svd-llm", 0.4, HALF),
    ):
        append(tmp_path / FILE, row)
    asked = CliRunner().invoke(command, ["ask", str(tmp_path), "--removed", "0.2"], catch_exceptions=False)
    assert asked.exit_code == 0
    lists = {path.stem: json.loads(path.read_text()) for path in (tmp_path / "asked").iterdir()}
    assert lists == {"whitened": [HALF.to_json(), dropped.to_json()], "sequential": [HALF.to_json()]}
    with pytest.raises(Exception, match="nothing to ask for"):
        CliRunner().invoke(command, ["ask", str(tmp_path), "--removed", "0.3"], catch_exceptions=False)


def test_a_line_is_of_the_record_of_its_configuration_and_factors() -> None:
    measured = rows(
        [
            answered(Decomposition(), "none", "1110"),
            answered(HALF, "whitened", "1000"),
            answered(HALF, "sequential", "1100"),
        ]
    )
    page = to_markdown([compared("ours, sequential", 0.2, HALF), compared("svd-llm", 0.1, HALF)], measured)
    lines = [line for line in page.splitlines() if line.startswith("| ")][1:]
    assert [line.split(" | ")[:2] for line in lines[:3]] == [
        ["| dense", "0.0 %"],
        ["| svd-llm", "10.0 %"],
        ["| ours, sequential", "20.0 %"],
    ]
    assert [line.split(" | ")[2].split()[0] for line in lines[:3]] == ["75.0", "25.0", "50.0"]
    assert lines[3].startswith("| by chance | - | 25.0")
    assert "(-50.0 [" in lines[1]


def test_the_mean_is_paired_with_dense_and_with_the_baseline_of_the_same_size() -> None:
    measured = rows(
        [
            answered(Decomposition(), "none", "1110" * 10),
            answered(HALF, "whitened", "1000" * 10),
            answered(HALF, "sequential", "1100" * 10),
        ]
    )
    page = to_markdown([compared("ours, sequential", 0.2, HALF), compared("svd-llm", 0.2, HALF)], measured)
    cells = {line.split(" | ")[0][2:]: line.split(" | ") for line in page.splitlines() if line.startswith("| ")}
    assert cells["ours, sequential"][3].startswith("50.0 (-25.0 [")
    assert cells["ours, sequential"][4].startswith("+25.0 [+")
    assert cells["ours, sequential"][5:] == [cells["ours, sequential"][3], cells["ours, sequential"][4] + " |"]
    assert cells["svd-llm"][4] == "-"


def test_accuracies_that_follow_the_loss_are_told_from_it() -> None:
    shares = [(0.1, 36), (0.3, 33), (0.5, 30), (1.0, 25), (1.6, 20), (2.5, 15), (4.0, 12)]
    ranks = [parse_decomposition([f"rank={rank}%"], SPEC) for rank in range(90, 20, -10)]
    records = [answered(Decomposition(), "none", "1" * 38 + "0" * 2)]
    records += [
        answered(config, "whitened", "1" * right + "0" * (40 - right))
        for config, (_, right) in zip(ranks, shares, strict=True)
    ]
    compared_ones = [compared("ours, whitened", loss, config) for config, (loss, _) in zip(ranks, shares, strict=True)]
    page = to_markdown([compared("dense", 0.0, Decomposition()), *compared_ones], rows(records))
    line = next(line for line in page.splitlines() if line.startswith("| arc_easy | "))
    error, null = map(float, line.split(" | ")[2:4])
    assert error < 5 < 15 < null
    assert "told from the loss" not in to_markdown(compared_ones, rows(records))


@pytest.mark.slow
def test_the_kept_page_is_what_the_records_say() -> None:
    kept = ROOT / "studies" / "smollm2"
    page = to_markdown(read_measured(kept / FILE), rows(QUALITY.read(kept / "tasks")))
    assert page == (kept / "accuracy.md").read_text()
