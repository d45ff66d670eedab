"""`costmodel estimate` as a user meets it: the contract's keys and defaults, formats, phases, the printed table."""

from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path
from typing import Any

import pytest

from costmodel.cli import cli, run
from costmodel.cli.common import text_width
from costmodel.families.load import load_model

COSTS = [
    "params",
    "weight_bytes",
    "flops",
    "vector_flops",
    "hbm_bytes",
    "arithmetic_intensity",
    "latency_s",
    "latency_lower_s",
    "latency_upper_s",
    "latency_p05_s",
    "latency_p95_s",
    "level",
    "tokens_per_s",
    "kv_cache_bytes",
    "peak_memory_bytes",
    "fits",
    "energy_j",
]
SAVED = [
    "params_pct",
    "weight_bytes_pct",
    "flops_pct",
    "latency_pct",
    "energy_pct",
    "peak_memory_pct",
    "speedup",
    "latency_p05_pct",
    "latency_p95_pct",
]
OPS = [
    "name",
    "kind",
    "m",
    "n",
    "k",
    "flops",
    "hbm_bytes",
    "arithmetic_intensity",
    "compute_s",
    "memory_s",
    "overhead_s",
    "latency_s",
    "bound",
]
POINT = "layers=2,17,31 tensors=all rank=1 form=tucker"
LLAMA = ["--model", "llama2-7b", "--hw", "a100-sxm-80gb", "--calibration", "none"]
GPT2 = ["--model", "gpt2", "--hw", "l4", "--calibration", "none"]


@pytest.fixture
def price(capsys: pytest.CaptureFixture[str]) -> Any:
    """Runs the command; returns what it printed, after checking that it succeeded without a word on stderr."""

    def call(*arguments: str) -> str:
        code = run(cli, ["estimate", *arguments])
        out, err = capsys.readouterr()
        assert (code, err) == (0, "")
        return out

    return call


@pytest.fixture
def priced(price: Any) -> Any:
    """The same as strict JSON, decoded."""

    def call(*arguments: str) -> Any:
        def refuse(name: str) -> None:
            raise AssertionError(f"{name} is not JSON")

        return json.loads(price(*arguments, "--format", "json"), parse_constant=refuse)

    return call


def test_json_has_every_key_of_the_contract(priced: Any) -> None:
    found = priced(*LLAMA, "--decompose", POINT)
    keys = ["schema", "model", "hardware", "decomposition", "phases", "request", "assumptions", "warnings", "likely"]
    assert list(found) == keys
    assert (found["schema"], found["model"], found["hardware"]) == (1, "llama2-7b", "a100-sxm-80gb")
    assert found["request"] is None
    assert found["warnings"] == []
    assert all(isinstance(text, str) and text for text in found["assumptions"])
    assert found["assumptions"]
    assert [phase["workload"]["phase"] for phase in found["phases"]] == ["prefill", "decode"]
    for phase in found["phases"]:
        assert list(phase) == ["workload", "dense", "decomposed", "saved", "verdict", "ops"]
        assert list(phase["dense"]) == list(phase["decomposed"])
        assert set(COSTS) <= set(phase["dense"])
        assert list(phase["saved"]) == SAVED
        assert list(phase["verdict"]) == ["code", "text"]
        assert phase["verdict"]["code"] in ("gain", "none", "slower", "does-not-fit")
        assert phase["ops"]
        for op in phase["ops"]:
            assert set(OPS) <= set(op)
            assert op["bound"] in ("compute", "memory", "overhead")


def test_json_types_and_definitions(priced: Any) -> None:
    for phase in priced(*LLAMA, "--decompose", POINT)["phases"]:
        work = phase["workload"]
        for costs in (phase["dense"], phase["decomposed"]):
            for key in (
                "params",
                "weight_bytes",
                "flops",
                "vector_flops",
                "hbm_bytes",
                "kv_cache_bytes",
                "peak_memory_bytes",
                "kernels",
            ):
                assert type(costs[key]) is int, key
            assert costs["fits"] is True
            assert costs["level"] == "datasheet"
            assert costs["latency_p05_s"] is None
            assert costs["latency_p95_s"] is None
            assert costs["latency_lower_s"] <= costs["latency_s"] <= costs["latency_upper_s"]
            assert costs["arithmetic_intensity"] == costs["flops"] / costs["hbm_bytes"]
            assert costs["tokens_per_s"] == work["batch"] * work["q_len"] / costs["latency_s"]
            assert costs["peak_memory_bytes"] > costs["weight_bytes"] + costs["kv_cache_bytes"]
        dense, decomposed = phase["dense"], phase["decomposed"]
        for name in ("params", "weight_bytes", "flops", "latency", "energy", "peak_memory"):
            key = {"latency": "latency_s", "energy": "energy_j", "peak_memory": "peak_memory_bytes"}.get(name, name)
            expected = 100 * (dense[key] - decomposed[key]) / dense[key]
            assert phase["saved"][f"{name}_pct"] == expected
        assert phase["saved"]["speedup"] == dense["latency_s"] / decomposed["latency_s"]
        assert dense["params"] == 6_738_415_616
        assert round(phase["saved"]["params_pct"], 6) == 9.006438


@pytest.mark.parametrize(
    ("layers", "count", "expected"),
    [
        ("2,29", 2, 6.004292),
        ("2,17,31", 3, 9.006438),
        ("2-26:6", 5, 15.010730),
        ("4-28:4", 7, 21.015023),
        ("2-29:3,31", 11, 33.023607),
        ("0-30:2", 16, 48.034337),
        ("1-9:2,10-18,20-30:2", 20, 60.042922),
        ("1-9:2,10-29", 25, 75.053652),
        ("0-6:2,8-31", 28, 84.060091),
        ("all", 32, 96.068675),
    ],
)
def test_sizes_of_the_paper(layers: str, count: int, expected: float, priced: Any) -> None:
    """Each layer loses 202,375,168 parameters and gets 78,087 back."""
    found = priced(*LLAMA, "--phase", "prefill", "--decompose", f"layers={layers} rank=1 form=tucker")["phases"][0]
    assert found["dense"]["params"] - found["decomposed"]["params"] == count * (202_375_168 - 78_087)
    assert round(found["saved"]["params_pct"], 6) == expected


def test_ops_are_those_of_the_decomposed_model_and_add_up(priced: Any) -> None:
    for phase in priced(*LLAMA, "--decompose", POINT, "--runtime", "graph")["phases"]:
        ops, costs = phase["ops"], phase["decomposed"]
        names = [op["name"] for op in ops]
        assert len(set(names)) == len(names)
        for suffix in ("in", "core", "out"):
            assert f"model.layers.2.self_attn.q_proj.{suffix}" in names
        assert "model.layers.2.self_attn.q_proj" not in names
        assert "model.layers.3.self_attn.q_proj" in names
        for key in ("flops", "vector_flops", "hbm_bytes", "kernels"):
            assert sum(op[key] for op in ops) == costs[key]
        assert sum(op["latency_s"] for op in ops) == pytest.approx(costs["latency_s"], rel=1e-12)
        gemm = next(op for op in ops if op["name"] == "model.layers.2.mlp.up_proj.out")
        tokens = phase["workload"]["batch"] * phase["workload"]["q_len"]
        assert (gemm["m"], gemm["n"], gemm["k"], gemm["kind"]) == (tokens, 11008, 1, "gemm")
        assert gemm["flops"] == 2 * tokens * 11008
        norm = next(op for op in ops if op["name"] == "model.norm")
        assert (norm["m"], norm["n"], norm["k"], norm["flops"]) == (None, None, None, 0)


def test_defaults(priced: Any) -> None:
    prefill, decode = (phase["workload"] for phase in priced(*LLAMA)["phases"])
    same = {
        "batch": 1,
        "dtype": "bf16",
        "weight_dtype": "bf16",
        "runtime": "eager",
        "attention": "fused",
        "lm_head": "last",
    }
    assert prefill == {"phase": "prefill", "q_len": 512, "kv_len": 512, **same}
    assert decode == {"phase": "decode", "q_len": 1, "kv_len": 513, **same}


def test_options_reach_the_workload(priced: Any) -> None:
    given = [
        "--batch",
        "3",
        "--seq-len",
        "100",
        "--kv-len",
        "777",
        "--dtype",
        "float16",
        "--weight-dtype",
        "int4",
        "--runtime",
        "graph",
        "--attention",
        "unfused",
        "--lm-head",
        "all",
    ]
    prefill, decode = (phase["workload"] for phase in priced(*LLAMA, *given)["phases"])
    same = {
        "batch": 3,
        "dtype": "fp16",
        "weight_dtype": "int4",
        "runtime": "graph",
        "attention": "unfused",
        "lm_head": "all",
    }
    assert prefill == {"phase": "prefill", "q_len": 100, "kv_len": 100, **same}
    assert decode == {"phase": "decode", "q_len": 1, "kv_len": 777, **same}
    assert priced(*LLAMA, "--seq-len", "100")["phases"][1]["workload"]["kv_len"] == 101


@pytest.mark.parametrize(("phase", "expected"), [("prefill", ["prefill"]), ("decode", ["decode"])])
def test_one_phase(phase: str, expected: list[str], priced: Any) -> None:
    found = priced(*GPT2, "--phase", phase)["phases"]
    assert [each["workload"]["phase"] for each in found] == expected
    both = priced(*GPT2)["phases"]
    assert found[0] == next(each for each in both if each["workload"]["phase"] == phase)


@pytest.mark.parametrize("phase", ["both", "prefill"])
@pytest.mark.parametrize("model", ["bert-base", "roberta-base"])
def test_an_encoder_has_prefill_only(model: str, phase: str, priced: Any) -> None:
    found = priced("--model", model, "--hw", "l4", "--phase", phase, "--decompose", "rank=25%")
    assert [each["workload"]["phase"] for each in found["phases"]] == ["prefill"]
    assert found["phases"][0]["dense"]["kv_cache_bytes"] == 0
    assert found["phases"][0]["dense"]["params"] == load_model(model).num_params


def test_unknown_power_is_null_energy(priced: Any) -> None:
    found = priced("--model", "gpt2", "--hw", "epyc-9654", "--dtype", "fp32", "--new-tokens", "2")
    for phase in found["phases"]:
        assert phase["dense"]["energy_j"] is None
        assert phase["saved"]["energy_pct"] is None
    assert found["request"]["dense"]["energy_j"] is None
    assert found["request"]["saved"]["energy_pct"] is None


def test_a_request_is_a_prefill_and_its_decode_steps(priced: Any) -> None:
    found = priced(*LLAMA, "--runtime", "graph", "--new-tokens", "20", "--seq-len", "64", "--decompose", POINT)
    request = found["request"]
    assert (request["prompt_tokens"], request["new_tokens"]) == (64, 20)
    for variant in ("dense", "decomposed"):
        assert list(request[variant]) == ["ttft_s", "tpot_s", "latency_s", "energy_j", "peak_memory_bytes", "fits"]
        steps = [
            priced(*LLAMA, "--runtime", "graph", "--phase", "decode", "--kv-len", str(65 + step), "--decompose", POINT)[
                "phases"
            ][0][variant]
            for step in (0, 7, 18)
        ]
        shown = request[variant]
        assert shown["ttft_s"] == found["phases"][0][variant]["latency_s"]
        assert steps[0]["latency_s"] <= shown["tpot_s"] <= steps[2]["latency_s"]
        assert shown["latency_s"] == pytest.approx(shown["ttft_s"] + 19 * shown["tpot_s"])
        assert shown["energy_j"] > found["phases"][0][variant]["energy_j"]
    assert list(request["saved"]) == ["latency_pct", "energy_pct", "speedup"]
    two = priced(*LLAMA, "--runtime", "graph", "--new-tokens", "2", "--seq-len", "64", "--decompose", POINT)
    assert two["request"]["dense"]["tpot_s"] == pytest.approx(two["phases"][1]["dense"]["latency_s"], rel=1e-12)


def test_one_new_token_is_the_prefill_alone(priced: Any, price: Any) -> None:
    arguments = [*LLAMA, "--decompose", POINT, "--new-tokens", "1"]
    found = priced(*arguments)
    for variant in ("dense", "decomposed"):
        prefill, request = found["phases"][0][variant], found["request"][variant]
        names = ("latency_s", "energy_j", "peak_memory_bytes", "fits")
        assert [request[name] for name in names] == [prefill[name] for name in names]
        assert (request["ttft_s"], request["tpot_s"]) == (prefill["latency_s"], None)
    assert "TPOT" not in price(*arguments)


def test_a_request_needs_no_decode_phase(priced: Any) -> None:
    both = priced(*GPT2, "--new-tokens", "5")
    alone = priced(*GPT2, "--new-tokens", "5", "--phase", "prefill")
    assert alone["request"] == both["request"]


def test_a_request_that_grows_out_of_the_device_says_so(priced: Any, price: Any) -> None:
    """Both phases fit, the last of the decode steps does not."""
    arguments = [*LLAMA, "--batch", "32", "--runtime", "graph"]
    found = priced(*arguments, "--new-tokens", "3500")
    assert [phase["decomposed"]["fits"] for phase in found["phases"]] == [True, True]
    last = priced(*arguments, "--phase", "decode", "--kv-len", "4011")["phases"][0]["decomposed"]
    request = found["request"]["decomposed"]
    assert (request["peak_memory_bytes"], request["fits"]) == (last["peak_memory_bytes"], False)
    assert found["warnings"] == ["the request does not fit: 80.8 GB at its peak on 80 GB"]
    out = price(*arguments, "--new-tokens", "3500")
    assert re.search(r"request: .*peak memory +80\.\d\d GB", out, re.DOTALL)
    assert "warning: the request does not fit: 80.8 GB" in out
    short = priced(*arguments, "--new-tokens", "1")
    assert short["request"]["decomposed"]["peak_memory_bytes"] == short["phases"][0]["decomposed"]["peak_memory_bytes"]
    assert (short["request"]["decomposed"]["fits"], short["warnings"]) == (True, [])


def configuration_of(found: Any) -> dict[str, Any]:
    ranks: dict[str, Any] = found["decomposition"]["ranks"]
    return ranks


def test_config_applies_before_every_spec_wherever_it_stands(priced: Any, tmp_path: Path) -> None:
    path = tmp_path / "ranks.json"
    path.write_text(
        '{"ranks": {"layers.0.c_attn": 5, "layers.1.c_attn": 6, "layers.2.mlp_proj": {"form": "tucker",'
        ' "rank": [2, 3]}}, "drop": [7]}'
    )
    for order in (
        ["--config", str(path), "--decompose", "layers=1 tensors=attn rank=9"],
        ["--decompose", "layers=1 tensors=attn rank=9", "--config", str(path)],
    ):
        found = priced(*GPT2, *order)
        assert configuration_of(found) == {
            "layers.0.c_attn": 5,
            "layers.1.c_attn": 9,
            "layers.1.attn_proj": 9,
            "layers.2.mlp_proj": {"form": "tucker", "rank": [2, 3]},
        }
        assert found["decomposition"]["drop"] == [7]


def test_the_later_spec_wins(priced: Any) -> None:
    found = priced(
        *GPT2,
        "--decompose",
        "rank=9",
        "--decompose",
        "layers=1-11 form=dense",
        "--decompose",
        "layers=0 tensors=c_fc rank=50%",
    )
    assert configuration_of(found) == {
        "layers.0.c_attn": 9,
        "layers.0.attn_proj": 9,
        "layers.0.c_fc": 307,
        "layers.0.mlp_proj": 9,
    }


def test_the_decomposition_printed_is_a_file_that_is_read_back(priced: Any, tmp_path: Path) -> None:
    first = priced(
        *GPT2,
        "--decompose",
        "layers=0-5 rank=33.3%",
        "--decompose",
        "layers=3 rank=7 form=tucker",
        "--decompose",
        "layers=11 form=drop",
    )
    path = tmp_path / "again.json"
    path.write_text(json.dumps(first["decomposition"]))
    assert priced(*GPT2, "--config", str(path)) == first


def test_a_rank_above_break_even_is_allowed_and_its_loss_shown(priced: Any, price: Any) -> None:
    spec = ["--decompose", "layers=0 tensors=q_proj rank=3000"]
    found = priced(*LLAMA, *spec)
    assert found["phases"][0]["saved"]["params_pct"] < 0
    assert found["warnings"] == [
        "ranks above break-even cost more than dense in layer 0; break-even ranks: q_proj 2048 (svd)"
    ]
    table = price(*LLAMA, *spec)
    assert "warning: ranks above break-even cost more than dense in layer 0" in table
    assert re.search(r"q_proj +4096 x 4096 +3000 +1 +2048 +1696", table)


@pytest.mark.parametrize(
    ("arguments", "longest"),
    [(["--seq-len", "5000"], 5001), (["--kv-len", "4097"], 4097), (["--new-tokens", "4000"], 4511)],
)
def test_lengths_beyond_the_positions_only_warn(arguments: list[str], longest: int, priced: Any) -> None:
    assert priced(*LLAMA, *arguments)["warnings"] == [
        f"{longest} tokens are beyond the 4096 positions that llama2-7b was made for"
    ]
    assert priced(*LLAMA, "--kv-len", "4096")["warnings"] == []


@pytest.mark.parametrize("weight_dtype", ["int8", "int4", "fp32"])
def test_weight_types_are_labelled_uncalibrated(weight_dtype: str, priced: Any, price: Any) -> None:
    found = priced(*LLAMA, "--weight-dtype", weight_dtype)
    assert any(weight_dtype in text and "uncalibrated" in text for text in found["assumptions"])
    ratio = found["phases"][0]["dense"]["weight_bytes"] / 13_476_831_232
    assert ratio == pytest.approx({"int8": 0.52, "int4": 0.29, "fp32": 1.96}[weight_dtype], abs=0.01)
    assert f"bf16, {weight_dtype} weights" in price(*LLAMA, "--weight-dtype", weight_dtype)


def test_csv_is_the_json_in_rows(price: Any, priced: Any) -> None:
    arguments = [*LLAMA, "--decompose", POINT, "--new-tokens", "3"]
    rows = list(csv.DictReader(io.StringIO(price(*arguments, "--format", "csv"))))
    found = priced(*arguments)
    assert [(row["phase"], row["variant"]) for row in rows] == [
        ("prefill", "dense"),
        ("prefill", "decomposed"),
        ("decode", "dense"),
        ("decode", "decomposed"),
    ]
    for row in rows:
        phase = next(each for each in found["phases"] if each["workload"]["phase"] == row["phase"])
        costs = phase[row["variant"]]
        assert int(row["params"]) == costs["params"]
        assert float(row["latency_s"]) == costs["latency_s"]
        assert row["latency_p05_s"] == ""
        assert float(row["request_latency_s"]) == found["request"][row["variant"]]["latency_s"]
        shown = {key: row[f"saved_{key}"] for key in SAVED}
        if row["variant"] == "decomposed":
            assert {key: float(value) if value else None for key, value in shown.items()} == phase["saved"]
            assert (row["verdict"], row["verdict_text"]) == tuple(phase["verdict"].values())
            assert row["configuration"] == POINT
        else:
            assert {*shown.values(), row["verdict"], row["verdict_text"]} == {""}
            assert row["configuration"] == "dense"
    assert "request_latency_s" not in price(*GPT2, "--format", "csv")
    assert "beyond the 1024 positions" in price(*GPT2, "--seq-len", "2000", "--format", "csv")


def test_csv_of_operations(price: Any, priced: Any) -> None:
    rows = list(csv.DictReader(io.StringIO(price(*GPT2, "--ops", "--format", "csv"))))
    ops = [(phase["workload"]["phase"], op) for phase in priced(*GPT2)["phases"] for op in phase["ops"]]
    assert [(row["phase"], row["name"], int(row["flops"])) for row in rows] == [
        (phase, op["name"], op["flops"]) for phase, op in ops
    ]


def test_table(price: Any) -> None:
    out = price(*LLAMA, "--decompose", POINT, "--new-tokens", "3")
    for text in (
        "llama2-7b on a100-sxm-80gb",
        f"configuration: {POINT}",
        "prefill: batch 1, 512 tokens, bf16, eager, fused attention, datasheet level",
        "decode: batch 1, kv-len 513, bf16, eager, fused attention, datasheet level",
        "prefill verdict: gain ",
        "decode verdict: no gain: launch-bound at batch 1 in eager mode, ",
        "request: 512 prompt tokens, 3 new",
        "assumption: ",
    ):
        assert text in out
    assert re.search(r"parameters +6,738,415,616 +6,131,524,373 +9\.01 %", out)
    assert re.search(r"weights +13\.48 GB +12\.26 GB +9\.01 %", out)
    assert re.search(r"latency +\S+ ms +\S+ ms +\S+ %", out)
    assert re.search(r"bounds +\S+ - \S+ ms +\S+ - \S+ ms", out)
    assert re.search(r"down_proj +4096 x 11008 +1 +3 +2985 +2553", out)
    assert re.search(r"gate_proj .*(compute|memory)", out)
    assert not re.search(r"[ \t]$", out, re.MULTILINE)
    assert "e+0" not in out
    assert "warning" not in out


def test_table_of_a_dense_model_has_one_column(price: Any) -> None:
    out = price(*GPT2)
    assert "configuration: dense" in out
    assert "decomposed" not in out.split("prefill verdict")[0]
    assert "saved" not in out
    assert "verdict: no gain: dense, nothing is decomposed" in out


def test_table_of_what_does_not_fit(price: Any) -> None:
    out = price("--model", "llama2-70b", "--hw", "a100-sxm-80gb")
    assert out.count("verdict: does not fit: 138 GB on 80 GB") == 2


def test_table_of_a_cpu_has_no_launches(price: Any) -> None:
    out = price("--model", "bert-base", "--hw", "epyc-9654", "--dtype", "fp32", "--decompose", "rank=25%")
    assert "host launch time" not in out
    assert re.search(r"energy +unknown +unknown$", out, re.MULTILINE)
    assert "KV cache" not in out.split("verdict")[0]


def test_table_shortens_a_long_configuration(price: Any, tmp_path: Path) -> None:
    path = tmp_path / "ranks.json"
    names = [tensor.name for tensor in load_model("gpt2").tensors]
    ranks: dict[str, Any] = {f"layers.{n % 11}.{names[n % 4]}": n + 3 for n in range(44)}
    ranks["layers.0.c_fc"] = {"form": "tucker", "rank": [4, 5]}
    path.write_text(json.dumps({"ranks": ranks, "drop": [11]}))
    out = price(*GPT2, "--config", str(path))
    assert (
        "configuration: 43 of 48 sites svd of rank 3 to 46, 1 of 48 sites tucker of rank 4 to 5, layer 11 dropped "
        "(JSON output has each)"
    ) in " ".join(out.split())


def test_table_of_dropped_layers(price: Any) -> None:
    out = price(*GPT2, "--decompose", "form=drop")
    assert "configuration: layers=all form=drop" in out
    assert re.search(r"c_attn +\S+ us +0 +0 s +0\.0 % +-", out)


def test_table_lists_operations_on_demand(price: Any) -> None:
    arguments = [*GPT2, "--phase", "decode", "--decompose", "layers=3 tensors=c_fc rank=8"]
    assert "transformer.h.3.mlp.c_fc.in" not in price(*arguments)
    out = price(*arguments, "--ops")
    assert re.search(r"transformer\.h\.3\.mlp\.c_fc\.in +1 x 8 x 768 +12\.29 kFLOP", out)
    assert re.search(r"transformer\.h\.3\.mlp\.c_fc\.out +1 x 3072 x 8", out)


LARGE = ["--model", "llama3-70b", "--hw", "mi300x", "--decompose", "rank=50%", "--new-tokens", "9"]


@pytest.mark.parametrize("arguments", [[*LLAMA, "--decompose", POINT], GPT2, LARGE])
def test_table_fits_a_terminal_of_80_columns(arguments: list[str], price: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("costmodel.cli.common.text_width", lambda: 80)
    out = price(*arguments)
    assert max(map(len, out.splitlines())) <= 80
    assert re.search(r"^ q_proj|^ c_attn", out, re.MULTILINE)


def test_a_terminal_too_narrow_does_not_cut_numbers(price: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    wide = price(*GPT2, "--ops")
    monkeypatch.setattr("costmodel.cli.common.text_width", lambda: 40)
    narrow = price(*GPT2, "--ops")
    tables = [
        [line for line in out.splitlines() if line.startswith(" ") and "  " in line.strip()] for out in (wide, narrow)
    ]
    assert tables[0] == tables[1]
    assert len(tables[0]) > 300


def test_width_into_a_pipe_does_not_depend_on_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert text_width() == 120


def test_a_model_folder_and_a_profile_file(priced: Any, tmp_path: Path) -> None:
    root = Path(__file__).resolve().parents[3]
    folder = tmp_path / "my-model"
    folder.mkdir()
    (folder / "config.json").write_text((root / "costmodel" / "families" / "configs" / "gpt2.json").read_text())
    profile = tmp_path / "my-card.toml"
    profile.write_text((root / "hw_profiles" / "l4.toml").read_text().replace('name = "l4"', 'name = "my-card"'))
    found = priced("--model", str(folder), "--hw", str(profile))
    assert (found["model"], found["hardware"]) == ("my-model", "my-card")
    assert found["phases"][0]["dense"] == priced("--model", "gpt2", "--hw", "l4")["phases"][0]["dense"]


@pytest.mark.parametrize(
    "arguments",
    [
        ["--model", "llama2-7b", "--hw", "a100-sxm-80gb", "--decompose", POINT],
        ["--model", "mistral-7b", "--hw", "mi300x", "--runtime", "graph", "--weight-dtype", "int4"],
        ["--model", "bert-base", "--hw", "epyc-9654", "--dtype", "fp32", "--attention", "unfused"],
    ],
)
def test_every_assumption_says_which_way_it_errs(arguments: list[str], priced: Any) -> None:
    found = priced(*arguments, "--calibration", "none")["assumptions"]
    assert len(found) >= 4
    for text in found:
        assert re.search(r"\([^()]*(too low|too high|either way)[^()]*\)$", text), text
    eager = [text for text in found if text.startswith("eager: ")]
    assert len(eager) == (0 if "graph" in arguments else 1)


def test_an_encoder_is_told_nothing_about_caches_masks_or_groups(priced: Any) -> None:
    bert = " ".join(priced("--model", "bert-base", "--hw", "l4", "--calibration", "none")["assumptions"])
    assert not re.search("cache|mask|grouped", bert)
    assert "attention: one fused kernel never writes its scores (too low)" in bert
    llama, mistral = (
        " ".join(priced("--model", name, "--hw", "l4", "--calibration", "none")["assumptions"])
        for name in ("llama2-7b", "mistral-7b")
    )
    assert "one fused kernel skips masked tiles (too low)" in llama
    assert "one fused kernel reads grouped K and V once and skips masked tiles (too low)" in mistral
    assert "static KV cache" in llama


def test_energy_errs_both_ways_where_times_are_ideal(priced: Any) -> None:
    found = [text for text in priced(*LLAMA)["assumptions"] if text.startswith("energy: ")]
    assert len(found) == 1
    assert found[0].endswith("(too low by the time that kernels take beyond the roofline, too high if memory-bound)")


def test_weights_that_fit_a_cache_are_said_to_be_read(priced: Any) -> None:
    def cached(model: str, hardware: str) -> list[str]:
        found = priced("--model", model, "--hw", hardware, "--dtype", "fp32", "--calibration", "none")
        return [text for text in found["assumptions"] if text.startswith("weights that ")]

    # 70 million and 124 million parameters in 32 bits, and 384 MiB of L3
    assert cached("llama-70m", "epyc-9654") == [
        "weights that the L3 of 384 MiB could hold are read from memory (too high)"
    ]
    assert cached("gpt2", "epyc-9654") == cached("llama-70m", "l4") == []


@pytest.mark.parametrize(
    ("more", "named", "what"),
    [
        ([], ["transformers", "torch-compile", "vllm"], "stack"),
        (["--stack", "transformers"], ["transformers"] * 3, "host"),
        (["--stack", "vllm"], [], ""),
    ],
)
def test_what_is_left_open_is_answered_for_the_likely_ones_in_a_line_each(
    capsys: pytest.CaptureFixture[str], more: list[str], named: list[str], what: str
) -> None:
    asked = ["estimate", "--model", "llama-70m", "--hw", "a100-sxm-80gb", "--decompose", "rank=8", *more]
    assert run(cli, [*asked, "--format", "json"]) == 0
    likely = json.loads(capsys.readouterr().out)["likely"]
    assert [each["stack"] for each in likely] == named
    assert len({(each["stack"], each["host"]) for each in likely}) == len(named)
    for each in likely:
        assert [phase["phase"] for phase in each["phases"]] == ["prefill", "decode"]
        for phase in each["phases"]:
            assert phase["latency_p05_s"] <= phase["latency_s"] <= phase["latency_p95_s"]
    assert run(cli, asked) == 0
    lines = capsys.readouterr().out.splitlines()
    found = [
        line for line in lines if line.startswith(tuple(f"  {each['stack']} on {each['host']}" for each in likely))
    ]
    assert len(found) == len(named) if named else not any("likely" in line for line in lines)
    assert not named or f"no {what} was named; on likely ones:" in lines


@pytest.mark.parametrize("more", [[], ["--decompose", "tensors=mlp rank=8"]])
def test_the_table_of_several_devices_has_their_sums_and_savings(
    capsys: pytest.CaptureFixture[str], more: list[str]
) -> None:
    asked = ["estimate", "--model", "llama-70m", "--hw", "h100-sxm-80gb", "--tp", "2", "--phase", "prefill", *more]
    assert run(cli, asked) == 0
    out = capsys.readouterr().out
    table = out[out.index("prefill: all 2 devices together") :]
    parameters = next(line for line in table.splitlines() if line.startswith(" parameters"))
    assert "69,222,144" in parameters
    assert parameters.endswith(" %") is bool(more)


def test_the_title_of_a_phase_names_the_stack(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(cli, ["estimate", "--model", "llama-70m", "--hw", "a100-sxm-80gb", "--stack", "vllm"]) == 0
    titles = [line for line in capsys.readouterr().out.splitlines() if "batch 1" in line]
    assert len(titles) == 2
    assert all("vllm (graph)" in title for title in titles)
