"""A model whose one layer runs many times: held once, run as often as its configuration says."""

from __future__ import annotations

from typing import Any

from cases import spec_of

from costmodel.decomposition.text import parse_decomposition
from costmodel.forward.passes import forward_ops
from costmodel.forward.workload import Workload
from costmodel.hardware.profile import load_hardware
from costmodel.pricing.estimate import estimate

A100 = load_hardware("a100-sxm-80gb")
ALBERT: dict[str, Any] = {
    "model_type": "albert",
    "embedding_size": 8,
    "hidden_size": 24,
    "intermediate_size": 40,
    "num_attention_heads": 4,
    "num_hidden_layers": 5,
    "vocab_size": 30,
    "max_position_embeddings": 16,
}


def test_parameters_are_held_once_and_work_is_done_in_every_run() -> None:
    one, five = spec_of({**ALBERT, "num_hidden_layers": 1}), spec_of(ALBERT)
    assert one.num_params == five.num_params
    work = Workload.prefill(7, batch=2)
    factored = parse_decomposition(["tensors=mlp rank=3"], five)
    for decomposition in (parse_decomposition(["form=dense"], five), factored):
        few, many = (estimate(spec, A100, decomposition, [work]).phases[0] for spec in (one, five))
        ops = [op.cost for op in forward_ops(five, decomposition, work)]
        assert len({op.name for op in forward_ops(five, decomposition, work)}) == len(ops)
        for name in ("flops", "hbm_bytes", "kernels", "vector_flops"):
            assert getattr(many.decomposed, name) == sum(getattr(cost, name) for cost in ops), name
        assert many.decomposed.params == few.decomposed.params
        assert many.decomposed.weight_bytes == few.decomposed.weight_bytes
        assert many.decomposed.flops > 4 * few.decomposed.flops
