"""Calibration files: what is found, what is refused and how, what they predict."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from costmodel.decomposition.factors import Decomposition, LowRank, Site
from costmodel.errors import CalibrationError
from costmodel.families.load import load_model
from costmodel.files.node import Node
from costmodel.forward.workload import Attention, Runtime, Workload
from costmodel.hardware.profile import load_hardware, profile_folder
from costmodel.pricing.estimate import estimate, pricer
from costmodel.timing.calibration.features import gemm_features
from costmodel.timing.calibration.file import MAX_FILE_BYTES, read_shaped
from costmodel.timing.calibration.load import find_calibration, load_calibration, shipped_calibration, time_model
from costmodel.timing.calibration.range import leaves
from costmodel.timing.calibration.record import Calibration
from costmodel.timing.columns import OpColumns
from costmodel.timing.datasheet import DatasheetRoofline
from costmodel.units import DType

SHIPPED = sorted((profile_folder() / "calibrations").glob("*.json"))
A100 = profile_folder() / "calibrations" / "a100-sxm-80gb.json"
BF16, GRAPH, EAGER = DType.BF16, Runtime.GRAPH, Runtime.EAGER


def gemm_columns(m: Any, n: Any, k: Any) -> OpColumns:
    m, n, k = (np.asarray(each, dtype=np.int64) for each in (m, n, k))
    zero = np.zeros_like(m)
    return OpColumns(
        kind="gemm",
        m=m,
        n=n,
        k=k,
        executed_flops=2 * m * n * k,
        vector_flops=zero,
        hbm_bytes=2 * (n * k + m * (n + k)),
        kernels=zero + 1,
    )


def model_of(path: Path = A100) -> Any:
    calibration = load_calibration(path)
    runtime = GRAPH if GRAPH in calibration.runtimes else calibration.runtimes[0]
    return time_model(load_hardware(calibration.hardware), calibration.dtypes[0], runtime, calibration)


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_shipped_file_belongs_to_a_profile_and_shows_its_errors(path: Path) -> None:
    calibration = load_calibration(path)
    hardware = load_hardware(calibration.hardware)
    assert path.stem == hardware.name
    assert path.stat().st_size <= MAX_FILE_BYTES
    assert shipped_calibration(hardware) is shipped_calibration(hardware)
    assert {row["kind"] for row in calibration.errors} >= {"gemm"}
    assert all(each["source"] and each["licence"] for each in calibration.provenance)
    table = (path.parent / "ERRORS.md").read_text()
    assert f"## {path.stem}" in table
    for row in calibration.errors:
        assert f"| {row['mean_pct']:.2f} | {row['median_pct']:.2f} |" in table


def test_auto_none_and_a_path() -> None:
    hardware = load_hardware("a100-sxm-80gb")
    assert find_calibration("none", hardware, BF16, EAGER) is None
    assert find_calibration("auto", hardware, BF16, EAGER) is find_calibration("auto", hardware, DType.FP16, GRAPH)
    for other, dtype in ((hardware, DType.FP32), (load_hardware("t4"), DType.FP16)):
        stand_in = find_calibration("auto", other, dtype, EAGER)
        assert stand_in is not None
        assert stand_in.level == "generation"
        assert stand_in is find_calibration("auto", other, dtype, EAGER)
    found = find_calibration(str(A100), hardware, BF16, GRAPH)
    assert found is not None
    assert found.name == "a100-sxm-80gb"
    with pytest.raises(CalibrationError, match="fitted on another device: got 'a100-sxm-80gb'; allowed: h100-sxm-80gb"):
        find_calibration(str(A100), load_hardware("h100-sxm-80gb"), BF16, EAGER)
    with pytest.raises(CalibrationError, match="does not serve this dtype: got 'fp32'; allowed: bf16, fp16"):
        find_calibration(str(A100), hardware, DType.FP32, EAGER)


def test_a_runtime_that_was_not_measured_is_refused(tmp_path: Path) -> None:
    path = edited(tmp_path, lambda raw: raw.update(runtimes=["graph"]))
    with pytest.raises(CalibrationError, match="does not serve this runtime: got 'eager'; allowed: graph"):
        find_calibration(str(path), load_hardware("a100-sxm-80gb"), BF16, EAGER)


def test_the_level_is_the_one_that_the_file_states(tmp_path: Path) -> None:
    """A file in the form of probes whose level is `samples`, for one that was fitted to models as well."""
    model, hardware = load_model("llama2-7b"), load_hardware("a100-sxm-80gb")
    for level in ("probes", "samples"):
        calibration = load_calibration(edited(tmp_path, lambda raw, level=level: raw.update(level=level)))
        found = estimate(model, hardware, Decomposition(), [Workload.prefill(8)], calibration=calibration)
        assert (calibration.level, found.level, found.phases[0].dense.level) == (level,) * 3


def test_time_model_is_one_object_for_the_same_arguments() -> None:
    hardware, calibration = load_hardware("a100-sxm-80gb"), load_calibration(A100)
    assert time_model(hardware, BF16, EAGER, calibration) is time_model(hardware, BF16, EAGER, calibration)
    assert time_model(hardware, BF16, EAGER, calibration).host_launch_s == hardware.host_launch_s
    assert time_model(hardware, BF16, GRAPH, calibration).host_launch_s == 0
    assert isinstance(time_model(hardware, BF16, EAGER, None), DatasheetRoofline)


def edited(folder: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    raw = json.loads(A100.read_text())
    change(raw)
    path = folder / "edited.json"
    path.write_text(json.dumps(raw))
    return path


BROKEN: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "schema": (lambda raw: raw.update(schema=2), "schema: got 2; allowed: 1"),
    "missing": (lambda raw: raw.pop("forms"), "forms is missing"),
    "unknown": (lambda raw: raw.update(extra=1), "unknown key in the file: got 'extra'"),
    "dtype": (lambda raw: raw.update(dtypes=["bf17"]), r"dtypes\[0\]: got 'bf17'; allowed: fp32"),
    "no dtype": (lambda raw: raw.update(dtypes=[]), "dtypes: got \\[\\]; allowed: at least one"),
    "runtime": (lambda raw: raw.update(runtimes=[3]), r"runtimes\[0\]: got 3; allowed: eager, graph"),
    "level": (lambda raw: raw.update(level="datasheet"), "level: got 'datasheet'; allowed: probes, samples"),
    "negative rate": (lambda raw: raw["forms"]["gemm"]["base"].update(flops_per_s=-1.0), "flops_per_s: got -1.0"),
    "text for number": (lambda raw: raw["forms"]["gemm"]["base"].update(fixed_s="5"), "fixed_s: got '5'; allowed: a n"),
    "overlap": (lambda raw: raw["forms"]["gemm"]["base"].update(overlap=0.5), "overlap: got 0.5"),
    "infinite": (lambda raw: raw["forms"]["gemm"]["net"]["scale"].__setitem__(0, float("inf")), "net.scale"),
    "zero scale": (lambda raw: raw["forms"]["gemm"]["net"]["scale"].__setitem__(0, 0.0), "net.scale"),
    "ragged": (lambda raw: raw["forms"]["gemm"]["net"]["weights"][0].pop(), r"net.weights\[0\]"),
    "no layers": (lambda raw: raw["forms"]["gemm"]["net"].update(weights=[], biases=[]), "1 to 8 layers"),
    "range": (lambda raw: raw["forms"]["gemm"].update(low=[2e9, 1, 1]), "low: got .* allowed: at most `high`"),
    "multiple": (lambda raw: raw["forms"]["gemm"].update(multiple=12), "multiple: got 12; allowed: a power of two"),
    "edges": (lambda raw: raw["forms"]["gemm"]["spread"].update(size_edges=[2, 1]), "size_edges"),
    "interval": (lambda raw: raw["streams"]["elementwise"].update(low=0.3), "low: got 0.3"),
    "no stream": (lambda raw: raw["streams"].pop("elementwise"), "streams.elementwise is missing"),
    "bad stream": (lambda raw: raw["streams"].update(softmax={}), "unknown key in streams: got 'softmax'"),
    "knots": (lambda raw: raw["streams"]["norm"].update(log2_bytes=[3, 2], ln_factor=[0, 0]), "log2_bytes"),
    "form": (lambda raw: raw["forms"].update(gemv={}), "unknown key in forms: got 'gemv'"),
    "errors": (lambda raw: raw.update(errors={}), "errors: got {}; allowed: a list"),
    "launch": (lambda raw: raw.update(host_launch_s=-1), "host_launch_s: got -1"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_malformed_file_is_one_line(tmp_path: Path, name: str) -> None:
    change, message = BROKEN[name]
    with pytest.raises(CalibrationError, match=message) as caught:
        load_calibration(edited(tmp_path, change))
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


def test_a_file_that_is_none(tmp_path: Path) -> None:
    path = tmp_path / "calibration.json"
    for content, message in (
        (b"", "is not JSON"),
        (b"\xff\xfe", "is not UTF-8 text"),
        (b"[1]", "content: got \\[1\\]; allowed: an object"),
        (b"[" * 100_000, "nested too deeply"),
        (b'{"a": 1}' + b" " * MAX_FILE_BYTES, "too large"),
        (b"{}", "schema"),
    ):
        path.write_bytes(content)
        with pytest.raises(CalibrationError, match=message):
            load_calibration(path)
    with pytest.raises(CalibrationError, match=r"cannot read calibration: got .*No such file"):
        load_calibration(tmp_path / "none.json")


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_bounds_hold_and_add_up(path: Path) -> None:
    rng = np.random.default_rng(1)
    m, n, k = np.round(2 ** rng.uniform([0, 0, 0], [16, 17, 17], (4000, 3))).T.astype(np.int64)
    timings = model_of(path).times(gemm_columns(m, n, k))
    assert np.isfinite(timings.latency_s).all()
    assert (timings.lower_s > 0).all()
    for smaller, larger in (
        (timings.lower_s, timings.latency_s),
        (timings.latency_s, timings.upper_s),
        (timings.p05_s, timings.latency_s),
        (timings.latency_s, timings.p95_s),
        (timings.busy_s, timings.latency_s),
    ):
        assert (smaller <= larger * (1 + 1e-12)).all()
    assert set(timings.bound()) <= {"compute", "memory", "overhead"}


def test_a_row_is_the_same_alone_and_among_others() -> None:
    rng = np.random.default_rng(2)
    m, n, k = np.round(2 ** rng.uniform(0, 13, (3, 6000))).astype(np.int64)
    model = model_of()
    together = model.times(gemm_columns(m, n, k)).latency_s
    for start, stop in ((0, 1), (17, 20), (100, 700), (5000, 6000)):
        part = slice(start, stop)
        for _ in range(2):  # the second time from memory
            assert (model.times(gemm_columns(m[part], n[part], k[part])).latency_s == together[part]).all()


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_growing_work_does_not_get_cheaper(path: Path) -> None:
    """Over aligned shapes on and off the measured grid: hardly ever by more than 5 %, which is what repeated
    measurements of one shape differ by. Weights that were never read out of memory are left out."""
    rng = np.random.default_rng(3)
    small = np.round(2 ** rng.uniform([0, 5, 5], [15, 14, 14], (20_000, 3)))
    small[:, 1:] = np.maximum(np.round(small[:, 1:] / 16) * 16, 32)
    which, rows = rng.integers(0, 3, len(small)), np.arange(len(small))
    large = small.copy()
    large[rows, which] = np.ceil(large[rows, which] * 2 ** rng.uniform(0.05, 2, len(small)) / 16) * 16
    model = model_of(path)
    before, after = (model.times(gemm_columns(*each.T)).latency_s for each in (small, large))
    cold = 2 * small[:, 1] * small[:, 2] >= load_calibration(path).shaped["gemm"].cold_bytes
    drop = (1 - after / before)[cold]
    assert len(drop) > 1000
    assert (drop > 0.05).mean() < 0.01
    assert (drop > 0.15).mean() < 0.003


def test_ranks_beyond_the_measured_range_follow_the_base() -> None:
    model = model_of()
    for ranks in ([1, 2, 4, 7], [8, 24], [16, 32]):  # of equal alignment
        columns = gemm_columns(np.full(len(ranks), 512), ranks, np.full(len(ranks), 4096))
        assert (np.diff(model.times(columns).latency_s) >= 0).all()
    latency = model.times(gemm_columns([512, 512], [1, 32], [4096, 4096])).latency_s
    assert 0.2 < latency[0] / latency[-1] <= 1.2


def test_unaligned_ranks_cost_what_the_stated_prior_says() -> None:
    model = model_of()
    aligned, by_8, odd = model.times(gemm_columns([8192] * 3, [4096] * 3, [112, 104, 107])).latency_s
    assert aligned < by_8 < odd < 3 * aligned
    timings = model.times(gemm_columns([512] * 2, [4096] * 2, [128, 127]))
    widths = np.log(timings.p95_s / timings.p05_s)
    assert widths[1] > 1.5 * widths[0]


def test_decode_with_one_position_is_prefill_of_one_token() -> None:
    model, hardware = load_model("llama2-7b"), load_hardware("a100-sxm-80gb")
    calibration = load_calibration(A100)
    works = (Workload.prefill(1, batch=3), Workload.decode(1, batch=3))
    phases = estimate(model, hardware, Decomposition(), works, calibration=calibration).phases
    assert phases[0].dense.latency_s == pytest.approx(phases[1].dense.latency_s, rel=1e-12)


def test_an_estimate_says_its_level_and_interval() -> None:
    model, hardware, calibration = load_model("llama2-7b"), load_hardware("a100-sxm-80gb"), load_calibration(A100)
    spec = Decomposition({Site(layer, "q_proj"): LowRank(64) for layer in range(32)})
    works = (Workload.prefill(512, runtime=GRAPH), Workload.decode(513, runtime=GRAPH))
    for phase in estimate(model, hardware, spec, works, calibration=calibration).phases:
        for costs in (phase.dense, phase.decomposed):
            assert costs.level == "probes"
            assert costs.latency_p05_s is not None
            assert costs.latency_p95_s is not None
            assert costs.latency_p05_s < costs.latency_s < costs.latency_p95_s
        rows = sum(row["latency_s"] for row in phase.op_rows())
        assert rows == pytest.approx(phase.decomposed.device_s, rel=1e-9)


def texts(calibration: Calibration, work: Workload, spec: Decomposition | None = None, name: str = "llama2-7b") -> str:
    found = pricer(load_model(name), load_hardware(calibration.hardware), work, calibration)
    return "\n".join(leaves(calibration, found.model, found.work, spec or Decomposition()))


def test_warnings_outside_of_what_was_measured() -> None:
    calibration = load_calibration(A100)
    assert texts(calibration, Workload.prefill(512)) == ""
    ranks = {Site(0, "q_proj"): LowRank(1), Site(1, "q_proj"): LowRank(100), Site(2, "q_proj"): LowRank(128)}
    found = texts(calibration, Workload.prefill(512), Decomposition(ranks))
    assert "ranks below 32 were not measured: 1" in found
    assert "multiples of 32 were measured, priced by a stated prior: 100" in found
    assert "128" not in found
    assert "batch x length 65536 is outside" in texts(calibration, Workload.prefill(4096, batch=16))
    assert "measured in bf16, taken to hold for fp16" in texts(calibration, Workload.prefill(512, dtype=DType.FP16))
    assert "int4 weights were not measured" in texts(calibration, Workload.prefill(512, weight_dtype=DType.INT4))
    unfused = Workload.prefill(512, attention=Attention.UNFUSED)
    assert "attention of this form was not measured" in texts(calibration, unfused)
    assert "head_dim 64 is outside" in texts(calibration, Workload.prefill(512), name="gpt2")


def test_a_sliding_window_is_warned_of_by_the_keys_that_it_reads() -> None:
    """A step at 132,072 tokens through a window of 4,096 is priced at 4,096 keys, which were measured."""
    calibration = load_calibration(A100)
    long = Workload.decode(132_072)
    assert "kv_len" not in texts(calibration, long, name="mistral-7b")
    assert "attention's kv_len 132072 is outside" in texts(calibration, long, name="llama2-7b")


@pytest.mark.parametrize(("element_bytes", "doublings"), [(4, 1.0), (2, 0.0), (1, -1.0)])
def test_cache_features_count_the_bytes_of_the_type(element_bytes: int, doublings: float) -> None:
    """4,096 x 4,096 elements of fp32 are 67 MB, twice a cache of 33.6 MB: one doubling beyond it."""
    shape, one = np.array([[1.0], [4096], [4096]]), np.ones(1)
    moved = element_bytes * (4096 * 4096 + 2 * 4096)
    features = gemm_features(shape, one, one, cores=2, cache_bytes=moved / 2.0**doublings, element_bytes=element_bytes)
    assert features[-5] == pytest.approx(doublings, abs=1e-12)


def test_a_form_fitted_on_features_of_16_bits_keeps_them(tmp_path: Path) -> None:
    """The shipped fp32 form was: without what its file says of the cache it would predict other times."""
    raw = json.loads((profile_folder() / "calibrations" / "amd-epyc-2t.json").read_text())
    shipped = read_shaped(Node("file", raw["forms"]["gemm"], CalibrationError), "gemm")
    assert (shipped.element_bytes, shipped.cache_element_bytes) == (4, 2)
    del raw["forms"]["gemm"]["cache_element_bytes"]
    other = read_shaped(Node("file", raw["forms"]["gemm"], CalibrationError), "gemm")
    assert other.cache_element_bytes == 4
    shape = np.array([[64.0], [768], [768]])
    assert shipped.correction(shape) != other.correction(shape)


def test_needs_numpy_alone() -> None:
    """Beside costmodel's own modules and the standard library: a file is read, checked and applied with numpy."""
    code = (
        "import sys, importlib; from pathlib import Path\n"
        "import costmodel.timing.calibration.file, costmodel.timing.calibration.probes\n"
        "heavy = {'scipy', 'torch', 'pyarrow', 'msgspec', 'networkx', 'pandas', 'sklearn'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_million_predictions_take_seconds() -> None:
    """A million a second of one core; a machine of another make gets three times as long."""
    rng = np.random.default_rng(4)
    m, n, k = np.round(2 ** rng.uniform([0, 5, 5], [14, 14, 14], (200_000, 3))).T.astype(np.int64)
    columns, model = gemm_columns(m, n, k), model_of()
    best = min(_seconds(lambda: model.times(columns)) for _ in range(3))
    assert best < 3 * 0.2


def _seconds(work: Callable[[], object]) -> float:
    """Of this thread on its processor, so that other work on the machine does not count."""
    start = time.thread_time()
    work()
    return time.thread_time() - start


def test_a_profile_with_other_figures_is_another_device(tmp_path: Path) -> None:
    text = (profile_folder() / "a100-sxm-80gb.toml").read_text(encoding="utf-8")
    same, changed = tmp_path / "same.toml", tmp_path / "changed.toml"
    same.write_text(text)
    changed.write_text(text.replace("memory_gb_per_s         = { value = 2039", "memory_gb_per_s = { value = 4000"))
    assert load_hardware(changed).memory_bytes_per_s == 4e12
    found = find_calibration("auto", load_hardware(same), DType.BF16, Runtime.EAGER)
    assert found is not None
    assert found.name == "a100-sxm-80gb"
    other = find_calibration("auto", load_hardware(changed), DType.BF16, Runtime.EAGER)
    assert other is not None
    assert other.level == "generation"


@pytest.mark.parametrize(("kept", "queries"), [("prefill", 1), ("decode", 64)])
def test_attention_that_was_not_measured_is_timed_as_the_other_kind(kept: Any, queries: int) -> None:
    model = model_of()
    shape = np.array([[1, queries, 256, 32, 8, 128]], dtype=np.int64)
    one = np.ones(1, dtype=np.int64)
    columns = OpColumns(
        kind="attention",
        m=0 * one,
        n=0 * one,
        k=0 * one,
        executed_flops=10**9 * one,
        vector_flops=0 * one,
        hbm_bytes=10**7 * one,
        kernels=one,
        attention=shape,
    )
    alone = replace(model, shaped={name: model.shaped[name] for name in ("gemm", kept)})
    wanted = model.shaped[kept].times(shape.T.astype(float), np.array([1e9]), np.array([1e7]))
    assert alone.times(columns).latency_s.tolist() == wanted.latency_s.tolist()


def test_whether_a_profile_was_verified_makes_no_other_device_of_it() -> None:
    hardware = load_hardware("a100-sxm-80gb")
    said = replace(hardware, verified=not hardware.verified, description="mine")
    assert shipped_calibration(said) is not None
    assert shipped_calibration(replace(hardware, memory_bytes_per_s=hardware.memory_bytes_per_s / 2)) is None
