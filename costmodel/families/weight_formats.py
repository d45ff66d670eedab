"""The formats that libraries write quantised weights in, each from the settings of its method.

GPTQ and AWQ keep 16-bit scales and zero points of the weights' width for each group; bitsandbytes an fp32 scale for
each row (int8) or block of 64 (nf4); fp8 an fp32 scale for each matrix, row or block; MLX, HQQ and quanto's int4 two
16-bit numbers for each group; NVFP4 and MXFP4 an 8-bit scale for 16 and 32 weights; BitNet a scale for each matrix.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace

from costmodel.families.fields import Fields
from costmodel.families.lists import texts
from costmodel.units import DType
from costmodel.weights import WeightFormat

Make = Callable[[Fields], WeightFormat | None]
"""The format of a method's settings, None for weights that it leaves plain in the file; ModelError for settings that
cannot be priced."""
_BITS_TYPES = {2: DType.INT4, 3: DType.INT4, 4: DType.INT4, 8: DType.INT8}


def _grouped(method: str, *, zero: bool) -> Make:
    def make(settings: Fields) -> WeightFormat:
        if settings.flag_or("lm_head", False):
            raise settings.error("lm_head", "false: a quantised LM head beside a plain embedding cannot be priced")
        if settings.text("data_type", "int") != "int":
            return _floating(method, settings)
        bits, asymmetric = _bits(settings, "bits", 4), not settings.flag_or("sym", True)
        zero_bits = bits if zero or settings.flag_or("zero_point", False) or asymmetric else 0
        return WeightFormat(
            method=method,
            dtype=_BITS_TYPES[bits],
            bits=bits,
            group=_group(settings, 128),
            zero_bits=zero_bits,
        )

    return make


def _floating(method: str, settings: Fields) -> WeightFormat:
    """AutoRound's MXFP4, MXFP8 and NVFP4, whose scales have 8 bits."""
    kind = settings.choice("data_type", "", ("mx_fp", "nv_fp"))
    bits = settings.count("bits", 4)
    if bits not in (4, 8) or (kind == "nv_fp" and bits != 4):
        raise settings.error("bits", "4, or 8 of mx_fp")
    group = _group(settings, 32 if kind == "mx_fp" else 16)
    return WeightFormat(
        method=method, dtype=DType.FP8 if bits == 8 else DType.INT4, bits=bits, group=group, scale_bits=8
    )


def _bitsandbytes(settings: Fields) -> WeightFormat:
    eight, four = (
        any([settings.flag_or(name, False) for name in (f"load_in_{bits}bit", f"_load_in_{bits}bit")])
        for bits in (8, 4)
    )
    if four:
        double = settings.flag_or("bnb_4bit_use_double_quant", False)
        return WeightFormat(method="bitsandbytes", dtype=DType.INT4, bits=4, group=64, scale_bits=8 if double else 32)
    if not eight:
        raise settings.error("load_in_8bit", "true, or load_in_4bit true")
    return WeightFormat(method="bitsandbytes", dtype=DType.INT8, bits=8, scale_bits=32)


def _fp8(settings: Fields) -> WeightFormat:
    if not settings.given("weight_block_size"):
        return WeightFormat(method="fp8", dtype=DType.FP8, bits=8, rows=None, scale_bits=32)
    rows, columns = _pair(settings, "weight_block_size")
    return WeightFormat(method="fp8", dtype=DType.FP8, bits=8, rows=rows, group=columns, scale_bits=32)


def _rows_of(method: str, dtype: DType, scale_bits: int) -> Make:
    return lambda settings: WeightFormat(method=method, dtype=dtype, bits=8, scale_bits=scale_bits)


def _four_bits(method: str, group: int) -> Make:
    return lambda settings: WeightFormat(method=method, dtype=DType.INT4, bits=4, group=group, scale_bits=8)


def _mlx(settings: Fields) -> WeightFormat:
    bits, group = settings.count("bits", 4), settings.count("group_size", 64)
    if bits > 8:
        raise settings.error("bits", "a whole number from 1 to 8")
    dtype = DType.INT8 if bits > 4 else DType.INT4
    if settings.choice("mode", "affine", ("affine", "mxfp4", "nvfp4", "mxfp8")) != "affine":
        return WeightFormat(method="mlx", dtype=dtype, bits=bits, group=group, scale_bits=8, embeddings=True)
    return WeightFormat(method="mlx", dtype=dtype, bits=bits, group=group, zero_bits=16, embeddings=True)


def _compressed_tensors(settings: Fields) -> WeightFormat:
    made = _groups(settings)
    return next((form for targets, form in made if _LINEARS in targets), made[0][1])


def formats_by_group(settings: Fields) -> dict[str, WeightFormat | None]:
    """Target of each group of compressed-tensors' settings -> its format, and None for what no group is of; nothing
    where all linears are of one format.

    Raises:
        ModelError: for groups that are not all of one format and whose targets are classes.
    """
    made = _groups(settings)
    whole = {form for targets, form in made if _LINEARS in targets}
    if whole and len({form for _, form in made}) == 1:
        return {}
    found: dict[str, WeightFormat | None] = {target: form for targets, form in made for target in targets}
    found.pop(_LINEARS, None)
    if len(whole) > 1 or any(target.isidentifier() and target[0].isupper() for target in found):
        raise settings.error("config_groups", "groups of one scheme, or one of Linear and others of names of modules")
    return found if whole else {**found, "re:.*": None}


_BYTES = ("uint8", "float8_e4m3fn", "float8_e8m0fnu")
"""Types of scales of 8 bits."""
_SCALE_BITS = {**dict.fromkeys(_BYTES, 8), "float16": 16, "bfloat16": 16, "float32": 32}
"""Of a scale, by the type that compressed-tensors names; 16 where it names none."""
_SPARSE = ("marlin-24", "sparse-bitmask", "sparse-24-bitmask")
"""Formats of compressed-tensors that leave out weights that are 0."""
_MIXED = "mixed-precision"
"""Format of groups that have one each. All others of quantised weights end in `quantized`; the rest hold them plain."""
_LINEARS = "Linear"
"""Target of compressed-tensors that stands for all linears."""


def _groups(settings: Fields) -> list[tuple[list[str], WeightFormat]]:
    """Targets and format of each group."""
    sparse = settings.nested("sparsity_config")
    for where, form in ((settings, settings.text("format")), (sparse, sparse.text("format"))):
        quantised = form in ("", _MIXED) or form.endswith("quantized")
        if form in _SPARSE or (where is settings and not quantised):
            raise where.error("format", "a format of quantised weights, all of which are there")
    groups = settings.nested("config_groups")
    if not groups.data:
        raise settings.error("config_groups", "one group at least")
    each = [groups.nested(name) for name in groups.data]
    return [(texts(group, "targets") or [_LINEARS], _scheme(group)) for group in each]


def _scheme(group: Fields) -> WeightFormat:
    weights = group.nested("weights")
    if not weights.data:
        raise group.error("weights", "an object with num_bits")
    bits, kind = _bits(weights, "num_bits", 8), weights.choice("type", "int", ("int", "float"))
    size = weights.count_or_none("group_size", minimum=-1)
    size = None if size in (None, -1, 0) else size
    strategy = weights.text("strategy") or ("group" if size else "tensor")
    if kind == "float" and bits == 4:
        return WeightFormat(method="compressed-tensors", dtype=DType.INT4, bits=4, group=size or 16, scale_bits=8)
    dtype = DType.FP8 if kind == "float" and bits == 8 else _BITS_TYPES[bits]
    scale = weights.text("scale_dtype").removeprefix("torch.") or "bfloat16"
    if scale not in _SCALE_BITS:
        raise weights.error("scale_dtype", ", ".join(_SCALE_BITS))
    scale_bits = _SCALE_BITS[scale]
    if strategy == "block":
        rows, columns = _pair(weights, "block_structure")
        return WeightFormat(method="compressed-tensors", dtype=dtype, bits=bits, rows=rows, group=columns)
    grouped = strategy in ("group", "tensor_group")
    if strategy not in ("tensor", "channel") and not grouped:
        raise weights.error("strategy", "tensor, channel, group, tensor_group or block")
    if grouped and size is None:
        raise weights.error("group_size", "a whole number above 0")
    return WeightFormat(
        method="compressed-tensors",
        dtype=dtype,
        bits=bits,
        rows=None if strategy == "tensor" else 1,
        group=size if grouped else None,
        scale_bits=scale_bits,
        zero_bits=0 if weights.flag_or("symmetric", True) else bits,
    )


def _modelopt(settings: Fields) -> WeightFormat:
    inner = settings.nested("quantization")
    name = (settings.text("quant_algo") or inner.text("quant_algo")).upper()
    size = settings.count_or_none("group_size", minimum=0) or inner.count_or_none("group_size", minimum=0)
    if name == "FP8":
        return WeightFormat(method="modelopt", dtype=DType.FP8, bits=8, rows=None, scale_bits=32)
    if name == "FP8_PB_WO":
        return WeightFormat(method="modelopt", dtype=DType.FP8, bits=8, rows=128, group=128, scale_bits=32)
    if name == "FP8_PER_CHANNEL_PER_TOKEN":
        return WeightFormat(method="modelopt", dtype=DType.FP8, bits=8, scale_bits=32)
    if name == "MIXED_PRECISION":
        return Counter(formats_by_path(settings).values()).most_common(1)[0][0]
    if "NVFP4" in name:
        return WeightFormat(method="modelopt", dtype=DType.INT4, bits=4, group=size or 16, scale_bits=8)
    if "MXFP4" in name or name == "MXFP8":
        return WeightFormat(
            method="modelopt",
            dtype=DType.FP8 if name == "MXFP8" else DType.INT4,
            bits=8 if name == "MXFP8" else 4,
            group=32,
            scale_bits=8,
        )
    if name in ("W4A16_AWQ", "W4A8_AWQ"):
        return WeightFormat(method="modelopt", dtype=DType.INT4, bits=4, group=size or 128)
    if name in ("W8A16", "W8A8_SQ_PER_CHANNEL"):
        return WeightFormat(method="modelopt", dtype=DType.INT8, bits=8)
    if not name and "config_groups" in settings.data:
        return replace(_compressed_tensors(settings), method="modelopt")
    raise settings.error("quant_algo", "FP8, NVFP4, MXFP4, MXFP8, W4A16_AWQ, W8A16 and their kin")


def formats_by_path(settings: Fields) -> dict[str, WeightFormat]:
    """Module path -> the format that ModelOpt's settings name for it alone, where they do so.

    Raises:
        ModelError: for a format that cannot be priced, or where none is named.
    """
    listed = settings.nested("quantized_layers")
    parts = {path: listed.nested(path) for path in listed.data}
    made = {path: _modelopt(own) for path, own in parts.items() if own.text("quant_algo") != "MIXED_PRECISION"}
    if not made:
        raise settings.error("quantized_layers", "for quant_algo MIXED_PRECISION an object of paths")
    return made


def _hqq(settings: Fields) -> WeightFormat:
    weights = settings.nested("quant_config").nested("weight_quant_params")
    if not weights.data:
        raise settings.error("quant_config", "weight_quant_params for all modules")
    bits = _bits(weights, "nbits", 4)
    for name in ("scale_quant_params", "zero_quant_params"):
        settings.nested("quant_config").refuse(name, "scales and zero points that are quantised, too")
    return WeightFormat(method="hqq", dtype=_BITS_TYPES[bits], bits=bits, group=_group(weights, None), zero_bits=16)


def _quanto(settings: Fields) -> WeightFormat:
    forms = {
        "int8": WeightFormat(method="quanto", dtype=DType.INT8, bits=8),
        "float8": WeightFormat(method="quanto", dtype=DType.FP8, bits=8),
        "int4": WeightFormat(method="quanto", dtype=DType.INT4, bits=4, group=128, zero_bits=16),
    }
    return forms[settings.choice("weights", "", tuple(forms))]


def _torchao(settings: Fields) -> WeightFormat:
    """Its type as a text, or as an object of one for all modules."""
    kind, name = settings, "quant_type"
    sizes = settings.with_data({**settings.data, **settings.nested("quant_type_kwargs").data})
    if not settings.is_text(name):
        kind, name = settings.nested(name), "_type"
        kind = kind.nested("default") if "default" in kind.data else kind
        sizes = kind.nested("_data")
    group = _group(sizes, 128) or 128
    whole = any([settings.flag_or(f"include_{part}", False) for part in ("embedding", "input_output_embeddings")])
    called = kind.text(name).lower().replace("_", "")
    if "int4" in called:
        return WeightFormat(method="torchao", dtype=DType.INT4, bits=4, group=group, zero_bits=16, embeddings=whole)
    if "int8" in called or "float8" in called:
        dtype, scale = (DType.INT8, 16) if "int8" in called else (DType.FP8, 32)
        return WeightFormat(method="torchao", dtype=dtype, bits=8, scale_bits=scale, embeddings=whole)
    raise settings.error("quant_type", "a type of int4, int8 or float8 weights")


def _quark(settings: Fields) -> WeightFormat:
    weights = settings.nested("global_quant_config").nested("weight")
    name = weights.text("dtype")
    bits = next((bits for bits in (4, 8) if f"{bits}" in name.partition("_")[0]), 0)
    if not bits:
        raise weights.error("dtype", "a type of 4 or 8 bits")
    scheme = weights.choice("qscheme", "", ("per_tensor", "per_channel", "per_group"))
    group = _group(weights, 128) if scheme == "per_group" else None
    shared = 8 if name == "fp4" else 32 if name.startswith("fp8") else 16
    dtype = DType.FP8 if name.startswith("fp8") else _BITS_TYPES[bits]
    zero = bits if name.startswith("uint") or not weights.flag_or("symmetric", True) else 0
    rows = None if scheme == "per_tensor" else 1
    return WeightFormat(
        method="quark", dtype=dtype, bits=bits, group=group, rows=rows, scale_bits=shared, zero_bits=zero
    )


def _bitnet(settings: Fields) -> WeightFormat | None:
    """Weights that are quantised in each pass (`online`) are held as they were."""
    if settings.choice_or("quantization_mode", "offline", ("offline", "online")) == "online":
        return None
    return WeightFormat(method="bitnet", dtype=DType.INT4, bits=2, rows=None)


METHODS: dict[str, Make] = {
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
    "modelopt-fp4": _modelopt,
    "mxfp4": _four_bits("mxfp4", 32),
    "mlx": _mlx,
    "hqq": _hqq,
    "quanto": _quanto,
    "torchao": _torchao,
    "quark": _quark,
    "bitnet": _bitnet,
}
"""Method -> what makes the format of its settings."""


def _bits(settings: Fields, name: str, default: int) -> int:
    bits = settings.count(name, default)
    if bits not in _BITS_TYPES:
        raise settings.error(name, "2, 3, 4 or 8")
    return bits


def _group(settings: Fields, default: int | None) -> int | None:
    """Weights that share a scale: 0 and -1 stand for a whole row, null for the default."""
    size = settings.count_or_none("group_size", default, minimum=-1)
    size = default if size is None else size
    return None if size in (-1, 0) else size


def _pair(settings: Fields, name: str) -> tuple[int, int]:
    """Rows and columns of a block."""
    value = settings.data.get(name)
    if isinstance(value, str) and all(part.isdecimal() and len(part) < 8 for part in value.split("x")):
        value = [int(part) for part in value.split("x")]
    sizes = [each for each in value if type(each) is int and 1 <= each <= 1 << 20] if isinstance(value, list) else []
    if isinstance(value, list) and len(sizes) == len(value) == 2:
        return sizes[0], sizes[1]
    raise settings.error(name, "two whole numbers, the rows and columns of a block")
