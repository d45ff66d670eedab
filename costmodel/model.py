"""A transformer: its layers by kind, their weights, and how many parameters each part has. No costs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from costmodel.errors import DecompositionError, nearest
from costmodel.family import Family
from costmodel.shape import Shape
from costmodel.tensors import WeightTensor, expert_address, split_experts, with_merged_widths


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ModelSpec(Shape):
    """The structure of one model, sizes in elements. Compared and hashed by identity, which makes it a cheap cache key.

    Made by `costmodel.families.load.load_model`, which checks the fields; this class trusts them.
    """

    family: Family[ModelSpec]
    kinds: Mapping[str, ModelSpec] = field(init=False, repr=False)
    """Each kind in the order of the layers, as the model whose layers are all of it; empty where all are alike."""
    tensors: tuple[WeightTensor, ...] = field(init=False, repr=False)
    """The decomposable weights of one layer, in the order of the forward pass; of several kinds those of the first, and
    after them those of the others that no kind before has in the same shape beside the same neighbours. A name comes
    twice where kinds have it in different shapes, or merge it with others."""

    def __post_init__(self) -> None:
        names = dict.fromkeys(self.layer_kinds)
        own = {name: replace(self, layer_kinds=(), kind_fields={}, **self.kind_fields.get(name, {})) for name in names}  # type: ignore[arg-type]
        each = [kind.tensors for kind in own.values()] or [self._own_tensors()]
        object.__setattr__(self, "kinds", own)
        object.__setattr__(self, "tensors", tuple(dict.fromkeys(tensor for tensors in each for tensor in tensors)))

    def _own_tensors(self) -> tuple[WeightTensor, ...]:
        """The weights of a layer where all are alike."""
        tensors = with_merged_widths(split_experts(self.family.tensors(self), self.own_experts))
        if not self.plain_tensors and not self.tensor_forms:
            return tensors
        plain, forms = self.plain_tensors, dict(self.tensor_forms)
        return tuple(replace(each, plain=each.name in plain, form=forms.get(each.name)) for each in tensors)

    def kind_of(self, layer: int) -> ModelSpec:
        """The model whose layers are all as this one; the model itself where they are."""
        return self.kinds[self.layer_kinds[layer]] if self.layer_kinds else self

    @property
    def is_encoder(self) -> bool:
        """Whether attention is bidirectional: no decode phase, no KV cache."""
        return self.bidirectional or not self.family.causal

    @property
    def generates(self) -> bool:
        """Whether it has a decode phase: causal attention, and an LM head behind it."""
        return not self.is_encoder and self.head.kind == "causal_lm"

    @property
    def role(self) -> str:
        """What kind of model it is, in the words of an error: an encoder, a decoder, a decoder without an LM head."""
        if self.is_encoder:
            return "an encoder"
        return "a decoder" if self.generates else "a decoder without an LM head"

    @property
    def variants(self) -> tuple[tuple[ModelSpec, int | None], ...]:
        """For each layer its kind and its sliding window, which make its operations."""
        return tuple((self.kind_of(layer), window) for layer, window in enumerate(self.sliding_windows))

    @property
    def layer_prefix(self) -> str:
        """Module path of the list of layers; layer 3 is `f"{layer_prefix}.3"`."""
        return self.family.layer_path

    @property
    def groups(self) -> dict[str, tuple[str, ...]]:
        """Tensor names by group: `all`, `attn`, `mlp`."""
        groups = ("attn", "mlp")
        members = {group: tuple(dict.fromkeys(t.name for t in self.tensors if t.group == group)) for group in groups}
        return {"all": tuple(dict.fromkeys(t.name for t in self.tensors)), **members}

    def tensor(self, name: str, layer: int | None = None) -> WeightTensor:
        """The decomposable weight called `name`, of one layer or of the first kind of layer that has it.

        Raises:
            DecompositionError: when there is no such tensor; groups are not accepted here.
        """
        kind = self if layer is None else self.kind_of(layer)
        for tensor in kind.tensors:
            if tensor.name == name:
                return tensor
        if (own := kind.one_expert(name)) is not None:
            return own
        names, where = kind.groups["all"], "" if layer is None else f" in layer {layer}"
        raise DecompositionError(
            f"{self.name} has no tensor of that name{where}",
            value=name,
            allowed=", ".join(names),
            hint=nearest(name, names),
        )

    def one_expert(self, name: str) -> WeightTensor | None:
        """The weight of one expert, `experts.3.up_proj`; None where the layers have no such stack or expert."""
        address = expert_address(name)
        for tensor in self.tensors if address else ():
            if address and tensor.name == address[0] and address[1] < tensor.experts and not tensor.members:
                return split_experts((tensor,), (address,))[1]
        return None

    @property
    def norm_params(self) -> int:
        """Parameters of one norm over hidden_size."""
        vectors = 2 if self.family.norm == "layer_norm" and self.norm_bias else 1
        return self.hidden_size * vectors if self.norm_affine else 0

    @property
    def params_per_layer(self) -> int:
        """Parameters of one layer where all are alike: its tensors with biases, its norms and what the family adds."""
        qk_norm = 2 * self.head_dim if self.qk_norm else 0
        norms = self.layer_norms * self.norm_params + qk_norm
        return sum(tensor.params for tensor in self.tensors) + norms + self.family.other_params(self)

    def layer_params(self, layer: int) -> int:
        """Parameters of one layer."""
        return self.kind_of(layer).params_per_layer

    @property
    def outer_params(self) -> dict[str, int]:
        """Parameters outside the layers by part; 0 where the model has no such part, and for a tied LM head."""
        apart = self.embed_dim != self.hidden_size
        projection = self.embed_dim * self.hidden_size if apart else 0
        narrow = self.narrow_embeddings and apart
        width = self.embed_dim if narrow else self.hidden_size
        head_weight = 0 if self.tie_embeddings else self.vocab_size * self.embed_dim
        lm_head = head_weight + (self.vocab_size if self.lm_head_bias else 0)
        return {
            "token_embedding": self.vocab_size * self.embed_dim,
            "position_embedding": self.position_rows * width,
            "token_type_embedding": self.token_types * width,
            "embedding_norm": self.norm_params // self.hidden_size * width if self.embedding_norm else 0,
            "project_in": projection + (self.hidden_size if narrow else 0),
            "final_norm": self.norm_params if self.final_norm else 0,
            "project_out": 0 if narrow else projection,
            "lm_head": lm_head if self.head.kind == "causal_lm" else 0,
            "pooler": self.hidden_size * (self.hidden_size + 1) if self.pooler else 0,
            "head": self.head.params,
            "other": self.other_outer_params,
        }

    @property
    def num_params(self) -> int:
        """Parameters of the class that the configuration names, tied ones once: 6,738,415,616 for llama2-7b,
        109,482,240 for bert-base, which has a pooler and no head."""
        if self.kinds:
            layers = sum(self.layer_params(layer) for layer in range(self.num_layers))
        else:
            layers = self.num_layers * self.params_per_layer
        return layers + sum(self.outer_params.values())
