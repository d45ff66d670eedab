"""Importing published timings: the database's layout, made up on disk, and the shared tables where they are at hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from costmodel.cli import run
from costmodel.errors import InputError
from validate.calibration import importers
from validate.calibration.folder import read_ops
from validate.calibration.importers import import_aiconfigurator, version_key
from validate.cli import cli
from validate.errors import RecordError

pyarrow = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")


def gemms(path: Path, rows: list[tuple[str, int, int, int, float]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    names = ("gemm_dtype", "m", "n", "k", "latency")
    columns: dict[str, Any] = dict(zip(names, map(list, zip(*rows, strict=True)), strict=True))
    parquet.write_table(pyarrow.table(columns), path)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A database of one system: old and new GEMMs, attention by another framework."""
    folder = tmp_path / "data"
    gemms(folder / "l40s" / "gemm" / "sglang" / "0.5.9" / "gemm_perf.parquet", [("bfloat16", 1, 32, 32, 9.0)])
    gemms(
        folder / "l40s" / "gemm" / "sglang" / "0.5.14" / "gemm_perf.parquet",
        [
            ("bfloat16", 1, 4096, 4096, 0.05),
            ("bfloat16", 1, 4096, 4096, 0.04),
            ("fp8", 1, 4096, 4096, 0.02),
            ("bfloat16", 16, 4096, 32, 0.004),
        ],
    )
    attention: dict[str, Any] = {
        "attn_dtype": ["bfloat16"] * 4,
        "kv_cache_dtype": ["bfloat16", "bfloat16", "fp8", "bfloat16"],
        "batch_size": [1, 2, 1, 1],
        "isl": [512, 1, 512, 512],
        "step": [0, 100, 0, 0],
        "num_heads": [32, 32, 32, 32],
        "num_key_value_heads": [8, 8, 8, 8],
        "head_dim": [128] * 4,
        "window_size": [0, 0, 0, 128],
        "beam_width": [1] * 4,
        "latency": [0.02, 0.012, 0.01, 0.01],
    }
    path = folder / "l40s" / "attention" / "vllm" / "0.24.0" / "context_attention_perf.parquet"
    path.parent.mkdir(parents=True)
    parquet.write_table(pyarrow.table(attention), path)
    return folder


def test_the_newest_table_the_fastest_kernel_and_no_windows(data: Path) -> None:
    found = import_aiconfigurator("l40s", folder=data)
    assert found.manifest.hardware == "l40s"
    gemm = found.tables["gemm"]
    assert sorted(map(tuple, gemm.shape.T.tolist())) == [(1, 4096, 4096), (16, 4096, 32)]
    assert sorted(gemm.seconds.tolist()) == pytest.approx([4e-6, 40e-6])
    assert found.tables["prefill"].shape[:, 0].tolist() == [1, 512, 512, 32, 8, 128]
    assert found.tables["decode"].shape[:, 0].tolist() == [2, 1, 101, 32, 8, 128]
    assert [found.tables[kind].seconds.tolist() for kind in ("prefill", "decode")] == [
        [pytest.approx(20e-6)],  # of the types that were asked for, though another's is faster
        [pytest.approx(12e-6)],
    ]
    assert {each["licence"] for each in found.manifest.provenance} == {"Apache-2.0"}
    assert any("sglang/0.5.14" in each["source"] for each in found.manifest.provenance)


def test_decode_steps_of_both_tables_are_joined(data: Path) -> None:
    attention: dict[str, Any] = {
        "attn_dtype": ["bfloat16"],
        "kv_cache_dtype": ["bfloat16"],
        "batch_size": [4],
        "isl": [1],
        "step": [200],
        "num_heads": [32],
        "num_key_value_heads": [8],
        "head_dim": [128],
        "latency": [0.03],
    }
    path = data / "l40s" / "attention" / "vllm" / "0.24.0" / "generation_attention_perf.parquet"
    parquet.write_table(pyarrow.table(attention), path)
    decode = import_aiconfigurator("l40s", folder=data).tables["decode"]
    assert decode.shape[:3].T.tolist() == [[2, 1, 101], [4, 1, 201]]
    assert decode.seconds.tolist() == pytest.approx([12e-6, 30e-6])


def test_the_installed_package_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "made_up_core").mkdir()
    (tmp_path / "made_up_core" / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(importers, "PACKAGE", "made_up_core")
    assert importers.installed_data() == tmp_path / "made_up_core" / "systems" / "data"


def test_from_the_command_line(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "times"
    arguments = ["import", "aiconfigurator", "--system", "l40s", "--data", str(data), "--out", str(out)]
    assert run(cli, arguments) == 0
    assert "validate fit" in capsys.readouterr().out
    assert len(read_ops(out).tables["gemm"]) == 2
    assert json.loads((out / "tables.json").read_text())["dtype"] == "bf16"
    assert run(cli, [*arguments[:2], "--system", "l40", *arguments[4:]]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: unknown system: got 'l40'; did you mean l40s?")
    assert error.count("\n") == 1


def test_what_is_not_there_is_refused(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="unknown system: got 'l40s'; nothing in"):
        import_aiconfigurator("l40s", folder=tmp_path / "none")
    with pytest.raises(RecordError, match="l40s has no fp16 GEMMs"):
        import_aiconfigurator("l40s", folder=data, dtype="fp16")
    with pytest.raises(RecordError, match="l40s has no bf16 GEMMs: got 'trtllm'"):
        import_aiconfigurator("l40s", folder=data, framework="trtllm")
    (data / "xyz" / "gemm").mkdir(parents=True)
    with pytest.raises(InputError, match="no profile belongs to xyz"):
        import_aiconfigurator("xyz", folder=data)
    monkeypatch.setattr(importers, "PACKAGE", "nonesuch_core")
    with pytest.raises(InputError, match="aiconfigurator-core is not installed"):
        import_aiconfigurator("l40s")


def test_versions_are_ordered_as_pep_440_says(data: Path) -> None:
    order = ["latest", "1.0.0.dev2", "1.0.0a1", "1.0.0rc2", "1.0.0rc10", "1.0.0", "1.0.0.post1", "1.0.1", "1.10.0"]
    assert sorted(reversed(order), key=version_key) == order
    assert [version_key(odd)[0] for odd in ("", "latest", "1..0", "9" * 5000)] == [False] * 4
    for version, micros in (("1.0.0rc6", 0.02), ("1.0.0", 0.03), ("1.0.0.dev9", 0.01), ("0.24.0", 0.005)):
        path = data / "l40s" / "gemm" / "sglang" / version / "gemm_perf.parquet"
        gemms(path, [("bfloat16", 7, 4096, 4096, micros)])
    found = import_aiconfigurator("l40s", folder=data, framework="sglang")
    assert found.tables["gemm"].seconds.tolist() == pytest.approx([30e-6])
