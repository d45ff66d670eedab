"""`validate quality` end to end: records, resuming, interrupts, failures, and one line for everything wrong."""

from __future__ import annotations

import json
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")

from quality_cases import BERT, OTHER_TEXT, TEXT, checkpoint, items, write_lines

from validate.cli import cli
from validate.quality.case import QualityCase
from validate.quality.evaluator import Evaluator
from validate.quality.records import QUALITY, QualityRecord

SMALL = ["--blocks", "6", "--length", "32", "--threads", "1", "--device", "cpu"]


def invoke(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    from costmodel.cli import run

    code = run(cli, ["quality", *arguments])
    out, err = capsys.readouterr()
    return code, out, err


@pytest.fixture
def made(tmp_path: Path) -> dict[str, str]:
    """A Llama, two texts and a task, by name."""
    (tmp_path / "text.txt").write_text(TEXT)
    (tmp_path / "calibration.txt").write_text(OTHER_TEXT)
    return {
        "model": str(checkpoint(tmp_path / "llama")),
        "text": str(tmp_path / "text.txt"),
        "calibration": str(tmp_path / "calibration.txt"),
        "out": str(tmp_path / "out"),
        "task": str(write_lines(tmp_path / "which.jsonl", items(6))),
    }


def test_a_run_and_what_it_leaves(made: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("lm_eval")
    config = {"form": "tucker", "ranks": {"layers.0.q_proj": 3}, "drop": [2]}
    (tmp_path / "one.json").write_text(json.dumps(config))
    (tmp_path / "many.json").write_text(json.dumps({"frontier": [{"config": {"ranks": {"layers.1.o_proj": 2}}}]}))
    code, out, err = invoke(
        capsys,
        "--model",
        made["model"],
        "--text",
        made["text"],
        "--tasks",
        made["task"],
        "--out",
        made["out"],
        "--config",
        str(tmp_path / "one.json"),
        "--configs",
        str(tmp_path / "many.json"),
        "--decompose",
        "tensors=mlp rank=50%",
        "--decompose",
        "layers=0 rank=2 + layers=1 form=drop",
        *SMALL,
        "--format",
        "json",
    )
    assert (code, err) == (0, "")
    result = json.loads(out)
    assert (result["schema"], result["ok"], result["failed"], result["measured"]) == (1, 5, 0, 5)
    records = QUALITY.read(Path(made["out"]))
    assert [record.origin for record in records] == ["dense", "given", "given", "given", "given"]
    assert records[1].config == config
    assert [record.factors for record in records] == ["none", "plain", "plain", "plain", "plain"]
    dense, first = result["configurations"][:2]
    assert dense["text"]["nll_change"] == {"value": 0.0, "low": 0.0, "high": 0.0}
    assert dense["text"]["kl"]["value"] == 0
    assert first["text"]["kl"]["value"] > 0
    assert first["params_removed_pct"] > 0
    assert {row["metric"] for row in first["tasks"]} == {"acc", "acc_norm"}
    assert all(record.seconds["text"] > 0 for record in records)
    assert records[0].environment["versions"]["torch"]

    code, out, _ = invoke(capsys, "--out", made["out"], "--resume")
    assert code == 0
    assert "tensors=mlp" in out
    assert "5 configurations measured before" in out
    assert "warning: intervals of 6 blocks are too narrow; measure with --blocks 32 or more" in out
    code, out, _ = invoke(capsys, "--out", made["out"], "--resume", "--format", "csv")
    lines = out.splitlines()
    from costmodel.cli import run

    assert run(cli, ["report", made["out"], "--format", "csv"]) == 0  # from the records alone
    assert capsys.readouterr().out == out
    assert lines[0].startswith("index,id,status,origin,factors,params_removed_pct,nll,perplexity,nll_change,")
    assert len(lines) == 6


def test_a_sample_is_continued_without_measuring_twice(
    made: dict[str, str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    start = ["--model", made["model"], "--text", made["text"], "--out", made["out"], *SMALL]
    code, _, err = invoke(capsys, *start, "--samples", "5")
    assert (code, err) == (0, "")
    before = QUALITY.read(Path(made["out"]))
    with (Path(made["out"]) / "quality.jsonl").open("ab") as stream:
        stream.write(b'{"schema": 1, "id": "ha')  # as kill -9 in the middle of a line leaves it
    code, out, err = invoke(capsys, "--out", made["out"], "--resume", "--samples", "9", "--format", "json")
    assert (code, err) == (0, "note: cut off a half-written record of 23 bytes\n")
    assert json.loads(out)["measured"] == 4
    after = QUALITY.read(Path(made["out"]))
    assert after[:5] == before
    assert [record.index for record in after] == list(range(9))
    assert {record.origin for record in after[1:]} == {"sample"}
    monkeypatch.setitem(sys.modules, "validate.quality.opening", None)  # whatever loads torch is not needed to report
    code, out, err = invoke(capsys, "--out", made["out"], "--resume", "--format", "json")
    assert (code, err) == (0, "")
    assert json.loads(out)["measured"] == 0
    assert len(json.loads(out)["configurations"]) == 9
    code, _, err = invoke(capsys, *start, "--samples", "5")
    assert code == 1
    assert "holds 9 records of an earlier run; add --resume" in err


def test_factors_of_both_kinds_share_a_folder(made: dict[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    start = ["--model", made["model"], "--text", made["text"], "--out", made["out"], "--decompose", "rank=4", *SMALL]
    assert invoke(capsys, *start)[0] == 0
    code, out, err = invoke(
        capsys,
        *start,
        "--resume",
        "--factors",
        "whitened",
        "--calibration-text",
        made["calibration"],
        "--calibration-blocks",
        "20",
        "--format",
        "json",
    )
    assert (code, err) == (0, "")
    found = {row["factors"]: row["text"]["nll_change"]["value"] for row in json.loads(out)["configurations"]}
    assert set(found) == {"none", "plain", "whitened"}
    assert found["plain"] != found["whitened"]
    records = QUALITY.read(Path(made["out"]))
    assert [record.calibration and record.calibration.blocks for record in records] == [None, None, 20]
    assert {record.model.dtype for record in records} == {"fp32"}
    code, _, err = invoke(capsys, "--out", made["out"], "--resume", "--calibration-blocks", "30")
    assert (code, "cannot resume with another calibration blocks: got 30; allowed: 20" in err) == (1, True)
    settings = json.loads((Path(made["out"]) / "quality.json").read_text())
    del settings["calibration_blocks"]  # as folders from before; the options say the same
    (Path(made["out"]) / "quality.json").write_text(json.dumps(settings))
    code, _, err = invoke(capsys, "--out", made["out"], "--resume", "--calibration-blocks", "30")
    assert (code, "got 30; allowed: 20" in err) == (1, True)
    code, out, _ = invoke(capsys, "--out", made["out"], "--resume")
    assert code == 0
    assert "whitened" in out
    code, _, err = invoke(capsys, *start, "--resume", "--factors", "whitened", "--calibration-text", made["task"])
    assert (code, err) == (1, "error: cannot resume with another calibration text; choose another --out\n")


@pytest.mark.parametrize("factors", ["plain", "whitened"])
def test_weights_are_factored_as_they_are_stored(
    factors: str, made: dict[str, str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    import validate.factors.replace as replace
    import validate.factors.whitening as whitening

    seen: list[torch.dtype] = []

    def watched(whole: Any) -> Any:
        return lambda weight, *args, **options: seen.append(weight.dtype) or whole(weight, *args, **options)

    for module, name in ((replace, "factorize"), (whitening, "factorize_whitened")):
        monkeypatch.setattr(module, name, watched(getattr(module, name)))
    start = [
        "--model",
        made["model"],
        "--text",
        made["text"],
        "--out",
        made["out"],
        *SMALL,
        "--dtype",
        "bf16",
        "--factors",
        factors,
        "--decompose",
        "layers=1 tensors=q_proj rank=4",
    ]
    calibration = ["--calibration-text", made["calibration"]] if factors == "whitened" else []
    code, _, err = invoke(capsys, *start, *calibration)
    assert (code, err) == (0, "")
    assert seen == [torch.float32]


def test_moments_are_kept_of_factored_layers_alone(
    made: dict[str, str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import validate.factors.whitening as whitening

    asked: list[set[int]] = []
    collect = whitening.collect_moments
    monkeypatch.setattr(
        whitening, "collect_moments", lambda *given, layers: asked.append(set(layers)) or collect(*given, layers=layers)
    )
    start = [
        "--model",
        made["model"],
        "--text",
        made["text"],
        "--out",
        made["out"],
        *SMALL,
        "--factors",
        "whitened",
        "--calibration-text",
        made["calibration"],
        "--calibration-blocks",
        "4",
    ]
    assert invoke(capsys, *start, "--decompose", "layers=1 rank=4", "--decompose", "layers=0 form=drop")[0] == 0
    code, _, err = invoke(
        capsys, *start, "--decompose", "layers=1 rank=4", "--decompose", "layers=2 rank=4", "--resume"
    )
    assert (code, err) == (0, "")
    assert asked == [{1}, {2}]  # of what has no record yet


def test_an_encoder_is_measured_by_its_masks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "text.txt").write_text(TEXT)
    model = checkpoint(tmp_path / "bert", BERT)
    blanks = [{"context": "the [MASK] is", "choices": ["a", "bc"], "answer": 1}] * 3
    task = write_lines(tmp_path / "blanks.jsonl", blanks)
    start = ["--model", str(model), "--text", str(tmp_path / "text.txt"), "--out", str(tmp_path / "out"), *SMALL]
    code, _, err = invoke(capsys, *start, "--tasks", str(task), "--samples", "4", "--format", "json")
    assert (code, err) == (0, "")
    records = QUALITY.read(tmp_path / "out")
    assert {record.text.kind for record in records if record.text} == {"masked"}
    assert {task.kind for record in records for task in record.tasks} == {"cloze"}
    code, _, err = invoke(capsys, *start[:-2], "--out", str(tmp_path / "new"), "--tasks", "hellaswag")
    assert code == 2
    assert "is an encoder, which lm-evaluation-harness scores wrongly without an error: got 'hellaswag'" in err


def test_a_weight_that_is_not_finite_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import torch
    from safetensors.torch import load_file, save_file

    (tmp_path / "text.txt").write_text(TEXT)
    model = checkpoint(tmp_path / "llama")
    weights = load_file(model / "model.safetensors")
    weights["model.layers.1.mlp.up_proj.weight"][0, 0] = torch.nan
    save_file(weights, model / "model.safetensors", metadata={"format": "pt"})
    start = ["--model", str(model), "--text", str(tmp_path / "text.txt"), "--out", str(tmp_path / "out"), *SMALL]
    code, _, err = invoke(capsys, *start, "--decompose", "layers=0 rank=2")
    assert (code, err.splitlines()[-1]) == (1, "error: model.layers.1.mlp.up_proj.weight holds NaN or infinity")
    assert QUALITY.read(tmp_path / "out") == []


def test_a_failed_configuration_is_reported_and_the_others_measured(
    made: dict[str, str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from validate.factors.replace import WeightFactors

    whole = WeightFactors.__call__

    def broken(self: WeightFactors, site: Any, tensor: Any, factor: Any, dense: Any) -> Any:
        stages = whole(self, site, tensor, factor, dense)
        return [stage * float("inf") for stage in stages] if site.layer == 1 else stages

    monkeypatch.setattr(WeightFactors, "__call__", broken)
    code, out, err = invoke(
        capsys,
        "--model",
        made["model"],
        "--text",
        made["text"],
        "--out",
        made["out"],
        *SMALL,
        "--decompose",
        "layers=1 rank=2",
        "--decompose",
        "layers=0 rank=2",
        "--format",
        "json",
    )
    assert code == 1
    assert err.splitlines() == [
        "configuration 1 failed: negative log-likelihood is NaN or infinite in 6 of 6 blocks",
        "error: 1 of 3 configurations failed; 1: negative log-likelihood is NaN or infinite in 6 of 6 blocks",
    ]
    result = json.loads(out)
    assert [row["status"] for row in result["configurations"]] == ["ok", "failed", "ok"]
    assert result["configurations"][1]["text"] is None
    code, out, _ = invoke(capsys, "--out", made["out"], "--resume")
    assert code == 1
    assert "layers=1" in out


def test_failures_that_are_the_machines_are_measured_again(
    made: dict[str, str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from validate.quality.text import TextMeasure

    fails: list[str] = []
    measure = TextMeasure._measure

    def measured(self: TextMeasure, **options: Any) -> Any:
        if fails:
            raise RuntimeError(fails.pop())
        return measure(self, **options)

    monkeypatch.setattr(TextMeasure, "_measure", measured)
    start = ["--model", made["model"], "--text", made["text"], "--out", made["out"], *SMALL]
    ranks = [word for rank in (1, 2, 3, 4, 5) for word in ("--decompose", f"rank={rank}")]
    fails += ["CUDA error: unspecified launch failure"]
    code, out, err = invoke(capsys, *start, *ranks)
    assert (code, out) == (1, "")
    assert err.splitlines()[-1].startswith("error: the dense model cannot be measured; RuntimeError: CUDA error")
    folder = Path(made["out"])
    assert [record.status for record in QUALITY.read(folder)] == ["failed"]

    evaluate, calls = Evaluator.measure, 0

    def broken(self: Evaluator, *given: Any) -> Any:
        nonlocal calls
        calls += 1
        fails.extend(["CUDA out of memory"] * (calls in (2, 4, 5, 6)))  # a lone failure ends nothing
        return evaluate(self, *given)

    with monkeypatch.context() as patch:
        patch.setattr(Evaluator, "measure", broken)
        code, out, err = invoke(capsys, *start, "--resume")
    assert (code, out) == (1, "")
    assert err.splitlines()[-1] == (
        "error: 3 configurations in a row failed alike: got 'out-of-memory'; RuntimeError: CUDA out of memory; "
        "--resume measures them again"
    )
    assert [record.status for record in QUALITY.read(folder)] == ["ok", "failed", "ok", "failed", "failed", "failed"]

    code, out, err = invoke(capsys, *start, "--resume", *ranks, "--decompose", "rank=6", "--format", "json")
    assert (code, err) == (0, "")
    result = json.loads(out)
    assert (result["ok"], result["failed"], result["measured"]) == (7, 0, 5)
    assert [row["index"] for row in result["configurations"]] == list(range(7))
    lines = [json.loads(line)["index"] for line in (folder / "quality.jsonl").read_bytes().splitlines()]
    assert lines == [0, 0, 1, 2, 3, 4, 5, 6, 1, 3, 4, 5]  # what was never measured goes before what failed
    code, out, _ = invoke(capsys, *start, "--resume", "--format", "json")
    assert (code, json.loads(out)["measured"]) == (0, 0)


def test_the_dense_model_must_stay_the_one_on_record(made: dict[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    start = ["--model", made["model"], "--text", made["text"], "--out", made["out"], *SMALL]
    assert invoke(capsys, *start)[0] == 0
    file = Path(made["out"]) / "quality.jsonl"
    (record,) = QUALITY.read(file)
    assert record.text is not None
    line = json.loads(file.read_bytes())
    line["text"]["nll"][0] += 10.0
    file.write_text(json.dumps(line) + "\n")
    code, _, err = invoke(capsys, *start, "--resume", "--decompose", "rank=1")
    assert code == 1
    assert err.startswith("error: the dense model's loss is no longer the recorded one: got 0.05")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (["--model", "/nowhere"], "no such folder: got '/nowhere'"),
        (["--text", "/nowhere"], "cannot read text: got '/nowhere'"),
        (["--blocks", "1000"], "text too short: got"),
        (["--length", "129"], "--length is beyond the model: got 129; allowed: up to 128"),
        (["--factors", "whitened"], "whitened factors need calibration text; give --calibration-text FILE"),
        (["--decompose", "tensors=query rank=1"], "have no tensor of that name: got 'query'"),
        (["--config", "/nowhere"], "cannot read configuration file: got '/nowhere'"),
        (["--tasks", "/nowhere.jsonl"], "cannot read task: got '/nowhere.jsonl'"),
        (["--samples", "0"], "Invalid value for '--samples'"),
        (["--device", "cuda"], "no CUDA device: got 'cuda'"),
        (["--dtype", "int8"], "Invalid value for '--dtype'"),
    ],
)
def test_whatever_is_wrong_is_one_line(
    change: list[str], message: str, made: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    start = ["--model", made["model"], "--text", made["text"], "--out", made["out"], *SMALL]
    code, _, err = invoke(capsys, *start, *change)
    assert code == 2
    assert err.startswith("error: ")
    assert message in err
    assert err.count("\n") == 1


def test_what_is_missing_is_one_line(made: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(capsys, "--out", made["out"])[2].startswith("error: --model is missing; name a folder")
    assert "nothing to measure; give --text FILE" in invoke(capsys, "--model", made["model"], "--out", made["out"])[2]
    both = ["--text", made["text"], "--factors", "whitened", "--calibration-text", made["text"]]
    assert "is the text to predict" in invoke(capsys, "--model", made["model"], "--out", made["out"], *both)[2]
    model = checkpoint(tmp_path / "labels", BERT, kind="ForSequenceClassification")
    code, _, err = invoke(capsys, "--model", str(model), "--text", made["text"], "--out", made["out"], *SMALL)
    assert code == 2
    assert "has no head that predicts text: got 'BertForSequenceClassification'" in err


def test_another_text_needs_another_folder(made: dict[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    start = ["--model", made["model"], "--out", made["out"], *SMALL]
    assert invoke(capsys, *start, "--text", made["text"])[0] == 0
    code, _, err = invoke(capsys, *start, "--text", made["calibration"], "--resume")
    assert code == 1
    assert err.startswith("error: cannot resume with another text: got ")
    code, _, err = invoke(capsys, *start, "--text", made["text"], "--blocks", "5", "--resume")
    assert (code, err) == (1, "error: cannot resume with another blocks: got 5; allowed: 6; choose another --out\n")


def test_help_names_an_example(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = invoke(capsys, "--help")
    assert code == 0
    assert "validate quality --model my-llama --text heldout.txt" in out


def test_an_interrupt_reports_what_there_is(
    made: dict[str, str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    measure, cases = Evaluator.measure, list[QualityCase]()

    def interrupted(self: Evaluator, case: QualityCase, index: int = 0) -> QualityRecord:
        cases.append(case)
        if len(cases) == 4:
            signal.raise_signal(signal.SIGINT)
        return measure(self, case, index)

    monkeypatch.setattr(Evaluator, "measure", interrupted)
    words = ["--model", made["model"], "--text", made["text"], "--out", made["out"], "--samples", "40", *SMALL]
    code, out, err = invoke(capsys, *words, "--format", "json")
    assert code == 130
    assert err.splitlines()[-1] == "error: interrupted"
    assert len(json.loads(out)["configurations"]) == len(QUALITY.read(Path(made["out"]) / "quality.jsonl")) == 3
