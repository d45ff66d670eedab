"""The row of a model family: all that the project knows of an architecture, in one record."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from costmodel.families.fields import Fields
from costmodel.families.heads import DECODER_HEADS, Heads, MakeHead
from costmodel.family import NormKind
from costmodel.forward.frame import Start
from costmodel.forward.ops import Builder
from costmodel.model import ModelSpec
from costmodel.tensors import WeightTensor


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FamilyRow:
    """Models whose layers do the same operations under the same names.

    To add a family, write one file in this folder and add a line to `FAMILIES` in `costmodel.families.registry`;
    reading, pricing, exploring, building, factoring, loading and every list of what is supported follow. In the file:

    1. `read` turns a config.json into a ModelSpec, with the defaults of transformers' configuration class for absent
       fields. Refuse what the row does not price (`fields.refuse`, `fields.choice`) rather than price another model.
    2. `tensors` names the linears of a layer that can be factored, in the order of the forward pass, with their module
       paths: `validate` exchanges the modules at those paths.
    3. `positions`, `prologue`, `layer` and `epilogue` add operations to a builder, in the order in which the modules
       run them. `holds` of an operation are results that it does not read but that a Python frame keeps alive.
    4. Layers of different shapes are kinds: `read` sets `layer_kinds`, the name of each layer's kind, and
       `kind_fields`, where a kind's sizes differ from the model's. `tensors`, `other_params` and `layer` are then
       called with each kind as a model of its own, all of whose layers are alike (`b.model` is the kind).
    5. `verified` says that a test compares kernels and live bytes, too, with the real modules.

    `costmodel/families/gpt2.py` is the shortest one to start from. Parameters of what is outside the layers follow from
    the spec (`ModelSpec.outer_params`).
    """

    name: str
    """Name of the family, unique."""
    classes: Mapping[str, str]
    """Hugging Face's `model_type` of each model it reads -> how the names of transformers' classes begin."""
    read: Callable[[Fields, FamilyRow], ModelSpec]
    """The model of a configuration; ModelError for fields that are missing, out of bounds or at odds."""
    tensors: Callable[[ModelSpec], tuple[WeightTensor, ...]]
    """The decomposable weights of one layer, all alike; of models with several kinds of layers it is asked for each."""
    other_params: Callable[[ModelSpec], int] = lambda spec: 0
    """Parameters of one layer that are neither a tensor's nor those of a norm over hidden_size or of q and k: a router,
    a convolution. Asked for each kind of layer."""
    heads: Heads = field(default_factory=lambda: DECODER_HEADS)
    """End of a class's name, after what `classes` says -> the head of that class."""
    own_heads: Heads = field(default_factory=dict)
    """Whole name of a class that one model_type alone has -> its head."""
    aliases: Mapping[str, str] = field(default_factory=dict)
    """Generic name of a configuration's field -> the name native to this family's class, where there is one."""

    layer_path: str
    """Module path of the list of layers, in the model with its LM head; of an encoder in the model without a head."""
    causal: bool = True
    """Whether a token sees those before it alone, its keys and values are cached, and an LM head follows; else an
    encoder."""
    norm: NormKind
    """Kind of the norms over hidden_size."""
    verified: bool = False
    """Whether a test compares kernels and live bytes with the real modules; else they follow from the topology."""

    upcasts_softmax: bool = False
    """Whether unfused attention takes the softmax in fp32 and casts back."""
    strided_heads: bool = False
    """Whether query, key and value are views of one product, so that batch and heads of a single query too are no
    single dimension of its memory."""

    positions: Callable[[Builder], None]
    """Adds what numbers the positions; masks follow by themselves."""
    prologue: Callable[[Builder], Start]
    """Adds the embeddings and all else before the first layer."""
    layer: Callable[[Builder, int | None], None]
    """Adds one dense layer of the kind `b.model` with this sliding window; its input is INPUT, its last operation the
    output."""
    epilogue: Callable[[Builder], None]
    """Adds what follows the last layer, whose output is INPUT: the final norm, the LM head, a pooler."""

    def heads_of(self, model_type: str) -> dict[str, MakeHead]:
        """Whole name of each class of a model_type -> its head."""
        prefix = self.classes[model_type]
        own = {name: make for name, make in self.own_heads.items() if name.startswith(prefix)}
        return {**{prefix + end: make for end, make in self.heads.items()}, **own}
