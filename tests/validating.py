"""Tiny models of each family, a device that pretends to be a GPU, and records made by hand."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from costmodel.decomposition.factors import Decomposition
from costmodel.decomposition.text import parse_decomposition
from costmodel.families.registry import spec_from_config
from costmodel.forward.workload import Runtime, Workload
from costmodel.hardware.profile import load_hardware
from costmodel.model import ModelSpec
from costmodel.units import DType
from validate.plans.case import Case
from validate.speed.predictions import Predictor
from validate.speed.records import ModelRecord, Sample, Series, Timing

LLAMA = {
    "model_type": "llama",
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "num_hidden_layers": 3,
    "vocab_size": 128,
    "max_position_embeddings": 128,
}
BERT = {
    "model_type": "bert",
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_attention_heads": 4,
    "num_hidden_layers": 3,
    "vocab_size": 128,
    "max_position_embeddings": 128,
}
GPT2 = {"model_type": "gpt2", "n_embd": 64, "n_head": 4, "n_layer": 3, "vocab_size": 128, "n_positions": 128}
OPT = {
    "model_type": "opt",
    "hidden_size": 64,
    "ffn_dim": 96,
    "num_attention_heads": 4,
    "num_hidden_layers": 3,
    "vocab_size": 128,
    "max_position_embeddings": 128,
}
QWEN3 = {**LLAMA, "model_type": "qwen3", "head_dim": 24, "tie_word_embeddings": True}
MISTRAL = {**LLAMA, "model_type": "mistral", "sliding_window": 8}
MIXED_WINDOWS = {
    **LLAMA,
    "model_type": "qwen2",
    "use_sliding_window": True,
    "sliding_window": 8,
    "layer_types": ["full_attention", "sliding_attention", "full_attention"],
}
FAMILIES: dict[str, dict[str, Any]] = {
    "llama": LLAMA,
    "bert": BERT,
    "gpt2": GPT2,
    "opt": OPT,
    "qwen3": QWEN3,
    "mistral": MISTRAL,
    "mixed": MIXED_WINDOWS,
}


def tiny_spec(config: dict[str, Any], name: str = "tiny") -> ModelSpec:
    return spec_from_config(config, name=name, source=name)


def write_config(folder: Path, config: dict[str, Any]) -> Path:
    """A config.json in a folder of its own."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def workloads(spec: ModelSpec, **options: Any) -> list[Workload]:
    """A prefill, and where there is one a decode step."""
    prefill = Workload.prefill(12, batch=2, dtype=DType.FP32, **options)
    return [prefill] if spec.is_encoder else [prefill, Workload.decode(17, batch=2, dtype=DType.FP32, **options)]


def predictor(hardware: str = "epyc-9654") -> Predictor:
    return Predictor(hardware=load_hardware(hardware))


class FakeGpu:
    """A device that runs on the CPU but is asked everything that a GPU is: graphs, allocator, clocks, energy."""

    kind = "cuda"
    name = "NVIDIA H100 80GB HBM3"
    cache_bytes = 1
    memory_bytes = 80 * 10**9
    placements = 1
    placement = 0.0

    def __init__(self) -> None:
        import torch

        self.torch_device = torch.device("cpu")
        self.captured = self.released = self.synchronized = 0
        self.joules = 0.0
        self.throttle: list[str] = []

    def synchronize(self) -> None:
        self.synchronized += 1

    def prepare(self, work: Callable[[], object], runtime: Runtime) -> Callable[[], object]:
        self.captured += runtime is Runtime.GRAPH
        return work

    def time(self, works: Sequence[Callable[[], object]], runtime: Runtime) -> list[float]:
        seconds = []
        for work in works:
            start = time.perf_counter()
            work()
            seconds.append(time.perf_counter() - start)
        return seconds

    def peak_memory(self, work: Callable[[], object]) -> Any:
        from validate.devices.device import PassMemory

        work()
        return PassMemory(peak_allocated_bytes=1000, peak_reserved_bytes=2000, peak_process_bytes=None, method="fake")

    def conditions(self) -> dict[str, Any]:
        return {"sm_clock_mhz": 1980, "temperature_c": 40, "throttle": self.throttle, "power_w": 300.0}

    def energy_j(self) -> float | None:
        self.joules += 10.0
        return self.joules

    def release(self) -> None:
        self.released += 1


def timing(ratio: float, *, dense_s: float = 0.01, width: float = 0.01, disturbed: tuple[str, ...] = ()) -> Timing:
    """A comparison that came out at `ratio`."""
    own = dense_s * ratio
    return Timing(
        candidate=Series(seconds=[own] * 6, median_s=own, iqr_s=0.0),
        dense=Series(seconds=[dense_s] * 6, median_s=dense_s, iqr_s=0.0),
        ratio=ratio,
        ratio_low=ratio * (1 - width),
        ratio_high=ratio * (1 + width),
        warmup_pairs=6,
        settled=True,
        precise=True,
        copies=1,
        disturbed=list(disturbed),
        conditions={},
    )


def sample(
    specs: list[str],
    ratio: float | None,
    *,
    index: int = 0,
    work: Workload | None = None,
    repeat: float | None = None,
    dense_s: float = 0.01,
    **fields: Any,
) -> Sample:
    """A record of the tiny Llama as a run would have made it."""
    spec = tiny_spec(LLAMA)
    decomposition: Decomposition = parse_decomposition(specs, spec)
    work = work or Workload.decode(17, dtype=DType.FP32)
    case = Case(index=index, spec=spec, decomposition=decomposition, work=work)
    record: dict[str, Any] = {
        "id": case.id,
        "index": index,
        "status": "ok" if ratio else "failed",
        "strata": case.strata,
        "model": ModelRecord(name="tiny", config=LLAMA, num_layers=3, weights="random", factors="random"),
        "config": decomposition.to_json(),
        "workload": work.to_json(),
        "hardware": "epyc-9654",
        "predicted": predictor().predictions(spec, decomposition, work),
        "timing": timing(ratio, dense_s=dense_s) if ratio else None,
        "repeat": timing(repeat) if repeat else None,
        "environment": {"device": {"kind": "cpu", "name": "Test <CPU>"}, "threads": 1},
        "started": "2026-01-02T03:04:05+00:00",
        "elapsed_s": 1.0,
    }
    return Sample(**{**record, **fields})
