"""A transformers model of any ModelSpec on a device: random weights made in place, or real ones from a folder."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import nn

from costmodel.errors import InputError
from costmodel.families.quantised import KEYS as QUANTISED_KEYS
from costmodel.forward.workload import Attention, ExpertKernels
from costmodel.model import ModelSpec
from costmodel.units import DType
from validate.errors import MeasurementError, reason_of
from validate.hf.modules import EmptyOnMeta
from validate.models.reading import read_model, require_own_weights
from validate.models.refusing import made_of_config

if TYPE_CHECKING:
    from transformers import PreTrainedModel

TORCH_DTYPES = {
    DType.FP32: torch.float32,
    DType.TF32: torch.float32,
    DType.FP16: torch.float16,
    DType.BF16: torch.bfloat16,
}
ATTENTION = {Attention.FUSED: "sdpa", Attention.UNFUSED: "eager"}
"""transformers' name of each form of attention."""
EXPERTS = {ExpertKernels.FUSED: "grouped_mm", ExpertKernels.LOOPED: "eager"}
"""transformers' name of each way to run experts."""
_POOL = 1 << 20
_STRIDE = 7919
"""Values of the pool between the beginnings of two matrices; odd, so that the first 2^20 begin at different ones."""
_DEVIATION = 0.02


def build_model(
    config: Mapping[str, Any],
    spec: ModelSpec,
    *,
    dtype: DType,
    device: torch.device,
    seed: int = 0,
    weights: Path | None = None,
) -> nn.Module:
    """The model in evaluation mode, without gradients, with fused attention; `set_attention` changes that.

    Args:
        config: the decoded config.json that `spec` was made from.
        spec: the structure; its num_layers wins over the configuration's.
        dtype: of the weights.
        device: where they go; each is made there, so host memory does not limit the size.
        seed: of random weights.
        weights: a folder with plain safetensors to read instead of random weights.

    Raises:
        MeasurementError: when memory does not suffice.
        ModelError: when the weights cannot be read, or are not those of the model.
    """
    import transformers

    plain = {name: value for name, value in config.items() if name not in QUANTISED_KEYS}
    with made_of_config(spec.name):
        settings = transformers.CONFIG_MAPPING[spec.model_type].from_dict({**plain, **_layer_fields(config, spec)})
    auto: Any = transformers.AutoModel if spec.is_encoder else transformers.AutoModelForCausalLM
    try:
        if weights is None:
            with made_of_config(spec.name), EmptyOnMeta():
                model = auto.from_config(
                    settings, dtype=TORCH_DTYPES[dtype], attn_implementation=_implementation(auto, settings)
                )
            _materialise(model, device, TORCH_DTYPES[dtype], seed)
        else:
            require_own_weights(spec, config)
            # A masked LM is stored without the pooler that its encoder has: not factored, any values do for time.
            model = read_model(
                auto,
                weights,
                dtype=TORCH_DTYPES[dtype],
                config=settings,
                may_lack=("pooler.",),
                may_leave=partial(_is_beside, spec),
            ).to(device)
    except (torch.OutOfMemoryError, MemoryError) as error:
        raise MeasurementError("out-of-memory", f"{spec.name} does not fit: {reason_of(error)}") from error
    built: Any = model.eval().requires_grad_(False)
    if not spec.is_encoder:
        # as a loaded model has it: torch makes one product of the last positions of several sequences only for a weight
        # that may want a gradient, else one product for each, which reads the whole head again
        built.get_output_embeddings().weight.requires_grad_()
    made: nn.Module = built
    return made


def _implementation(auto: Any, settings: Any) -> str:
    """Fused attention, or the separate kernels where transformers' class has no other."""
    kind = auto._model_mapping[type(settings)]
    return ATTENTION[Attention.FUSED if getattr(kind, "_supports_sdpa", True) else Attention.UNFUSED]


def require_attention(spec: ModelSpec, attention: Attention) -> None:
    """Make sure that transformers' class has a form of attention.

    Raises:
        InputError: when it has not.
    """
    import transformers

    auto: Any = transformers.AutoModel if spec.is_encoder else transformers.AutoModelForCausalLM
    kind: Any = transformers.CONFIG_MAPPING[spec.model_type]
    if attention is Attention.FUSED and not getattr(auto._model_mapping.get(kind, None), "_supports_sdpa", True):
        hint = "transformers has its attention in separate kernels alone"
        raise InputError("--attention", value=attention.value, allowed=Attention.UNFUSED.value, hint=hint)


def set_attention(model: nn.Module, attention: Attention) -> None:
    """Choose the form of attention that the next pass uses."""
    cast("PreTrainedModel", model).set_attn_implementation(ATTENTION[attention])


def set_experts(model: nn.Module, implementation: str) -> None:
    """Choose how the next pass runs stacked experts, by transformers' name; factored ones run one after the other."""
    cast("PreTrainedModel", model).set_experts_implementation(implementation)


def _is_beside(spec: ModelSpec, name: str) -> bool:
    """Whether a stored weight is no part of what is measured: an encoder's head, a layer beyond `spec.num_layers`."""
    number = f".{name}".partition(f".{spec.layer_prefix.rpartition('.')[2]}.")[2].partition(".")[0]
    return spec.is_encoder or (number.isdecimal() and int(number) >= spec.num_layers)


def _layer_fields(config: Mapping[str, Any], spec: ModelSpec) -> dict[str, Any]:
    """The configuration's fields that depend on the number of layers."""
    generic = "num_hidden_layers"
    names = (generic, spec.family.aliases.get(generic, generic))
    fields: dict[str, Any] = {name: spec.num_layers for name in names if name in config}
    if isinstance(config.get("layer_types"), list):
        fields["layer_types"] = config["layer_types"][: spec.num_layers]
    return fields


def _materialise(model: nn.Module, device: torch.device, dtype: torch.dtype, seed: int) -> None:
    """Give every parameter memory and a value, tied ones once: biases 0, norms 1, matrices repeating a pool."""
    matrices = RandomMatrices(seed, device, dtype)
    made: dict[int, nn.Parameter] = {}
    for module in model.modules():
        for name, parameter in module._parameters.items():
            if parameter is None:
                continue
            if id(parameter) not in made:
                made[id(parameter)] = nn.Parameter(matrices(parameter.shape, len(made), name), requires_grad=False)
            module._parameters[name] = made[id(parameter)]
        for name, buffer in module._buffers.items():
            if buffer is not None:
                module._buffers[name] = buffer.to(device)


class RandomMatrices:
    """Random weights by shape and place: normal, repeating a pool of 2^20 values, since drawing billions takes minutes
    and times do not depend on them; vectors are constants.

    Every matrix begins elsewhere in the pool: of equal ones ONNX Runtime packs one copy, which caches then hold.
    """

    def __init__(self, seed: int, device: torch.device, dtype: torch.dtype) -> None:
        generator = torch.Generator().manual_seed(seed)
        pool = (torch.randn(_POOL, generator=generator) * _DEVIATION).to(device=device, dtype=dtype)
        self._twice = torch.cat([pool, pool])

    def __call__(self, shape: torch.Size, place: int, name: str = "weight") -> torch.Tensor:
        """The weight of this shape that is at this place among the model's parameters; equal for equal arguments."""
        start = place * _STRIDE % _POOL
        pool = self._twice[start : start + _POOL]
        if len(shape) < 2:
            return torch.full(shape, 0.0 if name == "bias" else 1.0, device=pool.device, dtype=pool.dtype)
        tensor = torch.empty(shape, device=pool.device, dtype=pool.dtype)
        flat = tensor.view(-1)
        whole = flat.numel() // _POOL * _POOL
        flat[:whole].view(-1, _POOL).copy_(pool)
        flat[whole:].copy_(pool[: flat.numel() - whole])
        return tensor
