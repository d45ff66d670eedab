"""Is the timing of `validate` honest? Dense against an identical dense copy, and a busy-wait of known length.

    python benchmarks/timing_honesty.py [--repeats 50] [--device auto|cpu|cuda] [--out honesty.json]

Exits with 1 when fewer than 90 % of the repeats hold 1 within an interval of at most 3 % to each side, or when a
busy-wait is measured wrong by more than 5 % of the total. Takes about six minutes on two cores; whatever else runs
beside it shows.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from pathlib import Path
from typing import Any

from validate.devices.threads import pin_threads

THREADS = pin_threads(None)  # before torch is loaded

import torch  # noqa: E402

from costmodel.decomposition.factors import Decomposition  # noqa: E402
from costmodel.families.load import load_model, read_config  # noqa: E402
from costmodel.forward.workload import Runtime, Workload  # noqa: E402
from costmodel.units import DType  # noqa: E402
from validate.devices.device import Device  # noqa: E402
from validate.devices.opening import open_device  # noqa: E402
from validate.factors.replace import clone  # noqa: E402
from validate.models.build import build_model  # noqa: E402
from validate.models.passes import make_pass  # noqa: E402
from validate.speed.timing import TimingPlan, compare  # noqa: E402

MODEL = "llama-70m"
HALF_WIDTH = 0.03
HELD = 0.9
TOLERANCE = 0.05
SHARES = (0.1, 0.2, 0.3, 0.4, 0.5)
PLAN = TimingPlan(precision=0.02, budget_s=8.0)
DENSE = Decomposition()


def workloads(dtype: DType, runtime: Runtime) -> list[Workload]:
    """A decode step and a prefill, in turn."""
    return [Workload.decode(129, dtype=dtype, runtime=runtime), Workload.prefill(32, dtype=dtype, runtime=runtime)]


def dense_against_dense(device: Device, model: torch.nn.Module, work: Workload) -> dict[str, Any]:
    """One comparison of a model with itself, in as many copies of each as `validate` takes."""
    spec = load_model(MODEL)
    trees = [clone(model, torch.clone) for _ in range(2 * device.placements)]
    runs = [device.prepare(make_pass(tree, spec, DENSE, work, device.torch_device), work.runtime) for tree in trees]
    timing = compare(device, runs[::2], runs[1::2], PLAN, work.runtime)
    holds, narrow = timing.ratio_low <= 1 <= timing.ratio_high, timing.half_width <= HALF_WIDTH
    return {
        "phase": work.phase.value,
        "ratio": timing.ratio,
        "low": timing.ratio_low,
        "high": timing.ratio_high,
        "half_width": timing.half_width,
        "pairs": len(timing.dense.seconds),
        "dense_s": timing.dense.median_s,
        "good": holds and narrow,
        "disturbed": timing.disturbed,
    }


def busy_wait(device: Device, model: torch.nn.Module, work: Workload, share: float) -> dict[str, Any]:
    """A pass followed by a spin of a known share of its time, against the pass alone."""
    spec = load_model(MODEL)
    run = make_pass(model, spec, DENSE, work, device.torch_device)
    baseline = statistics.median(device.time([run] * 30, work.runtime)[5:])
    wait = share * baseline

    def slower() -> None:
        run()
        device.synchronize()
        end = time.perf_counter() + wait
        while time.perf_counter() < end:
            pass

    timing = compare(device, [slower], [run], PLAN, work.runtime)
    truth = 1 + wait / timing.dense.median_s
    return {
        "share": share,
        "truth": truth,
        "ratio": timing.ratio,
        "error": timing.ratio / truth - 1,
        "disturbed": timing.disturbed,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--repeats", type=int, default=50)
    parser.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto")
    parser.add_argument("--threads", type=int, default=THREADS)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    device = open_device(options.device, options.threads)
    dtype = DType.FP32 if device.kind == "cpu" else DType.BF16
    model = build_model(read_config(MODEL), load_model(MODEL), dtype=dtype, device=device.torch_device)
    graph = Runtime.EAGER if device.kind == "cpu" else Runtime.GRAPH
    with torch.inference_mode():
        rows = [
            dense_against_dense(device, model, workloads(dtype, graph)[index % 2]) for index in range(options.repeats)
        ]
        waits = [busy_wait(device, model, work, share) for work in workloads(dtype, Runtime.EAGER) for share in SHARES]
    held = sum(row["good"] for row in rows) / max(1, len(rows))
    widths, offs = [row["half_width"] for row in rows], [abs(row["ratio"] - 1) for row in rows]
    covered = sum(row["low"] <= 1 <= row["high"] for row in rows)
    worst = max(abs(wait["error"]) for wait in waits)
    summary = {
        "device": device.name,
        "kind": device.kind,
        "threads": torch.get_num_threads(),
        "repeats": len(rows),
        "held_within_3_percent": held,
        "covered": covered / max(1, len(rows)),
        "median_half_width": statistics.median(widths),
        "median_off": statistics.median(offs),
        "worst_off": max(offs),
        "disturbed": sum(bool(row["disturbed"]) for row in rows),
        "busy_wait_worst_error": worst,
    }
    if options.out:
        options.out.write_text(json.dumps({"summary": summary, "repeats": rows, "busy_wait": waits}, indent=1) + "\n")
    for name, value in summary.items():
        print(f"{name:24}{value:.4g}" if isinstance(value, float) else f"{name:24}{value}")
    for wait in waits:
        print(
            f"busy-wait of {wait['share']:.0%}: truth {wait['truth']:.4f}, measured {wait['ratio']:.4f}, "
            f"off by {wait['error']:+.2%}"
        )
    return int(held < HELD or worst > TOLERANCE)


if __name__ == "__main__":
    sys.exit(main())
