"""Measured times of operations -> a calibration file with its held-out errors."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from costmodel.hardware.profile import HardwareProfile
from costmodel.timing.calibration.base import Base
from costmodel.timing.calibration.file import SCHEMA
from costmodel.timing.calibration.probes import GENERAL_STREAM
from costmodel.timing.calibration.shaped import FORMS, Alignment, FormKind, FormName
from costmodel.units import DType
from validate.calibration.errors import coverage_pct, error_row, speedup_rows
from validate.calibration.file import calibration_bytes
from validate.calibration.folder import MeasuredOps
from validate.calibration.net import Training
from validate.calibration.shaped import FITS, FOLDS, Device, FittedForm, fit_shaped, rounded
from validate.calibration.streams import StreamTable, fit_stream, held_out_halves, stream_to_json, with_interval
from validate.calibration.tables import OpTable
from validate.errors import FitError

ALIGNMENT = Alignment(compute_8=1.18, compute_1=2.36, memory_1=1.12)
ALIGNMENT_SOURCE = (
    "prior, not measured here: published for fp16 on an A100, where 8192 x 8192 reaches 91, 77 and 37 to 40 TFLOP/s"
    " with k a multiple of 16, of 8 only, of neither, and GEMV loses 12 %; taken to hold for n and on this device too"
)
TRAINING: Mapping[FormKind, Training] = {
    "gemm": Training(hidden=(64, 64, 32), epochs=300, batch=256),
    "prefill": Training(hidden=(48, 48), epochs=250, batch=128),
    "decode": Training(hidden=(48, 48), epochs=250, batch=128),
}
"""For tables of thousands of points; `validate.calibration.few` has its own."""
SEED = 0
PROTOCOL: Mapping[FormKind, str] = {
    "gemm": f"{FOLDS} folds over whole (n, k) pairs",
    "prefill": f"{FOLDS} folds over whole (num_heads, num_kv_heads, head_dim)",
    "decode": f"{FOLDS} folds over whole (num_heads, num_kv_heads, head_dim)",
}
_SMALLEST = 20
_GROUPS = 8


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Fit:
    """A calibration as it goes into a file, and the fits behind it."""

    content: dict[str, Any]
    forms: Mapping[FormName, FittedForm]

    def to_bytes(self) -> bytes:
        """The file; see `calibration_bytes`."""
        return calibration_bytes(self.content)


def fit_calibration(
    ops: MeasuredOps,
    hardware: HardwareProfile,
    *,
    served: Sequence[DType] = (),
    show: Callable[[str, float, float], None] = lambda *_: None,
) -> Fit:
    """Fit every class that was measured.

    Args:
        ops: the measurements, GEMMs among them; without kernels that only move data, GEMM's bandwidth and fixed time
            stand in.
        hardware: the device's profile: where searches begin, and cores and cache for the features.
        served: further types that the file may serve.
        show: told what is being done, how many fits are done, and of how many.

    Raises:
        FitError: when there are no GEMMs, or too few to hold some out.
    """
    tables, manifest = ops.tables, ops.manifest
    if "gemm" not in tables:
        raise FitError("no GEMMs to fit", hint="a calibration stands on them")
    forms: dict[FormName, FittedForm] = {}
    errors: list[dict[str, Any]] = []
    for kind, table in tables.items():
        _require(kind, table)
    steps = itertools.count()

    def fitted() -> None:
        show("fitting", next(steps), FITS * len(tables))

    fitted()
    for kind, table in tables.items():
        forms[kind] = fit_form(kind, table, hardware, ops.dtype, fitted=fitted)
        errors += form_errors(kind, forms[kind], table)
    gemm = forms["gemm"].form.base
    entries, rows = fit_streams(ops.streams, gemm, hardware)
    content = {
        "schema": SCHEMA,
        "hardware": hardware.name,
        "dtypes": [each.value for each in (ops.dtype, *served)],
        "runtimes": manifest.runtimes,
        "level": "probes",
        "host_launch_s": manifest.host_launch_s,
        **({} if manifest.module_launch_s is None else {"module_launch_s": manifest.module_launch_s}),
        "provenance": manifest.provenance,
        "errors": errors + rows,
        "streams": entries,
        "forms": {name: form.to_json(ALIGNMENT_SOURCE) for name, form in forms.items()},
    }
    return Fit(content=content, forms=forms)


def fit_form(
    name: FormName,
    table: OpTable,
    hardware: HardwareProfile,
    dtype: DType,
    *,
    training: Training | None = None,
    warm: OpTable | None = None,
    fitted: Callable[[], None] = lambda: None,
) -> FittedForm:
    """Fit one form; see `fit_calibration` and `fit_shaped`.

    Args:
        name: of the form; "gemm:fp8" is of fp8 inputs and a result in 16 bits, whatever `dtype` is.
        training: of the network; None takes that of TRAINING.
    """
    kind = FORMS[name]
    multiple = _multiple(table) if kind == "gemm" else 1
    return fit_shaped(
        table,
        device_of(hardware, dtype, name),
        training or TRAINING[kind],
        alignment=ALIGNMENT if kind == "gemm" and multiple % 16 == 0 else None,
        multiple=multiple,
        warm=warm,
        seed=SEED,
        fitted=fitted,
    )


def device_of(hardware: HardwareProfile, dtype: DType, name: FormName) -> Device:
    """What a form needs to know of a device."""
    kind, fp8 = FORMS[name], name == "gemm:fp8"
    dtype = DType.FP8 if fp8 else dtype
    fixed = 4e-6 if kind == "gemm" else 10e-6
    start = Base(
        flops_per_s=0.7 * hardware.matrix_rate(dtype),
        bytes_per_s=0.7 * hardware.memory_bytes_per_s,
        fixed_s=fixed,
        overlap=1.5,
    )
    cache = hardware.caches[-1].bytes if hardware.caches else 1 << 20
    return Device(
        start=start,
        cores=hardware.cores,
        cache_bytes=float(cache),
        element_bytes=dtype.bits // 8,
        output_bytes=2 if fp8 else None,
    )


def _require(kind: FormKind, table: OpTable) -> None:
    groups = int(table.groups().max()) + 1 if len(table) else 0
    if len(table) < _SMALLEST or groups < _GROUPS:
        raise FitError(
            f"too few {kind} points to fit and to hold some out",
            value=f"{len(table)} in {groups} shapes",
            allowed=f"at least {_SMALLEST} points in {_GROUPS} shapes",
        )


def _multiple(table: OpTable) -> int:
    """Largest power of two, up to 64, that divides every n and k."""
    widths = np.unique(table.shape[1:]).astype(np.int64)
    return next(each for each in (64, 32, 16, 8, 4, 2, 1) if not (widths % each).any())


def form_errors(name: FormName, fitted: FittedForm, table: OpTable) -> list[dict[str, Any]]:
    """Rows of the error table: all points, those of low rank, the ratios of speed, and the base alone."""
    kind = FORMS[name]
    form, predicted = fitted.form, fitted.held_out_s
    base_s = form.base_seconds(table.shape)
    covered = coverage_pct(base_s, predicted, table, SEED)
    rows = [error_row(name, "all", PROTOCOL[kind], predicted, table, coverage_pct=covered)]
    low_rank = table.low_rank()
    if low_rank.any():
        subset = "low-rank: min(n, k) <= 512, max >= 2048"
        rows.append(error_row(name, subset, PROTOCOL[kind], predicted[low_rank], table.take(low_rank)))
    if kind == "gemm":
        rows += speedup_rows(name, PROTOCOL[kind], predicted, table)
    rows.append(error_row(name, "all, base without correction", "in sample", base_s, table))
    return rows


def fit_streams(
    tables: Sequence[StreamTable], gemm: Base, hardware: HardwareProfile
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Entries of a file for kernels that only move data, and their rows of errors on sizes held out."""
    rates = {"flops_per_s": gemm.flops_per_s, "bytes_per_s": hardware.memory_bytes_per_s}
    entries: dict[str, Any] = {}
    rows = []
    for table in tables:
        unseen, predicted = held_out_halves(table, **rates)
        form = with_interval(fit_stream(table, **rates), np.log(unseen.seconds / predicted))
        entries[table.kind] = stream_to_json(form, "measured")
        error = predicted / unseen.seconds - 1
        within = np.abs(predicted - unseen.seconds) <= np.maximum(0.1 * unseen.seconds, 1e-6)
        figures = {
            "mean_pct": 100 * np.abs(error).mean(),
            "median_pct": 100 * np.median(np.abs(error)),
            "p95_pct": 100 * np.quantile(np.abs(error), 0.95),
            "bias_pct": 100 * error.mean(),
            "within_10pct_or_1us_pct": 100 * within.mean(),
        }
        shown = {name: rounded(float(each), 3) for name, each in figures.items()}
        rows.append(
            {
                "kind": table.kind,
                "subset": "all",
                "protocol": "fitted on every other size",
                "points": len(unseen.seconds),
                **shown,
            }
        )
    if GENERAL_STREAM not in entries:
        entries[GENERAL_STREAM] = {
            "base": {name: rounded(getattr(gemm, name)) for name in gemm.__slots__},
            "log2_bytes": [],
            "ln_factor": [],
            "low": -0.5,
            "high": 0.5,
            "source": "not measured: bandwidth and fixed time of the GEMMs",
        }
    return entries, rows
