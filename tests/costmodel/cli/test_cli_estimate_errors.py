"""Bad input to `costmodel estimate`: exit code 2, nothing on stdout, one line on stderr that says what to do."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from costmodel.cli import cli, run

ROOT = Path(__file__).resolve().parents[3]
GPT2 = json.loads((ROOT / "costmodel" / "families" / "configs" / "gpt2.json").read_text())
L4 = (ROOT / "hw_profiles" / "l4.toml").read_text()


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The error line of a command that must fail as the contract says."""
    code = run(cli, list(arguments))
    out, err = capsys.readouterr()
    assert (code, out) == (2, ""), err
    assert err.startswith("error: ")
    assert err.endswith("\n")
    assert err.count("\n") == 1
    assert "Traceback" not in err
    return err


def estimate(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The same of `estimate`, with a model and a device unless they are given."""
    model = () if "--model" in arguments else ("--model", "llama2-7b")
    hardware = () if "--hw" in arguments else ("--hw", "a100-sxm-80gb")
    return refused(capsys, "estimate", *model, *hardware, *arguments)


HUGE = "9" * 5000
OPTIONS: list[tuple[list[str], str]] = [
    (
        ["--model", "lama2-7b"],
        "unknown model: got 'lama2-7b'; allowed: a built-in name, a config.json or a folder with one, or owner/name on "
        "the Hugging Face hub; did you mean llama2-7b",
    ),
    (["--model", "llama3"], "did you mean llama3-8b or llama3-70b or"),
    (["--model", ""], "unknown model: got ''"),
    (["--model", "a\nb"], "unknown model: got 'a\\nb'"),
    (["--model", "x" * 300], "cannot look up model"),
    (["--hw", "a100-sxm-80"], "unknown hardware: got 'a100-sxm-80'; did you mean a100-sxm-80gb"),
    (["--hw", "a100"], "did you mean a100-pcie-40gb or a100-pcie-80gb or a100-sxm-40gb or a100-sxm-80gb?"),
    (["--hw", ""], "unknown hardware: got ''"),
    (["--hw", "none.toml"], "cannot read hardware profile: got 'none.toml'; No such file"),
    (["--batch", "0"], "--batch out of range: got 0; allowed: a whole number from 1 to 1,048,576"),
    (["--batch", "-3"], "--batch out of range: got -3"),
    (["--batch", "1.5"], "'1.5' is not a valid integer; see "),
    (["--batch", "1e3"], "not a valid integer"),
    (["--batch", "nan"], "not a valid integer"),
    (["--batch", ""], "not a valid integer"),
    (["--batch", "99999999999999999999"], "--batch out of range"),
    (["--batch", HUGE], "not a valid integer"),
    (["--seq-len", "0"], "--seq-len out of range: got 0"),
    (["--seq-len", "-1"], "--seq-len out of range"),
    (["--seq-len", str(2**63)], "--seq-len out of range"),
    (["--seq-len", "16777216"], "--seq-len out of range"),
    (["--kv-len", "0"], "--kv-len out of range: got 0"),
    (["--kv-len", "-7"], "--kv-len out of range"),
    (["--kv-len", "many"], "not a valid integer"),
    (["--kv-len", str(2**70)], "--kv-len out of range"),
    (["--new-tokens", "0"], "--new-tokens out of range: got 0"),
    (["--new-tokens", "-1"], "--new-tokens out of range"),
    (["--new-tokens", "999999999"], "--new-tokens out of range"),
    (["--batch", "1048576", "--seq-len", "16777215", "--kv-len", "5"], "batch x length is too large to count"),
    (["--batch", "1048576", "--seq-len", "4096", "--lm-head", "all"], "batch x length is too large to count"),
    (["--batch", "1048576", "--kv-len", "16777216", "--phase", "decode"], "batch x length is too large to count"),
    (["--seq-len", "16777215", "--attention", "unfused", "--phase", "prefill"], "batch x length is too large to count"),
    (["--phase", "train"], "'train' is not one of 'prefill', 'decode', 'both'"),
    (["--runtime", "xla"], "'xla' is not one of 'eager', 'graph'"),
    (["--attention", "flash"], "'flash' is not one of"),
    (["--lm-head", "none"], "'none' is not one of"),
    (["--format", "nonsense"], "'nonsense' is not one of 'table', 'json', 'csv'"),
    (["--dtype", "int8"], "unknown dtype: got 'int8'; allowed: fp32, tf32, fp16, bf16"),
    (["--dtype", "fp64"], "unknown dtype: got 'fp64'"),
    (["--dtype", ""], "unknown dtype: got ''"),
    (["--weight-dtype", "fp4"], "unknown weight dtype: got 'fp4'; allowed: fp32, tf32, fp16, bf16, fp8, int8, int4"),
    (
        ["--hw", "t4", "--dtype", "bf16"],
        "t4 has no matrix rate for --dtype: got 'bf16'; allowed: fp32, fp16; use --dtype fp16",
    ),
    (["--hw", "epyc-9654", "--dtype", "tf32"], "epyc-9654 has no matrix rate for --dtype: got 'tf32'"),
    (
        ["--hw", "epyc-9654", "--dtype", "fp32", "--runtime", "graph"],
        "epyc-9654 is a CPU, which replays no graph: got 'graph'; allowed: eager; use --runtime eager or a stack of "
        "CPUs",
    ),
    (["--model", "bert-base", "--phase", "decode"], "bert-base is an encoder and has no decode phase"),
    (["--model", "bert-base", "--kv-len", "9"], "bert-base is an encoder and has no decode phase: got '--kv-len 9'"),
    (["--model", "bert-base", "--new-tokens", "9"], "bert-base is an encoder and generates no tokens"),
    (["--phase", "prefill", "--kv-len", "9"], "--kv-len belongs to the decode phase"),
    (
        ["--phase", "decode", "--seq-len", "100", "--kv-len", "7"],
        "--seq-len and --kv-len both say what a decode step attends to: got '100, 7'; leave out one of them",
    ),
    (["--new-tokens", "4", "--kv-len", "7"], "--kv-len says nothing about a request, whose steps follow its prompt"),
    (["--phase", "decode", "--new-tokens", "9"], "--new-tokens prices a prefill and its decode steps"),
    (["--decompose", "recipe.toml"], "a file of SPECs is read by --recipe"),
    (["--foo"], "No such option '--foo'"),
    (["--foo=1"], "No such option"),
    (["-x"], "No such option"),
    (["--batch"], "requires an argument"),
    (["stray"], "unexpected extra argument (stray); see "),
    (["--decompose", "layers=2", "rank=1"], "quote a SPEC with its spaces as one argument"),
    (["--config", "none.json"], "cannot read configuration file: got 'none.json'; No such file"),
    (["--config", ""], "cannot read configuration file: got ''"),
    (["--config", "/"], "cannot read configuration file: got '/'; Is a directory"),
    (["--calibration", "none.json"], "cannot read calibration: got 'none.json'; No such file"),
    (["--calibration", "/"], "Is a directory"),
]


@pytest.mark.parametrize(("arguments", "expected"), OPTIONS, ids=[" ".join(a)[:40] for a, _ in OPTIONS])
def test_options(arguments: list[str], expected: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert expected in estimate(capsys, *arguments)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["estimat"], "unknown command: got 'estimat'; did you mean estimate?"),
        (["Estimate"], "did you mean estimate?"),
        (["hw", "shwo"], "unknown command: got 'shwo'; did you mean show?"),
        (["explore", "--faster", "5%"], "`recommend` takes --faster; here a limit says so"),
        (["models", "frob"], "unknown command: got 'frob'; known: list, show"),
        (["estimate", "--format"], "Option '--format' requires an argument; see --help"),
        (
            ["estimate", "--model", "gpt2", "--hw", "l4", "--calibration", ""],
            "--calibration is empty; allowed: auto, none or the path of a calibration",
        ),
        (["--nonsense"], "No such option '--nonsense'"),
        (["estimate"], "Missing option '--model'"),
        (["estimate", "--model", "gpt2"], "Missing option '--hw'"),
    ],
)
def test_commands(arguments: list[str], expected: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert expected in refused(capsys, *arguments)


SPECS = [
    ("", "empty SPEC"),
    ("layers=32 rank=1", "layer out of range for llama2-7b: got 32; allowed: 0 to 31"),
    ("tensors=query rank=1", "no tensor of that name: got 'query'; allowed: q_proj"),
    ("rank=0", "not a rank: got '0'"),
    ("rank=-1", "not a rank"),
    ("rank=4097", "rank out of range: got 4097; allowed: 1 to 4096"),
    ("rank=many", "not a rank: got 'many'"),
    ("rank=1e3", "not a rank"),
    ("rank=inf", "not a rank"),
    ("rank=nan", "not a rank"),
    (f"rank={HUGE}", "not a rank"),
    ("rank=1 rank=1", "key given twice"),
    ("ranks=1", "unknown key"),
    ("form=dense rank=1", "form=dense takes no rank"),
    ("layers=1", "needs a rank"),
    ("form=drop rank=1", "takes no rank"),
    ("form=drop tensors=attn", "takes whole layers"),
]


@pytest.mark.parametrize(("spec", "expected"), SPECS, ids=[spec[:30] for spec, _ in SPECS])
def test_specs(spec: str, expected: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert expected in estimate(capsys, "--decompose", "rank=8", "--decompose", spec)


CONFIGS: list[tuple[bytes, str]] = [
    (b"", "is not JSON"),
    (b"{", "is not JSON"),
    (b"[]", "allowed: an object"),
    (b"\xff\xfe", "not UTF-8"),
    (b'{"ranks": {"layers.40.q_proj": 1}}', "layer out of range for llama2-7b: got 40"),
    (b'{"ranks": {"layers.1.query": 1}}', "has no such site: got 'layers.1.query'"),
    (b'{"ranks": {"layers.1.q_proj": 1.0}}', "allowed: a rank of form svd"),
    (b'{"ranks": {"layers.1.q_proj": true}}', "allowed: a rank of form svd"),
    (b'{"ranks": {"layers.1.q_proj": "1"}}', "allowed: a rank of form svd"),
    (b'{"ranks": {"layers.1.q_proj": null}}', "allowed: a rank of form svd"),
    (b'{"ranks": {"layers.1.q_proj": -1}}', "rank out of range"),
    (b'{"rank": {}}', "unknown key"),
    (b'{"drop": [1], "drop": [2]}', "key 'drop' twice"),
    (b'{"drop": "1"}', "drop: got"),
    (b'{"drop": [1], "ranks": {"layers.1.q_proj": 1}}', "a rank is given for a dropped layer"),
    (b'{"ranks": {"layers.1.q_proj": NaN}}', "got nan; allowed: a finite number"),
    (b"[" * 100_000, "nested too deeply"),
    (
        b'{"ranks": {"layers.1.q_proj": ' + b"9" * 5000 + b"}}",
        "ranks.layers.1.q_proj: got inf; allowed: a finite number",
    ),
]


@pytest.mark.parametrize(("content", "expected"), CONFIGS, ids=[str(n) for n in range(len(CONFIGS))])
def test_config_files(content: bytes, expected: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "ranks.json"
    path.write_bytes(content)
    line = estimate(capsys, "--config", str(path))
    assert expected in line
    assert str(path) in line


def model(folder: Path, content: Any) -> str:
    path = folder / "config.json"
    path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    return str(path)


MODELS: list[tuple[Any, str]] = [
    (b"", "is not JSON"),
    (b"not json", "is not JSON"),
    (b"[1]", "not a JSON object"),
    (b"\xff", "not UTF-8"),
    ({}, "model_type"),
    ({"model_type": "rwkv"}, "architecture not supported: got 'rwkv'"),
    ({"model_type": "t5", "d_model": 512}, "llama"),
    ({"model_type": 7}, "model_type"),
    ({"model_type": "gpt2"}, "missing"),
    ({**GPT2, "n_layer": -1}, "n_layer"),
    ({**GPT2, "n_layer": 0}, "n_layer"),
    ({**GPT2, "n_layer": 10**9}, "n_layer"),
    ({**GPT2, "n_embd": "768"}, "n_embd"),
    ({**GPT2, "n_embd": None}, "n_embd"),
    ({**GPT2, "n_head": 7}, "n_head"),
    ({**GPT2, "vocab_size": 1.5}, "vocab_size"),
    ({**GPT2, "vocab_size": True}, "vocab_size"),
    (b'{"model_type": "gpt2", "n_embd": NaN}', "n_embd: got nan"),
    (b"[" * 100_000, "nested too deeply"),
]


@pytest.mark.parametrize(("content", "expected"), MODELS, ids=[str(n) for n in range(len(MODELS))])
def test_model_files(content: Any, expected: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert expected in estimate(capsys, "--model", model(tmp_path, content))


def test_missing_model_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "folder without config.json" in estimate(capsys, "--model", str(tmp_path))
    assert "unknown model" in estimate(capsys, "--model", str(tmp_path / "config.json"))


PROFILES = [
    ("", "schema"),
    ("not toml", "is not TOML"),
    (L4.replace("memory_gb_per_s", "bandwidth"), "memory_gb_per_s"),
    (L4.replace("value = 300,", 'value = "300",'), "figures.memory_gb_per_s.value"),
    (L4.replace("value = 300,", "value = -300,"), "figures.memory_gb_per_s.value"),
    (L4.replace("value = 300,", "value = inf,"), "figures.memory_gb_per_s.value"),
    (L4.replace("value = 300,", "value = nan,"), "figures.memory_gb_per_s.value"),
    (L4.replace("value = 300,", "value = 0,"), "figures.memory_gb_per_s.value"),
]


@pytest.mark.parametrize(("content", "expected"), PROFILES, ids=[str(n) for n in range(len(PROFILES))])
def test_profile_files(content: str, expected: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "card.toml"
    path.write_text(content)
    assert expected in estimate(capsys, "--hw", str(path))


CALIBRATIONS = [b"", b"\xff", b"{", b"[" * 100_000]


@pytest.mark.parametrize("content", CALIBRATIONS, ids=[str(n) for n in range(len(CALIBRATIONS))])
def test_calibration_files(content: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "calibration.json"
    path.write_bytes(content)
    assert str(path) in estimate(capsys, "--calibration", str(path))


def test_a_model_whose_head_alone_is_too_large_to_count(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = model(tmp_path, {**GPT2, "n_layer": 1, "n_embd": 8, "n_head": 2, "vocab_size": 10**8})
    line = estimate(capsys, "--model", path, "--batch", "1048576", "--seq-len", "10000", "--lm-head", "all")
    assert "batch x length is too large to count" in line


VALUES = st.text(max_size=20).filter(lambda text: not text.startswith("-")) | st.integers(-5, 10**30).map(str)
NAMES = st.sampled_from(["--decompose", "--batch", "--dtype", "--kv-len", "--config", "--hw", "--model"])


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(NAMES, VALUES), max_size=4))
def test_any_arguments_end_in_an_answer_or_one_line(
    capsys: pytest.CaptureFixture[str], arguments: list[tuple[str, str]]
) -> None:
    words = [word for pair in arguments for word in pair]
    code = run(cli, ["estimate", "--model", "gpt2", "--hw", "l4", "--format", "csv", *words])
    out, err = capsys.readouterr()
    told = [line for line in err.splitlines() if not line.endswith("the last counts")]
    if code == 0:
        assert told == []
    else:
        assert (code, out) == (2, "")
        assert [line[:7] for line in told] == ["error: "]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--hw", "l4"], "`costmodel models list` names some"),
        (["--model", "gpt2"], "`costmodel hw list` names some"),
        (["--model", "gpt2", "--hw", "."], "this is a folder: got '.'; name the .toml file in it"),
        (["--model", "gpt2", "--hw", "l4", "--recipe", "choice.json"], "a configuration in JSON is read by --config"),
        (["--model", "gpt2", "--hw", "l4", "--recipe", "empty.toml"], "a recipe says schema = 1 and decompose"),
        (["--model", "gpt2", "--hw", "l4", "--config", "empty.json"], "is not JSON: it is empty"),
    ],
)
def test_what_is_wrong_is_said_with_what_to_do(
    words: list[str],
    told: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, content in (("choice.json", "{}"), ("empty.toml", ""), ("empty.json", " \n")):
        (tmp_path / name).write_text(content)
    assert run(cli, ["estimate", *words]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert told in error
