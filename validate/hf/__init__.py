"""Factored folders for transformers: after `import validate.hf` its `from_pretrained` loads them.

Needs torch, transformers, safetensors and huggingface_hub, and no other part of this project: on another machine copy
the folder `hf` into one called `validate` that has an empty `__init__.py`.
"""

from __future__ import annotations

from transformers.quantizers.base import HfQuantizer

if not hasattr(HfQuantizer, "update_attn_implementation"):
    raise ImportError("factored folders need a newer transformers: pip install -U transformers")

from validate.hf.check import check_factored, is_factored
from validate.hf.config import LowRankConfig
from validate.hf.errors import FactoredCheckpointError
from validate.hf.quantizer import LowRankQuantizer, load_factored, merge_factors
from validate.hf.saving import save_factored

__all__ = [
    "FactoredCheckpointError",
    "LowRankConfig",
    "LowRankQuantizer",
    "check_factored",
    "is_factored",
    "load_factored",
    "merge_factors",
    "save_factored",
]
