"""Which tables the calibration of each device is fitted from, and what is taken over from other devices."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from costmodel.timing.calibration.shaped import FORMS, FormKind, FormName
from validate.calibration.fit import TRAINING
from validate.calibration.net import Training

FP8: FormName = "gemm:fp8"
LLAMA = "Llama 2 7B"
BF16 = ("attention_prefill_bf16", "attention_decode_bf16")
"""Tables of attention; a prefill table holds some rows of one new token."""
METHOD = "CUDA graph replay, 3 warm-ups, 6 runs, six weight copies per graph, clocks not locked"
COPIES = 6
"""Of the weights in a graph: together they fit the cache, or each is read out of memory."""
VIDUR = {
    "licence": "MIT",
    "dtype": "fp16",
    "method": "medians per operation and token count, fused kernels, resolution 0.5 to 1 us",
}
BRIEF: Mapping[FormKind, int] = {"gemm": 30, "prefill": 80, "decode": 80}
"""Epochs."""
FP8_NOTE = (
    "a linear of fp8 inputs and a bf16 result, its dynamic quantisation of the inputs included: at (n, k) = (512, 4096)"
    " and m = 8192 that takes two and a half times as long as the bf16 linear"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """How a device's file is made.

    Attributes:
        forms: the measurement database's tables of each form, by the end of their names; none where a form is taken
            over.
        share, software: of the database's bf16 tables: how much of their (n, k) is at hand, and what was measured.
        model_ops: another laboratory's table of models' operations on this device, and the models in it.
        stack: another stack's table of the device's GEMMs: the stack, and the end of the table's name.
        streams_of, attention_of: the device whose kernels of that class are taken over.
        cold: only weights that were read out of memory are fitted and judged.
        epochs: of the training of a form's network where they are not those of BRIEF, which takes a tenth or a third
            of the time of TRAINING and errs by 0.2 % more.
        few_points: whether the error table says what a few hundred points would have given.
    """

    forms: Mapping[FormName, tuple[str, ...]]
    share: str = "two thirds"
    software: str = "vLLM 0.24"
    model_ops: tuple[str, str] | None = None
    stack: tuple[str, str] | None = None
    streams_of: str | None = None
    attention_of: str | None = None
    cold: bool = False
    epochs: Mapping[FormName, int] = field(default_factory=dict)
    few_points: bool = False

    def training(self, name: FormName) -> Training:
        """Of a form's network."""
        kind = FORMS[name]
        return replace(TRAINING[kind], epochs=self.epochs.get(name, BRIEF[kind]))

    def provenance(self, name: FormName, points: int) -> dict[str, Any]:
        """Of a form out of the database."""
        fp8 = name == FP8
        share, software = ("two thirds", "vLLM 0.24") if fp8 else (self.share, self.software)
        about = {"dtype": "fp8", "note": FP8_NOTE} if fp8 else {"dtype": "bf16"}
        source = f"NVIDIA aiconfigurator measurement database, {share} of its (n, k) pairs"
        return {
            "points": points,
            "source": source,
            "licence": "Apache-2.0",
            **about,
            "software": software,
            "method": METHOD,
        }


GEMM: Mapping[FormName, tuple[str, ...]] = {"gemm": ("gemm_bf16",), "prefill": BF16, "decode": BF16}
WITH_FP8: Mapping[FormName, tuple[str, ...]] = {**GEMM, FP8: ("gemm_fp8",)}
_FIRST: dict[str, Any] = {
    "share": "three quarters",
    "software": "SGLang 0.5.10 / vLLM 0.24",
    "epochs": {name: TRAINING[FORMS[name]].epochs for name in ("gemm", "prefill", "decode")},
    "few_points": True,
}
_FOUR = "Qwen-72B, InternLM-20B, Phi-2 and CodeLlama-34B"
RECIPES: Mapping[str, Recipe] = {
    "a100-sxm-80gb": Recipe(forms=GEMM, model_ops=("a100-sxm-80gb_llama2-7b_ops_fp16.csv", LLAMA), **_FIRST),
    "h100-sxm-80gb": Recipe(
        forms=WITH_FP8,
        model_ops=("h100_model_ops_fp16.parquet", _FOUR),
        stack=("SGLang 0.5.14", "gemm_bf16_sglang"),
        **_FIRST,
    ),
    "a40": Recipe(
        forms={}, model_ops=("a40_model_ops_fp16.parquet", _FOUR), attention_of="a100-sxm-80gb", epochs={"gemm": 60}
    ),
    "h200-sxm": Recipe(forms=WITH_FP8, streams_of="h100-sxm-80gb"),
    "l40s": Recipe(forms=WITH_FP8, streams_of="a40", cold=True, epochs={"gemm": 100}),
    "b200-sxm": Recipe(forms=WITH_FP8, streams_of="h100-sxm-80gb"),
}
"""In the order in which they are fitted: what a device takes over must be there."""
