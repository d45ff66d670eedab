"""What mixes positions without a cache that grows in a layer that words describe: its linears, its other parameters and
its operations, by the kind of block."""

from __future__ import annotations

from costmodel.blocks import DeltaNet, Lightning, LinearUnit, ShortConv
from costmodel.families.delta_layer import add_delta_layer, delta_params, delta_tensors
from costmodel.families.lightning_layer import add_lightning, lightning_params, lightning_tensors
from costmodel.forward.linear_unit import add_linear_unit, unit_params, unit_tensors
from costmodel.forward.ops import Builder
from costmodel.forward.state_space import add_short_conv, add_state_space, recurrent_params, recurrent_tensors
from costmodel.model import ModelSpec
from costmodel.tensors import WeightTensor


def mixer_tensors(spec: ModelSpec) -> tuple[WeightTensor, ...]:
    """The linears in the order of the forward pass; none where a layer has attention alone."""
    block, words = spec.recurrent, spec.words
    assert words is not None
    match block:
        case None:
            return ()
        case DeltaNet():
            return delta_tensors(block, words.mixer, spec.hidden_size)
        case Lightning():
            return lightning_tensors(block, words, spec.hidden_size)
        case LinearUnit():
            return unit_tensors(block, words.mixer, spec.hidden_size)
    return recurrent_tensors(block, words.mixer, spec.hidden_size)


def mixer_params(spec: ModelSpec) -> int:
    """Parameters beside those linears."""
    match block := spec.recurrent:
        case None:
            return 0
        case DeltaNet():
            return delta_params(block)
        case Lightning():
            return lightning_params(block)
        case LinearUnit():
            return unit_params(block)
    return recurrent_params(block)


def add_mixer(b: Builder, normed: str) -> str:
    """Add the operations; the name of the last one.

    Args:
        b: the builder, of a kind of layer with such a block.
        normed: name of the operation that made the layer's normed input.
    """
    block, words = b.model.recurrent, b.model.words
    assert block is not None and words is not None  # noqa: PT018
    if isinstance(block, DeltaNet):
        return add_delta_layer(b, block, words.mixer, normed)
    if isinstance(block, Lightning):
        return add_lightning(b, block, normed)
    tensors = {each.name: each for each in b.model.tensors if each.path.startswith(f"{words.mixer}.")}
    if isinstance(block, LinearUnit):
        return add_linear_unit(b, block, words.mixer, tensors, normed)
    if isinstance(block, ShortConv):
        return add_short_conv(b, block, words.mixer, tensors, normed)
    return add_state_space(b, block, words.mixer, tensors, normed)
