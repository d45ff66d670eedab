"""quantization_config as libraries write it: bytes of a matrix by hand, with scales and zero points, or a refusal."""

from __future__ import annotations

from typing import Any

import pytest

from costmodel.errors import ModelError
from costmodel.families.registry import spec_from_config
from costmodel.model import ModelSpec

N = K = 512
WHOLE = N * K
SMALL: dict[str, Any] = {
    "model_type": "llama",
    "hidden_size": K,
    "intermediate_size": 1024,
    "num_hidden_layers": 2,
    "num_attention_heads": 8,
    "vocab_size": 100,
}


def read(**settings: Any) -> ModelSpec:
    return spec_from_config({**SMALL, "quantization_config": settings}, name="test", source="test")


def group(**weights: Any) -> dict[str, Any]:
    return {"group_0": {"targets": ["Linear"], "weights": {"num_bits": 8, "symmetric": True, **weights}}}


def torchao(name: str, **data: Any) -> dict[str, Any]:
    return {"quant_method": "torchao", "quant_type": {"default": {"_type": name, "_version": 1, "_data": data}}}


COMPRESSED = {"quant_method": "compressed-tensors", "ignore": ["lm_head"]}
GROUPS = {size: WHOLE // size for size in (16, 32, 64, 128)}
BYTES: list[tuple[str, dict[str, Any], int]] = [
    ("awq", {"quant_method": "awq", "bits": 4, "group_size": 128, "zero_point": True, "version": "gemm"},
     WHOLE // 2 + GROUPS[128] * (16 + 4) // 8),
    ("gptq", {"quant_method": "gptq", "bits": 4, "group_size": 32, "sym": True, "desc_act": True, "lm_head": False},
     WHOLE // 2 + GROUPS[32] * (16 + 4) // 8),
    ("gptq by row", {"quant_method": "gptq", "bits": 8, "group_size": -1}, WHOLE + N * (16 + 8) // 8),
    ("nf4", {"quant_method": "bitsandbytes", "load_in_4bit": True, "bnb_4bit_quant_type": "nf4"},
     WHOLE // 2 + GROUPS[64] * 4),
    ("int8", {"quant_method": "bitsandbytes", "load_in_8bit": True}, WHOLE + N * 4),
    ("block fp8", {"quant_method": "fp8", "weight_block_size": [128, 128]}, WHOLE + 16 * 4),
    ("block as text", {**COMPRESSED, "config_groups": group(type="float", strategy="block", block_structure="128x128")},
     WHOLE + 16 * 2),
    ("w4a16", {**COMPRESSED, "format": "pack-quantized",
               "config_groups": group(num_bits=4, strategy="group", group_size=128)}, WHOLE // 2 + GROUPS[128] * 2),
    ("mxfp8", {**COMPRESSED, "format": "mxfp8-quantized",
               "config_groups": group(type="float", strategy="group", group_size=32, scale_dtype="torch.uint8")},
     WHOLE + GROUPS[32]),
    ("nvfp4", {**COMPRESSED, "config_groups": group(num_bits=4, type="float", strategy="tensor_group", group_size=16)},
     WHOLE // 2 + GROUPS[16]),
    ("modelopt nvfp4", {"quant_method": "modelopt_fp4", "quant_algo": "NVFP4"}, WHOLE // 2 + GROUPS[16]),
    ("modelopt blocks", {"quant_method": "modelopt", "quant_algo": "FP8_PB_WO"}, WHOLE + 16 * 4),
    ("torchao by text", {"quant_method": "torchao", "quant_type": "int4_weight_only",
                         "quant_type_kwargs": {"group_size": 32}}, WHOLE // 2 + GROUPS[32] * 4),
    ("torchao object", torchao("Int4WeightOnlyConfig", group_size=64), WHOLE // 2 + GROUPS[64] * 4),
    ("hqq", {"quant_method": "hqq", "quant_config": {"weight_quant_params": {"nbits": 4, "group_size": 64}}},
     WHOLE // 2 + GROUPS[64] * 4),
    ("quanto", {"quant_method": "quanto", "weights": "int8"}, WHOLE + N * 2),
    ("eetq", {"quant_method": "eetq", "weights": "int8"}, WHOLE + N * 2),
    ("bitnet", {"quant_method": "bitnet", "linear_class": "autobitlinear", "quantization_mode": "offline"},
     WHOLE // 4 + 2),
    ("auto-round mxfp4", {"quant_method": "auto-round", "bits": 4, "group_size": 32, "data_type": "mx_fp"},
     WHOLE // 2 + GROUPS[32]),
    ("auto-round nvfp4", {"quant_method": "auto-round", "bits": 4, "group_size": 16, "data_type": "nv_fp"},
     WHOLE // 2 + GROUPS[16]),
    ("quark mxfp4", {"quant_method": "quark", "global_quant_config":
                     {"weight": {"dtype": "fp4", "qscheme": "per_group", "group_size": 32}}}, WHOLE // 2 + GROUPS[32]),
]  # fmt: skip


@pytest.mark.parametrize(("settings", "expected"), [case[1:] for case in BYTES], ids=[case[0] for case in BYTES])
def test_a_matrix_has_the_bytes_that_its_library_writes(settings: dict[str, Any], expected: int) -> None:
    spec = read(**settings)
    assert spec.weights is not None
    assert spec.weights.matrix_bytes(N, K) == expected


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"quant_method": "gptq", "bits": 4, "lm_head": True}, "lm_head: got True"),
    ({"quant_method": "auto-round", "bits": 4, "extra_config": {"lm_head": {"bits": 4}}}, r"extra_config\.lm_head"),
    ({"quant_method": "auto-round", "bits": 8, "data_type": "nv_fp"}, "bits: got 8"),
    ({"quant_method": "auto-round", "bits": 4, "data_type": "fp"}, "data_type: got 'fp'"),
    ({**COMPRESSED, "format": "marlin-24", "config_groups": group(num_bits=4)}, "format: got 'marlin-24'"),
    ({**COMPRESSED, "config_groups": group(), "sparsity_config": {"format": "sparse-24-bitmask"}}, "sparsity_config"),
    ({**COMPRESSED, "format": "dense", "config_groups": group()}, "format: got 'dense'"),
    ({"quant_method": "hqq", "quant_config": {"weight_quant_params": {"nbits": 4, "group_size": 64},
                                              "scale_quant_params": {"nbits": 8}}}, "scale_quant_params"),
    ({**COMPRESSED, "config_groups": group(strategy="block", block_structure="128x")}, "block_structure"),
    *(({"quant_method": name}, f"quantised by {name} cannot be priced")
      for name in ("aqlm", "vptq", "spqr", "higgs", "exl2", "exl3", "gguf")),
]  # fmt: skip


@pytest.mark.parametrize(("settings", "words"), REFUSED, ids=[words for _, words in REFUSED])
def test_what_cannot_be_priced_is_refused_by_name_in_one_line(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ModelError, match=words) as refused:
        read(**settings)
    assert "\n" not in str(refused.value)


def test_weights_that_are_quantised_in_each_pass_are_plain_in_the_file() -> None:
    spec = read(quant_method="bitnet", linear_class="autobitlinear", quantization_mode="online")
    assert spec.weights is None


def test_embeddings_are_quantised_where_torchao_says_so() -> None:
    made = torchao("Int8DynamicActivationInt4WeightConfig", group_size=32)
    assert [
        read(**made, include_input_output_embeddings=whole).weights.embeddings  # type: ignore[union-attr]
        for whole in (False, True)
    ] == [False, True]


def test_modules_that_modelopt_names_in_its_own_object_are_plain() -> None:
    inner = {"quant_algo": "NVFP4", "exclude_modules": ["lm_head", "model.layers.0.mlp*"]}
    spec = read(quant_method="modelopt", quantization=inner)
    plain = [{tensor.name for tensor in spec.kind_of(layer).tensors if tensor.plain} for layer in range(2)]
    assert plain == [{"gate_proj", "up_proj", "down_proj"}, set()]
