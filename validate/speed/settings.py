"""The settings of a timing run: what is measured and how, with the words that the command line has for it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from costmodel.forward.workload import MAX_BATCH, MAX_LENGTH
from validate.store.settings import MAX_SEED, ComputeChoice, DeviceChoice, option

DEFAULT_MODEL = "llama-70m"
FIXED = (
    "model",
    "num_layers",
    "weights",
    "dtype",
    "device",
    "device_name",
    "threads",
    "hardware",
    "seed",
    "configs",
    "attention",
    "stack",
)
"""What records of one timing run share; times of unlike runs are not pooled."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasureSettings:
    """Options of `validate` without a command that a resumed run takes over."""

    samples: int = option(20, "Configurations to measure, the dense model included.", low=1, high=100_000)
    model: str = option(
        DEFAULT_MODEL,
        "Built-in name, a config.json, or a folder; a folder with *.safetensors brings its weights.",
        metavar="NAME|PATH",
    )
    num_layers: int | None = option(None, "Build this many layers only: a slice of a large model.", low=1)
    weights: Literal["auto", "random"] = option("auto", "Take the folder's weights where it has some, or random ones.")
    device: DeviceChoice = option("auto", "auto takes CUDA where there is one.")
    threads: int | None = option(None, "Threads on a CPU.  [default: physical cores that it may use]", low=1, high=4096)
    hw: str = option(
        "auto",
        "Profile to predict with; auto takes this machine's where one was probed (as costmodel does), else matches the "
        "device's name or writes a minimal profile.",
        metavar="auto|NAME|PATH",
    )
    calibration: str = option(
        "auto", "Measured corrections to predict with, beside the datasheet.", metavar="FILE|auto|none"
    )
    phase: Literal["prefill", "decode", "both"] = option("both", "Which passes to run; an encoder has prefill only.")
    batch: tuple[int, ...] = option(
        (), "Sequences; repeatable.  [default: 1 2 4 8 on a CPU, 1 4 16 64 on CUDA]", low=1, high=MAX_BATCH
    )
    seq_len: tuple[int, ...] = option(
        (),
        "Tokens of a prompt; repeatable.  [default: 16 to 128 on a CPU, 128 to 2048 on CUDA]",
        low=1,
        high=MAX_LENGTH,
    )
    kv_len: tuple[int, ...] = option(
        (),
        "Tokens that a decode step attends to; repeatable.  [default: 64 to 512, 128 to 2048]",
        low=1,
        high=MAX_LENGTH,
    )
    dtype: ComputeChoice = option("auto", "auto: fp32 on a CPU, bf16 on CUDA.")
    runtime: Literal["auto", "eager", "graph", "both", "compile", "onnx"] = option(
        "auto",
        "auto: eager on a CPU, where a graph is the same; both on CUDA. compile: by torch.compile; onnx: exported, by "
        "ONNX Runtime on a CPU; both are first held against PyTorch's own outputs.",
    )
    attention: Literal["fused", "unfused"] = option("fused", "One fused kernel, or separate ones.")
    seed: int = option(0, "Of the choice of samples, weights and tokens.", low=0, high=MAX_SEED)
    configs: str | None = option(
        None, "Measure these: a configuration, a list of them, or the JSON of `costmodel explore`.", metavar="FILE"
    )
    precision: float = option(
        2.0,
        "Stop a comparison when its 95 % interval is this narrow, to each side.",
        metavar="PCT",
        unit="%",
        low=0.1,
        high=50,
    )
    budget: float = option(
        5.5, "Stop a comparison after this long anyway.", metavar="SECONDS", unit="s", low=0.1, high=3600
    )
