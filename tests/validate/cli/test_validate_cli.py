"""The command end to end: three families, resuming, interrupts, gates, reports, and one line for everything wrong."""

from __future__ import annotations

import json
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")

from cases import few_or_all
from validating import BERT, GPT2, LLAMA, write_config

from validate.cli import cli
from validate.speed.records import read_samples

FAST = ["--threads", "1", "--budget", "0.15", "--precision", "40", "--device", "cpu"]
NAMED = ["--hw", "epyc-9654"]  # else memory is measured first
SMALL = ["--seq-len", "8", "--kv-len", "12", "--batch", "1", "--batch", "2"]


def invoke(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    from costmodel.cli import run

    code = run(cli, list(arguments))
    out, err = capsys.readouterr()
    return code, out, err


@pytest.mark.parametrize("family", few_or_all(["llama"], ["bert", "gpt2"]))
def test_a_run_of_each_family(
    family: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], request: pytest.FixtureRequest
) -> None:
    config: dict[str, Any] = {"llama": LLAMA, "bert": BERT, "gpt2": GPT2}[family]
    model = write_config(tmp_path / family, config)
    folder = tmp_path / "out"
    small = SMALL[:2] + SMALL[4:] if family == "bert" else SMALL  # an encoder has no decode steps to give lengths of
    common = ["--samples", "8", "--seed", "0", "--model", str(model), "--out", str(folder), *FAST, *small]
    code, out, err = invoke(capsys, *common, "--format", "json")
    assert (code, err) == (0, "")
    result = json.loads(out)
    assert (result["schema"], result["samples"], result["ok"], result["identity_ok"]) == (1, 8, 8, 8)
    assert {row["name"] for row in result["ratio_errors"]} >= {"datasheet", "time ~ parameters"}
    records = read_samples(folder)
    assert [record.index for record in records] == list(range(8))
    assert {record.status for record in records} == {"ok"}
    assert records[0].strata.form == "dense"
    assert records[0].model.name == family
    assert any(record.repeat for record in records)
    assert {record.workload["phase"] for record in records} == (
        {"prefill"} if family == "bert" else {"prefill", "decode"}
    )
    assert (folder / "report.html").stat().st_size > 20_000
    assert json.loads((folder / "run.json").read_text())["hardware"] == records[0].hardware

    (folder / "report.html").unlink()
    request.getfixturevalue("no_pictures")
    code, out, err = invoke(capsys, "report", str(folder), "--format", "json")
    assert (code, err) == (0, "")
    again = json.loads(out)
    assert again["ratio_errors"] == result["ratio_errors"]
    assert (folder / "report.html").exists()
    code, out, _ = invoke(capsys, "report", str(folder))
    assert code == 0
    assert "identity checks passed in 8" in " ".join(out.split())
    code, out, _ = invoke(capsys, "report", str(folder), "--format", "csv")
    assert out.startswith("name,count,bias,median")


@pytest.mark.usefixtures("no_pictures", "one_copy")
def test_the_gate(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from validating import sample

    from validate.speed.records import SAMPLES

    (tmp_path / "samples.jsonl").write_bytes(SAMPLES.encode(sample(["rank=2"], 0.5)))
    assert invoke(capsys, "report", str(tmp_path), "--fail-above", "1000")[0] == 0
    code, _, err = invoke(capsys, "report", str(tmp_path), "--fail-above", "1")
    assert code == 1
    assert err.startswith("error: median error ")
    assert err.endswith("of the ratio is above 1 %\n")
    (tmp_path / "samples.jsonl").write_bytes(SAMPLES.encode(sample([], 1.0)))
    assert invoke(capsys, "report", str(tmp_path), "--fail-above", "1")[::2] == (
        1,
        "error: no sample to compare with --fail-above\n",
    )
    (tmp_path / "samples.jsonl").write_bytes(SAMPLES.encode(sample(["rank=2"], None)))
    assert invoke(capsys, "report", str(tmp_path), "--fail-above", "1")[::2] == (1, "error: 1 samples failed\n")


@pytest.mark.usefixtures("no_pictures", "one_copy")
def test_given_configurations_and_resume(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = write_config(tmp_path / "llama", LLAMA)
    configs, folder = tmp_path / "frontier.json", tmp_path / "out"
    entries = [
        {"objectives": {}, "config": {"form": "svd", "ranks": {"layers.0.q_proj": rank}, "drop": []}} for rank in (2, 4)
    ]
    configs.write_text(json.dumps({"frontier": entries, "top": []}))
    start = ["--configs", str(configs), "--model", str(model), "--out", str(folder), "--phase", "decode", *FAST, *NAMED]
    code, out, err = invoke(capsys, *start, "--resume", "--format", "json")
    assert (code, err) == (0, f"note: {folder} holds no run to resume; one is started\n")
    assert json.loads(out)["samples"] == 3
    lines = (folder / "samples.jsonl").read_bytes()
    assert invoke(capsys, *start)[::2] == (
        1,
        f"error: {folder} holds 3 samples of an earlier run; add --resume to continue it, or choose another --out\n",
    )
    code, out, err = invoke(capsys, "--out", str(folder), "--resume", "--format", "json")
    assert (code, err) == (0, "")
    assert json.loads(out)["samples"] == 3
    assert (folder / "samples.jsonl").read_bytes() == lines
    code, _, err = invoke(capsys, "--out", str(folder), "--resume", "--seed", "5")
    assert code == 1
    assert err == "error: cannot resume with another seed: got 5; allowed: 0; choose another --out\n"


@pytest.mark.usefixtures("no_pictures", "one_copy")
def test_files_that_have_moved_are_the_same_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from quality_cases import checkpoint

    model = checkpoint(tmp_path / "here" / "llama")
    recipe = 'schema = 1\nmodel = "gpt2"\ndecompose = ["layers=0 tensors=q_proj rank=2"]\n'
    (tmp_path / "here" / "c.toml").write_text(recipe)
    start = ["--out", str(tmp_path / "out"), "--phase", "decode", *FAST, *NAMED]
    here = ["--model", str(model), "--configs", str(tmp_path / "here" / "c.toml")]
    assert invoke(capsys, *start, *here)[0] == 0
    lines = (tmp_path / "out" / "samples.jsonl").read_bytes()
    cut = lines[: lines.index(b"\n") + 1]  # half done
    (tmp_path / "out" / "samples.jsonl").write_bytes(cut)
    (tmp_path / "here").rename(tmp_path / "there")
    there = ["--model", str(tmp_path / "there" / "llama"), "--configs", str(tmp_path / "there" / "c.toml")]
    other = f"warning: {there[3]} was written for gpt2 and is applied to llama\n"
    assert invoke(capsys, *start, *there, "--resume")[::2] == (0, other)
    found = (tmp_path / "out" / "samples.jsonl").read_bytes()
    assert found.startswith(cut)
    assert found.count(b"\n") == 2

    Path(there[3]).write_text(recipe.replace("rank=2", "rank=4"))
    code, _, err = invoke(capsys, *start, *there, "--resume")
    assert code == 1
    assert err.startswith(f"{other}error: cannot resume with another configs: got ")
    Path(there[3]).unlink()
    weights = tmp_path / "there" / "llama" / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-2] ^= 1
    weights.write_bytes(content)
    Path(there[3]).write_text(recipe)
    code, _, err = invoke(capsys, *start, *there, "--resume")
    assert code == 1
    assert err.startswith(f"{other}error: cannot resume with another weights: got ")
    assert err.count("SHA-256") == 2


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--samples", "0"], 2, "Invalid value for '--samples'"),
        (["--samples", "ten"], 2, "Invalid value for '--samples'"),
        (["--model", "llama2-7x"], 2, "unknown model: got 'llama2-7x'"),
        (["--model", "bert-base", "--phase", "decode"], 2, "is an encoder and has no decode phase"),
        (["--device", "cuda"], 2, "no CUDA device: got 'cuda'"),
        (["--hw", "h1000"], 2, "unknown hardware: got 'h1000'"),
        (["--hw", "t4", "--dtype", "bf16"], 2, "t4 has no bf16 rate"),
        (["--device", "cpu", "--runtime", "graph"], 2, "which replays no graph"),
        (["--configs", "missing.json"], 2, "cannot read configurations: got 'missing.json'"),
        (["--num-layers", "0"], 2, "Invalid value for '--num-layers'"),
        (["--calibration", "missing.json"], 2, "missing.json"),
        (["--out", "/proc/nowhere"], 1, "cannot write to folder: got '/proc/nowhere'"),
        (["--samples", "2", "report"], 2, "these options belong to a run without a command: samples"),
        (["repot"], 2, "unknown command: got 'repot'; did you mean report"),
        (["report", "/nowhere"], 2, "cannot read records"),
        (["--resume", "--out", "new"], 2, "nothing to resume: got 'new'; allowed: a folder with run.json"),
        (["--resume", "--stop-after", "9", "--format", "json"], 2, "nothing to resume: got 'validation'"),
        (["quality", "--resume", "--out", "new"], 2, "nothing to resume: got 'new'"),
        (["probe", "--resume", "--out", "new"], 2, "nothing to resume: got 'new'"),
        (["choose", "--report", "--out", "new"], 2, "no loop in this folder: got 'new'"),
    ],
)
def test_whatever_is_wrong_is_one_line(
    arguments: list[str],
    code: int,
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    found, _, err = invoke(capsys, *arguments)
    assert found == code
    assert err.startswith("error: ")
    assert message in err
    assert err.count("\n") == 1
    assert "Traceback" not in err
    assert not list(tmp_path.iterdir()), "something was written before the input was refused"


def test_a_missing_library_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.setitem(sys.modules, "validate.speed.bench", None)
    monkeypatch.setattr("validate.cli._EXTRA", ("validate",))
    code, _, err = invoke(capsys, "--samples", "2", "--out", str(tmp_path / "out"), "--device", "cpu")
    assert code == 2
    assert err.startswith(
        "error: a library that measuring needs is missing: got 'validate.speed.bench'; install the extra"
    )


@pytest.mark.usefixtures("no_pictures", "one_copy")
def test_a_run_stops_when_told_and_goes_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = write_config(tmp_path / "llama", LLAMA)
    start = ["--samples", "3", "--model", str(model), "--out", str(tmp_path / "out"), *FAST, *NAMED, *SMALL]
    import validate.speed.bench  # noqa: F401 - or timing keeps the clock below

    clock = iter([0.0, *[10.0] * 10_000])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("validate.cli.measure.time.monotonic", lambda: next(clock))
        code, out, _ = invoke(capsys, *start, "--stop-after", "5", "--format", "json")
    assert (code, json.loads(out)["samples"]) == (0, 0)
    code, out, _ = invoke(capsys, "--out", str(tmp_path / "out"), "--resume", "--format", "json")
    assert (code, json.loads(out)["samples"]) == (0, 3)


@pytest.mark.usefixtures("no_pictures", "one_copy")
def test_weights_of_a_folder_are_factored(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from validating import tiny_spec

    from costmodel.units import DType
    from validate.devices.cpu import CpuDevice
    from validate.speed.subject import Subject

    model = tmp_path / "trained"
    Subject(LLAMA, tiny_spec(LLAMA), CpuDevice(1), DType.FP32, seed=3).model.save_pretrained(model)
    code, out, err = invoke(
        capsys,
        "--samples",
        "4",
        "--model",
        str(model),
        "--out",
        str(tmp_path / "out"),
        "--num-layers",
        "2",
        *FAST,
        *NAMED,
        *SMALL,
        "--format",
        "json",
    )
    assert (code, err) == (0, "")
    assert json.loads(out)["ok"] == 4
    assert {(r.model.weights, r.model.factors, r.model.num_layers) for r in read_samples(tmp_path / "out")} == {
        ("trained", "factorised", 2)
    }


def test_help(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = invoke(capsys, "--help")
    assert code == 0
    assert "validate --samples 20" in out
    assert "report" in out
    code, out, _ = invoke(capsys)
    assert code == 2
    assert "--samples" in out


@pytest.mark.usefixtures("no_pictures", "one_copy")
def test_an_interrupt_ends_with_a_report(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from validate.speed.runner import Runner

    model, folder = write_config(tmp_path / "llama", LLAMA), tmp_path / "out"
    measure, begun = Runner.measure, []

    def interrupted(self: Runner, *given: Any, **options: Any) -> Any:
        begun.append(given)
        if len(begun) == 4:
            signal.raise_signal(signal.SIGINT)
        return measure(self, *given, **options)

    monkeypatch.setattr(Runner, "measure", interrupted)
    words = ["--samples", "20", "--model", str(model), "--out", str(folder), *FAST, *NAMED, *SMALL]
    code, out, err = invoke(capsys, *words, "--format", "json")
    assert code == 130
    assert err.splitlines()[-1] == "error: interrupted"
    assert json.loads(out)["samples"] == len(read_samples(folder)) == 3
    assert (folder / "report.html").exists()


def test_a_second_run_on_the_folder_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from validate.speed.records import SAMPLES
    from validate.store.journal import Journal

    with Journal(tmp_path, SAMPLES, resume=False):
        code, _, err = invoke(capsys, "--samples", "2", "--out", str(tmp_path))
    assert code == 1
    assert err.startswith("error: folder is in use by another run")
