"""The host's time of a launch where modules launch it: what a stack's launch is measured in."""

from __future__ import annotations

import statistics
import time
from typing import Any

import torch

from costmodel.decomposition.factors import Decomposition
from costmodel.families.registry import spec_from_config
from costmodel.forward.passes import forward_ops
from costmodel.forward.workload import Workload
from costmodel.units import DType
from validate.devices.device import Device
from validate.models.build import build_model

_TINY: dict[str, Any] = {
    "model_type": "llama",
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 8,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "vocab_size": 256,
    "max_position_embeddings": 64,
}
"""A Llama whose kernels a GPU is done with before its host launches the next."""


def module_launch_seconds(device: Device, passes: int = 40) -> float:
    """Median host time of a kernel that transformers' modules launch, of passes of one token through a tiny Llama.

    A pass that waits for its host takes kernels x this: what `launch_us` is in the files of stacks, on their reference
    host. On a CPU, which computes meanwhile, it is more than the host's.
    """
    spec = spec_from_config(_TINY, name="tiny", source="tiny")
    model: Any = build_model(_TINY, spec, dtype=DType.FP32, device=device.torch_device)
    tokens = torch.ones(1, 1, dtype=torch.int64, device=device.torch_device)
    seconds = []
    with torch.inference_mode():
        for _ in range(passes):
            device.synchronize()
            start = time.perf_counter()
            model(input_ids=tokens, use_cache=False)
            device.synchronize()
            seconds.append(time.perf_counter() - start)
    kernels = sum(op.cost.kernels for op in forward_ops(spec, Decomposition(), Workload.prefill(1, dtype=DType.FP32)))
    return statistics.median(seconds) / kernels
