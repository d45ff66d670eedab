"""A model cut into stages, one behind the other on devices of their own, and what one sends to the next.

The embeddings and all before the first layer are on the first stage, all behind the last layer on the last one, which
holds a copy of a token table that its head shares. Layers that do not come out even go, one each, to the stages before
the last, from the back, since the last has the head (as vLLM deals them out).
"""

from __future__ import annotations

from costmodel.errors import InputError
from costmodel.forward.cost import OpCost
from costmodel.forward.ops import Op
from costmodel.forward.workload import Workload
from costmodel.model import ModelSpec

FIRST_PARTS = (
    "token_embedding",
    "position_embedding",
    "token_type_embedding",
    "embedding_norm",
    "project_in",
)
"""Parts of `ModelSpec.outer_params` that the first stage holds; the last one has all others."""


def stage_layers(num_layers: int, pp: int) -> tuple[range, ...]:
    """The layers of each of `pp` stages: 8, 8, 8, 8 of 32 on four, and 6, 6, 7, 7, 6 on five."""
    sizes = [num_layers // pp] * pp
    for place in range(num_layers % pp):
        sizes[-2 - place] += 1
    ends = [sum(sizes[: place + 1]) for place in range(pp)]
    return tuple(range(end - size, end) for end, size in zip(ends, sizes, strict=True))


def require_stages(model: ModelSpec, pp: int) -> None:
    """Raise InputError unless the model can be cut into so many stages."""
    if pp > model.num_layers:
        raise InputError(
            f"--pp makes more stages than {model.name} has layers", value=pp, allowed=f"at most {model.num_layers}"
        )
    if pp > 1 and (model.loops > 1 or model.altup is not None or model.layer_inputs):
        raise InputError(
            f"{model.name} has layers that share weights or inputs, which are not cut into stages",
            value=f"--pp {pp}",
            allowed="1",
        )


def send(model: ModelSpec, work: Workload, source: str) -> Op:
    """The hidden states that a stage sends to the next, named after the operation that made them."""
    size = work.tokens * model.hidden_size * work.act_bytes
    cost = OpCost(message_bytes=size, kernels=1)
    return Op(name=f"{source}.send", kind="send", cost=cost, out_bytes=size, inputs=(source,))
