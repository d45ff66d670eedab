"""Mutated records of runs, of timing, probing and quality, and the settings beside them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fuzzing import answer_of, cases, hold, keeps_the_law, mutated

pytest.importorskip("msgspec")
pytest.importorskip("scipy")

from predicting import made_records, made_sensitivity
from validating import sample

from costmodel.errors import CostModelError
from validate.choose.points import Plan
from validate.choose.refit import Moved
from validate.choose.settings import Settings as ChooseSettings
from validate.choose.stages import read_stages
from validate.cli import cli
from validate.probes.records import OPS, quiet_seconds
from validate.quality.records import QUALITY
from validate.quality.settings import QualitySettings
from validate.quality.summary import bands, rows
from validate.speed.metrics import evaluate
from validate.speed.records import SAMPLES
from validate.speed.report import page
from validate.speed.settings import MeasureSettings
from validate.store.settings import load_settings, resumed

RUN = [
    sample([f"rank={rank} layers={layer}"], 0.5 + rank / 40, index=9 * layer + rank, repeat=0.6)
    for layer in (0, 1)
    for rank in range(1, 7)
]
OP = {
    "schema": 1,
    "id": "0 gemm 1x2x3",
    "status": "ok",
    "turn": 0,
    "kind": "gemm",
    "shape": [1, 2, 3],
    "times_ns": [900, 950],
}


def lines(records: list[bytes], place: int, changed: bytes) -> bytes:
    """Records of which one is another."""
    return b"".join([*records[:place], changed.replace(b"\n", b" ") + b"\n", *records[place + 1 :]])


@cases(150)
def test_timed_samples(cases: int, tmp_path: Path) -> None:
    good = [SAMPLES.encode(each) for each in RUN]
    path = tmp_path / "samples.jsonl"

    def law(content: bytes) -> None:
        path.write_bytes(lines(good, 3, content))
        if found := answer_of(lambda: SAMPLES.read(path)):
            json.dumps(evaluate(found).to_json(), allow_nan=False)

    hold(law, mutated(json.loads(good[3])), cases)


@cases(4, part=50)
def test_the_report_of_timed_samples(cases: int, tmp_path: Path) -> None:
    """The whole command, with the fit, the figures and the page."""
    good = [SAMPLES.encode(each) for each in RUN]

    def law(content: bytes) -> None:
        (tmp_path / "samples.jsonl").write_bytes(lines(good, 3, content))
        page, calibration = tmp_path / "report.html", tmp_path / "calibration.json"
        code = keeps_the_law(cli, ["report", str(tmp_path), "--format", "json"], written=(page, calibration))
        if code == 0:
            text = page.read_text(encoding="utf-8")
            assert text.endswith("</html>\n")
            assert "<script" not in text

    hold(law, mutated(json.loads(good[3])), cases)


@cases(150)
def test_turns_of_a_probe(cases: int, tmp_path: Path) -> None:
    path = tmp_path / OPS.file

    def law(content: bytes) -> None:
        path.write_bytes(content.replace(b"\n", b" ") + b"\n")
        if found := answer_of(lambda: OPS.read(path)):
            assert all(seconds > 0 for seconds in quiet_seconds(found).values())

    hold(law, mutated(OP), cases)


@cases(100)
def test_records_of_quality(cases: int, tmp_path: Path) -> None:
    sensitivity = made_sensitivity()
    good = [QUALITY.encode(each) for each in made_records(sensitivity, 3, tasks=True)]
    path = tmp_path / QUALITY.file

    def law(content: bytes) -> None:
        path.write_bytes(lines(good, 1, content))
        if found := answer_of(lambda: rows(QUALITY.read(path))):
            json.dumps([each.to_json() for each in found], allow_nan=False)
            bands(found)

    hold(law, mutated(json.loads(good[1])), cases)


@cases(100)
def test_settings_of_a_resumed_run(cases: int, tmp_path: Path) -> None:
    """As each command that resumes reads them."""
    options: dict[str, Any] = {"samples": 20, "model": "gpt2", "batch": [1, 2], "budget": 5.5, "phase": "both"}
    options |= {"seed": 0, "configs": None}
    good = {"schema": 1, "weights_sha256": "ab", "digests": {"text": "x"}, "options": options, **options}

    def law(content: bytes) -> None:
        for name in ("run.json", "loop.json"):
            (tmp_path / name).write_bytes(content)
        answer_of(lambda: resumed(MeasureSettings(), load_settings(tmp_path), ()))
        answer_of(lambda: resumed(QualitySettings(), load_settings(tmp_path), ()))
        answer_of(lambda: ChooseSettings.read(tmp_path))

    hold(law, mutated(good), cases)


@cases(60)
def test_files_of_a_loop(cases: int, tmp_path: Path) -> None:
    """Stages, plans and comparisons of `validate choose`."""
    config: dict[str, Any] = {"form": "svd", "ranks": {"layers.0.q_proj": 2}, "drop": []}
    point = {"role": "frontier", "rule": "x", "label": "params 1", "config": config, "params": 5, "costs": {"d": 0.1}}
    curve = {"space": "per-site", "objective": "params", "count": 1, "guarantee": "", "configurations": "9"}
    curve |= {"seconds": 1.0, "costs": [1.0], "qualities": [0.1]}
    plan = {"points": [point], "curves": [curve], "dense": {"d": 0.2}, "dense_params": 9, "metric": "nll"}
    shift = {"key": "a", "objective": "params", "before": 0.1, "after": 0.2, "best": 0.1}
    moved = {"shifts": [shift], "curves": [curve]}
    stages = {"samples": {"seconds": 1.5, "done": True, "note": "x"}}
    readers = {
        "plan.json": (plan, lambda: Plan.read(tmp_path)),
        "moved.json": (moved, lambda: Moved.read(tmp_path).sentence),
        "stages.json": (stages, lambda: read_stages(tmp_path)),
    }
    for name, (good, read) in readers.items():
        hold(_law_of(tmp_path / name, read), mutated(good), max(1, cases // 3))


def _law_of(path: Path, read: Callable[[], object]) -> Callable[[bytes], None]:
    def law(content: bytes) -> None:
        path.write_bytes(content)
        answer_of(read)

    return law


def test_every_reader_refuses_numbers_of_thousands_of_digits_and_deep_nests(tmp_path: Path) -> None:
    for record, kind in ((json.loads(SAMPLES.encode(RUN[0])), SAMPLES), (OP, OPS)):
        for odd in ("9" * 400, "9" * 5000, "[" * 1000 + "]" * 1000, "{" * 3):
            text = json.dumps({**record, "index": "@"}).replace('"@"', odd)
            (tmp_path / kind.file).write_text(text + "\n")
            with pytest.raises(CostModelError):
                kind.read(tmp_path)


def test_a_turn_of_no_time_is_refused_even_beside_others(tmp_path: Path) -> None:
    for times in ([0, 0, 950], [0], [-1, 5]):
        (tmp_path / OPS.file).write_text(json.dumps({**OP, "times_ns": times}) + "\n")
        with pytest.raises(CostModelError, match="times_ns"):
            OPS.read(tmp_path)


def test_one_damaged_record_is_named_with_its_line(tmp_path: Path) -> None:
    good = [SAMPLES.encode(each) for each in RUN]
    for name, value in (("phase", "both"), ("dtype", "x"), ("runtime", 3), ("lm_head", None), ("kv_len", 1e30)):
        data = json.loads(good[2])
        data["workload"][name] = value
        (tmp_path / "samples.jsonl").write_bytes(lines(good, 2, json.dumps(data).encode()))
        with pytest.raises(CostModelError, match=r"samples\.jsonl:3: workload: " + name):
            SAMPLES.read(tmp_path)


def test_a_page_shows_no_control_characters(tmp_path: Path) -> None:
    text = page(evaluate(RUN), [sample(["rank=1"], 0.9, hardware="\x1b[31m<i>"), *RUN])
    assert "\x1b" not in text
    assert "<i>" not in text
    assert r"\x1b[31m&lt;i&gt;" in text
