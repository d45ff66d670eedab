"""The formats that libraries write quantised weights in, each from the settings of its method.

GPTQ and AWQ keep 16-bit scales and zero points of the weights' width for each group; bitsandbytes an fp32 scale for
each row (int8) or block of 64 (nf4); fp8 an fp32 scale for each matrix, row or block; MLX, HQQ and quanto's int4 two
16-bit numbers for each group; NVFP4 and MXFP4 an 8-bit scale for 16 and 32 weights; BitNet a scale for each matrix.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace

from costmodel.units import DType
from costmodel.weights import WeightFormat

_BITS_TYPES = {2: DType.INT4, 3: DType.INT4, 4: DType.INT4, 8: DType.INT8}


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
    if name == "MIXED_PRECISION":
        return Counter(formats_by_path(settings).values()).most_common(1)[0][0]
    if "NVFP4" in name:
        return WeightFormat(method="modelopt", dtype=DType.INT4, bits=4, group=_whole(size or 16), scale_bits=8)
    if "MXFP4" in name or name == "MXFP8":
        return WeightFormat(
            method="modelopt",
            dtype=DType.FP8 if name == "MXFP8" else DType.INT4,
            bits=8 if name == "MXFP8" else 4,
            group=32,
            scale_bits=8,
        )
    if name in ("W4A16_AWQ", "W4A8_AWQ"):
        return WeightFormat(method="modelopt", dtype=DType.INT4, bits=4, group=_whole(size or 128))
    if name in ("W8A16", "W8A8_SQ_PER_CHANNEL"):
        return WeightFormat(method="modelopt", dtype=DType.INT8, bits=8)
    if not name and "config_groups" in settings:
        return replace(_compressed_tensors(settings), method="modelopt")
    raise ValueError(f"quant_algo {algorithm or 'missing'}")


def formats_by_path(settings: Mapping[str, object]) -> dict[str, WeightFormat]:
    """Module path -> the format that ModelOpt's settings name for it alone, where they do so.

    Raises:
        ValueError: for a format that cannot be priced, or where none is named.
    """
    given = settings.get("quantized_layers")
    made = {
        path: _modelopt(own)
        for path, own in (given.items() if isinstance(given, Mapping) else ())
        if isinstance(own, Mapping) and own.get("quant_algo") != "MIXED_PRECISION"
    }
    if not made:
        raise ValueError("quant_algo MIXED_PRECISION without quantized_layers")
    return made


def _hqq(settings: Mapping[str, object]) -> WeightFormat:
    config = settings.get("quant_config")
    weights = config.get("weight_quant_params") if isinstance(config, Mapping) else None
    if not isinstance(weights, Mapping):
        raise ValueError("no weight_quant_params for all modules")
    bits, group = _whole(weights.get("nbits", 4)), _whole(weights.get("group_size") or -1)
    return WeightFormat(
        method="hqq", dtype=_BITS_TYPES[bits], bits=bits, group=None if group == -1 else group, zero_bits=16
    )


def _quanto(settings: Mapping[str, object]) -> WeightFormat:
    forms = {
        "int8": WeightFormat(method="quanto", dtype=DType.INT8, bits=8),
        "float8": WeightFormat(method="quanto", dtype=DType.FP8, bits=8),
        "int4": WeightFormat(method="quanto", dtype=DType.INT4, bits=4, group=128, zero_bits=16),
    }
    if settings.get("weights") not in forms:
        raise ValueError(f"weights {settings.get('weights')}")
    return forms[str(settings["weights"])]


def _torchao(settings: Mapping[str, object]) -> WeightFormat:
    given = settings.get("quant_type")
    default = given.get("default", given) if isinstance(given, Mapping) else {}
    name = str(default.get("_type", given) if isinstance(default, Mapping) else given).lower().replace("_", "")
    data = default.get("_data") if isinstance(default, Mapping) else None
    group = _whole((data.get("group_size") if isinstance(data, Mapping) else settings.get("group_size")) or 128)
    if "int4" in name:
        return WeightFormat(method="torchao", dtype=DType.INT4, bits=4, group=group, zero_bits=16)
    if "int8" in name or "float8" in name:
        dtype = DType.INT8 if "int8" in name else DType.FP8
        return WeightFormat(method="torchao", dtype=dtype, bits=8, scale_bits=32 if dtype is DType.FP8 else 16)
    raise ValueError(f"quant_type {name}")


def _quark(settings: Mapping[str, object]) -> WeightFormat:
    config = settings.get("global_quant_config")
    weights = config.get("weight") if isinstance(config, Mapping) else None
    if not isinstance(weights, Mapping):
        raise ValueError("no weight in global_quant_config")
    name, scheme = str(weights.get("dtype")), weights.get("qscheme")
    bits = next((bits for bits in (4, 8) if f"{bits}" in name.partition("_")[0]), 0)
    if not bits or scheme not in ("per_tensor", "per_channel", "per_group"):
        raise ValueError(f"{name} {scheme}")
    group = _whole(weights.get("group_size") or 128) if scheme == "per_group" else None
    shared = 8 if name == "fp4" else 32 if name.startswith("fp8") else 16
    dtype = DType.FP8 if name.startswith("fp8") else _BITS_TYPES[bits]
    zero = bits if name.startswith("uint") or weights.get("symmetric") is False else 0
    rows = None if scheme == "per_tensor" else 1
    return WeightFormat(
        method="quark", dtype=dtype, bits=bits, group=group, rows=rows, scale_bits=shared, zero_bits=zero
    )


METHODS: dict[str, Callable[[Mapping[str, object]], WeightFormat]] = {
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
    "hqq": _hqq,
    "quanto": _quanto,
    "torchao": _torchao,
    "quark": _quark,
    "bitnet": lambda settings: WeightFormat(method="bitnet", dtype=DType.INT4, bits=2, rows=None),
}


def _whole(value: object) -> int:
    if type(value) is not int or not -1 <= value <= 1 << 20:
        raise ValueError(f"a size of {value!r}")
    return value


"""Method -> the format of its settings; ValueError, KeyError or TypeError for settings that cannot be priced."""
