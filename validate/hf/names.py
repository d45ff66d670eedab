"""Names in a factored folder: files, types, stages."""

from __future__ import annotations

import torch

METHOD = "low_rank"
"""`quant_method` in config.json."""
FORMAT, SCHEMA = "factored-checkpoint", 2
MANIFEST = "factored.json"
WEIGHTS, INDEX = "factored.safetensors", "factored.safetensors.index.json"
"""Names that a transformers without the quantizer does not look for, so that it fails instead of making up factors."""
CONFIG, GENERATION, DECOMPOSITION = "config.json", "generation_config.json", "decomposition.json"
RECIPE = "recipe.toml"
DTYPES = {"fp32": (torch.float32, "F32"), "bf16": (torch.bfloat16, "BF16"), "fp16": (torch.float16, "F16")}
"""A manifest's name of a type -> torch's, and that of safetensors."""
STAGES = {2: ("in", "out"), 3: ("in", "core", "out")}
"""Names of the factors by their number, in the order they run."""
FORMS = {"svd": 2, "tucker": 3}
"""Number of factors of each form."""


def shard_names(count: int, stem: str = "factored") -> list[str]:
    """Names of the weight files, in order."""
    numbered = [f"{stem}-{number:05d}-of-{count:05d}.safetensors" for number in range(1, count + 1)]
    return [f"{stem}.safetensors"] if count == 1 else numbered
