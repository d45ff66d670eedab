"""Every operation of small passes of each family, kept in operations.json: names, kinds, shapes, costs, what it reads
and holds. `python tests/golden/operations.py` writes the file again after a change of the model on purpose.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from costmodel.decomposition.factors import Decomposition, LowRank, Site, Tucker
from costmodel.families.registry import spec_from_config
from costmodel.forward.passes import forward_ops
from costmodel.forward.workload import Attention, Cache, LmHead, Phase, Workload
from costmodel.units import DType

PATH = Path(__file__).with_name("operations.json")

_LLAMA: dict[str, Any] = {
    "hidden_size": 48,
    "intermediate_size": 40,
    "num_hidden_layers": 1,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "vocab_size": 70,
    "max_position_embeddings": 64,
}
_BERT = {**_LLAMA, "pad_token_id": 1}
MODELS: dict[str, dict[str, Any]] = {
    "llama": {"model_type": "llama", **_LLAMA, "num_key_value_heads": 6},
    "llama-biases": {"model_type": "llama", **_LLAMA, "attention_bias": True, "mlp_bias": True},
    "mistral": {"model_type": "mistral", **_LLAMA, "sliding_window": 5},
    "qwen2": {
        "model_type": "qwen2",
        **_LLAMA,
        "num_hidden_layers": 2,
        "use_sliding_window": True,
        "sliding_window": 5,
        "max_window_layers": 1,
    },
    "qwen3": {"model_type": "qwen3", **_LLAMA},
    "bert": {"model_type": "bert", **_BERT},
    "roberta": {"model_type": "roberta", **_BERT},
    "gpt2": {"model_type": "gpt2", "n_embd": 48, "n_layer": 1, "n_head": 6, "n_positions": 64, "vocab_size": 70},
    "opt": {"model_type": "opt", **_LLAMA, "ffn_dim": 40, "word_embed_proj_dim": 24, "do_layer_norm_before": False},
}
WORKS = {
    "prefill": Workload.prefill(9, batch=2),
    "prefill, unfused": Workload.prefill(9, batch=2, attention=Attention.UNFUSED, lm_head=LmHead.ALL),
    "prompt behind another, unfused": Workload(
        phase=Phase.PREFILL, q_len=3, kv_len=9, batch=2, attention=Attention.UNFUSED, cache=Cache.GROWING
    ),
    "decode, unfused": Workload.decode(
        9, batch=2, attention=Attention.UNFUSED, dtype=DType.FP32, cache=Cache.GROWING, weight_dtype=DType.INT8
    ),
}


def compute(name: str) -> dict[str, list[dict[str, Any]]]:
    """The operations of a model's passes, what is zero or empty left out; the first linears of layer 0 are factored."""
    model = spec_from_config(MODELS[name], name=name, source=name)
    first, second = (tensor.name for tensor in model.tensors[:2])
    factors = Decomposition({Site(0, first): LowRank(7), Site(0, second): Tucker(5, 6)})
    return {
        how: [
            {key: value for key, value in op._asdict().items() if value not in (None, 0, (), "")}
            | {"cost": cost(op.cost)}
            for op in forward_ops(model, factors, work)
        ]
        for how, work in WORKS.items()
        if work.q_len == work.kv_len or not model.is_encoder
    }


def cost(of: Any) -> dict[str, int]:
    """The counts that are not 0."""
    return {name: value for name, value in of._asdict().items() if value}


def text() -> str:
    """The whole file, a line for every operation."""
    models = []
    for name in MODELS:
        passes = [
            f"  {json.dumps(how)}: [\n" + ",\n".join(f"    {json.dumps(op)}" for op in ops) + "\n  ]"
            for how, ops in compute(name).items()
        ]
        models.append(f"{json.dumps(name)}: {{\n" + ",\n".join(passes) + "\n}")
    return "{\n" + ",\n".join(models) + "\n}\n"


if __name__ == "__main__":
    PATH.write_text(text(), encoding="utf-8")
    sys.stdout.write(f"wrote the operations of {len(MODELS)} models to {PATH}\n")
