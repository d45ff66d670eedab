"""Quantised checkpoints: what `quantization_config` and its kin say about the form of the stored weights.

Formats as the libraries that write them document them: GPTQ and AWQ keep 16-bit scales and zero points of the weights'
width for each group; bitsandbytes an fp32 scale for each row (int8) or block of 64 (nf4); fp8 an fp32 scale for each
matrix, row or block; MLX two 16-bit numbers for each group; NVFP4 and MXFP4 an 8-bit scale for 16 and 32 weights.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace

from costmodel.errors import ModelError
from costmodel.families.fields import Fields
from costmodel.model import ModelSpec
from costmodel.units import DType
from costmodel.weights import WeightFormat

KEYS = ("quantization_config", "quantization", "compression_config")
"""Where configurations say that their weights are quantised."""
FACTORED = "low-rank"
"""The method of a folder of `validate apply`, whose config.json is otherwise the dense model's."""
_EXEMPT = ("modules_to_not_convert", "ignore", "exclude_modules", "ignored_layers", "llm_int8_skip_modules")
_BITS_TYPES = {2: DType.INT4, 3: DType.INT4, 4: DType.INT4, 8: DType.INT8}
_WHOLE_NAME = re.compile(r"[\w.*\[\]|()^$?+\\-]+")


def stored_weights(fields: Fields) -> WeightFormat | None:
    """The form of the weights that a configuration declares; None for plain ones.

    Raises:
        ModelError: for a form that cannot be priced, by its name.
    """
    marked = marks(fields.data)
    if marked is None:
        return None
    key, settings = marked
    if not isinstance(settings, Mapping):
        raise fields.error(key, "an object with quant_method")
    method = method_of(key, settings)
    if method == FACTORED:
        return None
    make = _METHODS.get(method)
    if make is None:
        raise ModelError(
            f"{fields.source}: weights quantised by {method or 'an unnamed method'} cannot be priced",
            value=dict(settings),
            allowed=", ".join(_METHODS),
            hint="use the configuration of the original",
        )
    try:
        return make(settings)
    except (KeyError, TypeError, ValueError) as error:
        reason = error.args[0] if error.args else ""
        raise ModelError(
            f"{fields.source}: field {key}: {method} of a kind that cannot be priced",
            value=dict(settings),
            hint=f"{reason}",
        ) from error


def marks(config: Mapping[str, object]) -> tuple[str, object] | None:
    """The key and the settings under which a configuration says that its weights are quantised: of several the first
    that names its method; None where there is none."""
    found = [(key, config[key]) for key in KEYS if config.get(key)]
    named = [(key, each) for key, each in found if isinstance(each, Mapping) and method_of(key, each)]
    return next(iter([*named, *found]), None)


def with_exempt(spec: ModelSpec, fields: Fields) -> ModelSpec:
    """The model with the tensors that the configuration exempts from its format marked as plain; layers of which it
    exempts others are a kind of their own."""
    marked = marks(fields.data)
    settings = marked[1] if marked else {}
    assert isinstance(settings, Mapping)
    entries = [entry for key in _EXEMPT for entry in _strings(settings.get(key))]
    last = {tensor.path.rpartition(".")[2] for tensor in spec.tensors}
    telling = [entry for entry in entries if _may_concern(entry, last)]
    if not telling:
        return spec
    plain = [
        frozenset(
            tensor.name
            for tensor in spec.kind_of(layer).tensors
            if _exempt(f"{spec.layer_prefix}.{layer}.{tensor.path}", telling)
        )
        for layer in range(spec.num_layers)
    ]
    if len(set(plain)) == 1 and not spec.kinds:
        return replace(spec, plain_tensors=plain[0])
    sets = list(dict.fromkeys(plain))
    kinds, own = list[str](), dict[str, dict[str, object]]()
    for layer, names in enumerate(plain):
        before = spec.layer_kinds[layer] if spec.layer_kinds else "layer"
        kind = before if names == sets[0] else f"{before}, plain {sets.index(names)}"
        kinds.append(kind)
        own[kind] = {**spec.kind_fields.get(before, {}), "plain_tensors": names}
    return replace(spec, layer_kinds=tuple(kinds), kind_fields=own)


def method_of(key: str, settings: Mapping[str, object]) -> str:
    """What the settings under a key call their method, in small letters with dashes; empty where they do not say."""
    name = settings.get("quant_method")
    if isinstance(name, str):
        return name.lower().replace("_", "-")
    producer = settings.get("producer")
    if "quant_algo" in settings or (isinstance(producer, Mapping) and producer.get("name") == "modelopt"):
        return "modelopt"
    if key == "quantization" and "bits" in settings:
        return "mlx"
    if key == "compression_config" or "config_groups" in settings:
        return "compressed-tensors"
    if settings.get("load_in_8bit") or settings.get("load_in_4bit"):
        return "bitsandbytes"
    return ""


def _grouped(method: str, *, zero: bool) -> Callable[[Mapping[str, object]], WeightFormat]:
    def make(settings: Mapping[str, object]) -> WeightFormat:
        bits, group = _whole(settings.get("bits", 4)), _whole(settings.get("group_size", 128))
        zero_bits = bits if zero or settings.get("zero_point") or settings.get("sym") is False else 0
        return WeightFormat(
            method=method,
            dtype=_BITS_TYPES[bits],
            bits=bits,
            group=None if group in (-1, 0) else group,
            zero_bits=zero_bits,
        )

    return make


def _bitsandbytes(settings: Mapping[str, object]) -> WeightFormat:
    if settings.get("load_in_4bit") or settings.get("_load_in_4bit"):
        double = bool(settings.get("bnb_4bit_use_double_quant"))
        return WeightFormat(method="bitsandbytes", dtype=DType.INT4, bits=4, group=64, scale_bits=8 if double else 32)
    return WeightFormat(method="bitsandbytes", dtype=DType.INT8, bits=8, scale_bits=32)


def _fp8(settings: Mapping[str, object]) -> WeightFormat:
    block = settings.get("weight_block_size")
    if block is None:
        return WeightFormat(method="fp8", dtype=DType.FP8, bits=8, rows=None, scale_bits=32)
    if not isinstance(block, list) or len(block) != 2:
        raise ValueError("weight_block_size is no pair")
    rows, columns = (_whole(size) for size in block)
    return WeightFormat(method="fp8", dtype=DType.FP8, bits=8, rows=rows, group=columns, scale_bits=32)


def _rows_of(method: str, dtype: DType, scale_bits: int) -> Callable[[Mapping[str, object]], WeightFormat]:
    return lambda settings: WeightFormat(method=method, dtype=dtype, bits=8, scale_bits=scale_bits)


def _four_bits(method: str, group: int) -> Callable[[Mapping[str, object]], WeightFormat]:
    return lambda settings: WeightFormat(method=method, dtype=DType.INT4, bits=4, group=group, scale_bits=8)


def _mlx(settings: Mapping[str, object]) -> WeightFormat:
    if any(isinstance(value, Mapping) for value in settings.values()):
        raise ValueError("modules quantised each in its own way")
    bits, group = _whole(settings.get("bits", 4)), _whole(settings.get("group_size", 64))
    mode = settings.get("mode", "affine")
    if mode not in ("affine", "mxfp4", "nvfp4", "mxfp8"):
        raise ValueError(f"mode {mode}")
    dtype = DType.INT8 if bits > 4 else DType.INT4
    if mode != "affine":
        return WeightFormat(method="mlx", dtype=dtype, bits=bits, group=group, scale_bits=8, embeddings=True)
    return WeightFormat(method="mlx", dtype=dtype, bits=bits, group=group, zero_bits=16, embeddings=True)


def _compressed_tensors(settings: Mapping[str, object]) -> WeightFormat:
    groups = settings.get("config_groups")
    if not isinstance(groups, Mapping) or not groups:
        raise ValueError("no config_groups")
    made = {_scheme(group) for group in groups.values()}
    if len(made) > 1:
        raise ValueError("several schemes")
    return made.pop()


def _scheme(group: object) -> WeightFormat:
    weights = group.get("weights") if isinstance(group, Mapping) else None
    if not isinstance(weights, Mapping):
        raise ValueError("a group without weights")
    bits, kind, size = _whole(weights.get("num_bits", 8)), weights.get("type", "int"), weights.get("group_size")
    strategy = weights.get("strategy") or ("group" if size else "tensor")
    if kind == "float" and bits == 4:
        return WeightFormat(
            method="compressed-tensors", dtype=DType.INT4, bits=4, group=_whole(size or 16), scale_bits=8
        )
    dtype = DType.FP8 if kind == "float" and bits == 8 else _BITS_TYPES[bits]
    block = weights.get("block_structure")
    if strategy == "block":
        if not isinstance(block, list):
            raise ValueError("a block without its structure")
        rows, columns = (_whole(one) for one in block)
        return WeightFormat(method="compressed-tensors", dtype=dtype, bits=bits, rows=rows, group=columns)
    if strategy not in ("tensor", "channel", "group", "tensor_group"):
        raise ValueError(f"strategy {strategy}")
    return WeightFormat(
        method="compressed-tensors",
        dtype=dtype,
        bits=bits,
        rows=None if strategy == "tensor" else 1,
        group=_whole(size) if "group" in str(strategy) else None,
        zero_bits=0 if weights.get("symmetric", True) else bits,
    )


def _modelopt(settings: Mapping[str, object]) -> WeightFormat:
    inner = settings.get("quantization")
    algorithm = str(settings.get("quant_algo") or (inner.get("quant_algo") if isinstance(inner, Mapping) else ""))
    size = settings.get("group_size") or (inner.get("group_size") if isinstance(inner, Mapping) else None)
    name = algorithm.upper()
    if name == "FP8":
        return WeightFormat(method="modelopt", dtype=DType.FP8, bits=8, rows=None, scale_bits=32)
    if name in ("FP8_PER_CHANNEL_PER_TOKEN", "FP8_PB_WO"):
        return WeightFormat(method="modelopt", dtype=DType.FP8, bits=8, scale_bits=32)
    if name.startswith("NVFP4"):
        return WeightFormat(method="modelopt", dtype=DType.INT4, bits=4, group=_whole(size or 16), scale_bits=8)
    if name in ("W4A16_AWQ", "W4A8_AWQ"):
        return WeightFormat(method="modelopt", dtype=DType.INT4, bits=4, group=_whole(size or 128))
    if name in ("W8A16", "W8A8_SQ_PER_CHANNEL"):
        return WeightFormat(method="modelopt", dtype=DType.INT8, bits=8)
    if not name and "config_groups" in settings:
        return replace(_compressed_tensors(settings), method="modelopt")
    raise ValueError(f"quant_algo {algorithm or 'missing'}")


_METHODS: dict[str, Callable[[Mapping[str, object]], WeightFormat]] = {
    "gptq": _grouped("gptq", zero=True),
    "awq": _grouped("awq", zero=False),
    "auto-round": _grouped("auto-round", zero=True),
    "intel/auto-round": _grouped("auto-round", zero=True),
    "bitsandbytes": _bitsandbytes,
    "eetq": _rows_of("eetq", DType.INT8, 16),
    "fp8": _fp8,
    "fbgemm-fp8": _rows_of("fbgemm-fp8", DType.FP8, 32),
    "compressed-tensors": _compressed_tensors,
    "modelopt": _modelopt,
    "mxfp4": _four_bits("mxfp4", 32),
    "mlx": _mlx,
}


def _whole(value: object) -> int:
    if type(value) is not int or not -1 <= value <= 1 << 20:
        raise ValueError(f"a size of {value!r}")
    return value


def _strings(value: object) -> list[str]:
    return [entry for entry in value if isinstance(entry, str)] if isinstance(value, list) else []


def _may_concern(entry: str, last: set[str]) -> bool:
    """Whether an exemption could name a linear of a layer: it does not name what lies outside, a norm or a tower."""
    bare = entry.removeprefix("re:")
    if re.search(r"lm_head|embed|norm|vision|visual|tower|projector|router|mlp\.gate$|shared_expert_gate", bare):
        return False
    return bool(_WHOLE_NAME.fullmatch(bare)) and (
        "layers" in bare or ".h." in bare or any(name in bare for name in last) or "attn" in bare or "mlp" in bare
    )


def _exempt(path: str, entries: list[str]) -> bool:
    for entry in entries:
        if entry.startswith("re:"):
            try:
                if re.match(entry[3:], path):
                    return True
            except re.error:
                continue
        elif "*" in entry:
            if re.fullmatch(re.escape(entry).replace(r"\*", ".*"), path):
                return True
        elif re.search(rf"(^|\.){re.escape(entry)}(\.|$)", path):
            return True
    return False
