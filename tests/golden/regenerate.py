"""Estimates whose every number is kept beside this file, so that a refactor can prove that it changed none.

Fifty stand on the datasheet roofline (estimates.json), others on the shipped calibrations (calibrated.json) and on what
is known of a device's generation (generation.json).

Run `python tests/golden/regenerate.py` after a change of the model on purpose; the diff of the files is their effect.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from costmodel.decomposition.factors import Decomposition
from costmodel.decomposition.text import parse_decomposition
from costmodel.families.load import load_model
from costmodel.forward.workload import Attention, LmHead, Runtime, Workload
from costmodel.hardware.profile import load_hardware
from costmodel.pricing.estimate import estimate
from costmodel.timing.calibration.load import find_calibration
from costmodel.units import DType

PATH = Path(__file__).with_name("estimates.json")
CALIBRATED_PATH = Path(__file__).with_name("calibrated.json")
GENERATION_PATH = Path(__file__).with_name("generation.json")

POINT = "layers=2,17,31 tensors=all rank=1 form=tucker"
MIXED = ("rank=30%", "layers=1-9:4 tensors=attn rank=12.5% form=tucker", "layers=3 form=dense")
CASES: list[tuple[str, str, tuple[str, ...], dict[str, Any]]] = [
    # The paper's ten layer sets, Tucker rank 1, and its device.
    *(
        ("llama2-7b", "a100-sxm-80gb", (f"layers={layers} rank=1 form=tucker",), {})
        for layers in (
            "2,29",
            "2,17,31",
            "2-26:6",
            "4-28:4",
            "2-29:3,31",
            "0-30:2",
            "1-9:2,10-18,20-30:2",
            "1-9:2,10-29",
            "0-6:2,8-31",
            "all",
        )
    ),
    # Every family, dense and in every form.
    ("llama2-13b", "a100-sxm-80gb", MIXED, {"batch": 4, "seq_len": 128}),
    ("llama2-70b", "a100-sxm-80gb", (), {}),
    ("llama2-70b", "h200-sxm", ("rank=25% form=tucker",), {"runtime": "graph", "batch": 16, "new_tokens": 8}),
    ("llama3-8b", "h100-sxm-80gb", ("tensors=mlp rank=50%",), {"batch": 8, "seq_len": 2048}),
    ("llama3-8b", "l40s", ("layers=8-23 form=drop",), {"runtime": "graph"}),
    ("llama3-70b", "mi300x", ("tensors=q_proj,o_proj rank=1024",), {"seq_len": 4096, "attention": "unfused"}),
    ("llama3.2-1b", "rtx-4090", ("tensors=k_proj,v_proj rank=8 form=tucker",), {"lm_head": "all"}),
    ("tinyllama-1.1b", "t4", ("rank=64",), {"dtype": "fp16", "batch": 2}),
    ("tinyllama-1.1b", "epyc-7763", ("rank=33.3%",), {"dtype": "fp32", "new_tokens": 16}),
    ("llama-70m", "xeon-8480plus", ("rank=10%",), {"dtype": "fp32", "seq_len": 64}),
    ("mistral-7b", "a100-pcie-80gb", ("rank=40%",), {"seq_len": 6000, "new_tokens": 4}),
    ("mistral-7b", "h100-pcie-80gb", (), {"seq_len": 5000, "kv_len": 9000, "attention": "unfused"}),
    ("qwen2.5-0.5b", "l4", ("tensors=attn rank=16",), {"weight_dtype": "int8"}),
    ("qwen2.5-7b", "a40", ("tensors=gate_proj,up_proj rank=1500",), {"weight_dtype": "int4", "batch": 32}),
    ("qwen3-0.6b", "l4", ("rank=20% form=tucker",), {"runtime": "graph", "lm_head": "all", "seq_len": 77}),
    ("qwen3-8b", "h100-sxm-80gb", ("layers=0-35:3 rank=75%",), {"dtype": "fp16"}),
    ("bert-base", "l4", (), {}),
    ("bert-base", "epyc-9654", ("rank=25%",), {"dtype": "fp32", "seq_len": 128}),
    ("bert-large", "v100-sxm2-32gb", ("layers=0-11 rank=1 form=tucker",), {"dtype": "fp16", "batch": 64}),
    ("roberta-base", "a100-sxm-40gb", ("tensors=intermediate,output rank=100",), {"attention": "unfused"}),
    ("roberta-large", "a40", ("tensors=attn form=dense", "layers=5 form=drop"), {"dtype": "tf32", "seq_len": 384}),
    ("gpt2", "l4", (), {"runtime": "graph"}),
    ("gpt2", "a100-sxm-80gb", ("tensors=c_attn rank=576", "layers=4 tensors=c_fc rank=700"), {"attention": "unfused"}),
    ("gpt2", "amd-epyc-2t", ("rank=64", "layers=0 form=drop"), {"dtype": "fp32", "batch": 2, "seq_len": 64}),
    ("gpt2-medium", "t4", ("rank=50%",), {"dtype": "fp32", "batch": 3, "seq_len": 300}),
    ("gpt2-large", "v100-sxm2-16gb", ("layers=10-20 rank=128",), {"dtype": "fp16", "weight_dtype": "int8"}),
    ("gpt2-xl", "a100-pcie-40gb", ("rank=1 form=tucker",), {"new_tokens": 32, "seq_len": 100}),
    ("opt-125m", "rtx-4090", ("tensors=fc1,fc2 rank=60",), {"batch": 128, "seq_len": 32}),
    ("opt-350m", "l4", ("tensors=all rank=99%",), {"lm_head": "all"}),
    ("opt-1.3b", "h100-pcie-80gb", ("tensors=q_proj rank=1500",), {"runtime": "graph", "attention": "unfused"}),
    ("opt-6.7b", "a100-sxm-80gb", ("layers=4,8,15,16,23,24 form=drop",), {"batch": 2}),
    # The same model along one axis at a time.
    *(("llama2-7b", "a100-sxm-80gb", (POINT,), {"batch": batch, "seq_len": 128}) for batch in (1, 16, 256)),
    ("llama2-7b", "a100-sxm-80gb", (POINT,), {"runtime": "graph", "new_tokens": 100}),
    *(("llama2-7b", hardware, ("rank=50%",), {"runtime": "graph"}) for hardware in ("h100-sxm-80gb", "l40s", "mi300x")),
    ("llama2-7b", "xeon-8480plus", (POINT,), {"seq_len": 32}),
    ("llama2-7b", "a100-sxm-80gb", ("rank=4096",), {"seq_len": 1, "kv_len": 1}),
    ("llama2-7b", "a100-sxm-80gb", ("form=drop",), {"new_tokens": 2}),
    *(
        ("qwen3-0.6b", hardware, ("rank=50%",), {"batch": 4, "seq_len": 64})
        for hardware in ("b200-sxm", "rtx-5090", "rtx-pro-6000", "h20", "rtx-3090", "l40", "a10")
    ),
]
"""Model, device, SPECs, and workload options where they differ from the command's defaults."""

CALIBRATED: list[tuple[str, str, tuple[str, ...], dict[str, Any]]] = [
    ("llama2-7b", "a100-sxm-80gb", (POINT,), {}),
    ("llama2-7b", "a100-sxm-80gb", ("rank=50%",), {"runtime": "graph", "new_tokens": 8}),
    ("llama2-7b", "h100-sxm-80gb", (POINT,), {}),
    ("llama2-7b", "h100-sxm-80gb", ("rank=50%",), {"runtime": "graph", "new_tokens": 8}),
    ("mistral-7b", "a100-sxm-80gb", MIXED, {"batch": 4, "seq_len": 6000, "new_tokens": 4}),
    ("llama3-70b", "h100-sxm-80gb", ("tensors=mlp rank=25% form=tucker",), {"runtime": "graph", "batch": 16}),
    ("qwen2.5-0.5b", "a100-sxm-80gb", ("tensors=attn rank=37",), {"dtype": "fp16", "lm_head": "all"}),
    ("opt-6.7b", "h100-sxm-80gb", ("layers=4,8 form=drop", "tensors=fc1 rank=1000"), {"attention": "unfused"}),
    ("gpt2-xl", "a100-sxm-80gb", ("tensors=c_attn rank=33%",), {"runtime": "graph", "seq_len": 77}),
    ("bert-large", "a100-sxm-80gb", ("rank=25%",), {"batch": 8, "seq_len": 384}),
    ("roberta-base", "h100-sxm-80gb", ("tensors=intermediate,output rank=100",), {"batch": 32, "seq_len": 128}),
    ("tinyllama-1.1b", "amd-epyc-2t", ("rank=33.3%",), {"dtype": "fp32", "new_tokens": 4, "seq_len": 64}),
    ("bert-base", "amd-epyc-2t", ("rank=64 form=tucker",), {"dtype": "fp32", "batch": 4, "seq_len": 32}),
    ("gpt2", "amd-epyc-2t", ("rank=10%", "layers=0 form=drop"), {"dtype": "fp32", "seq_len": 128}),
]
"""The same, priced with the calibration that ships for the device."""

GENERATION: list[tuple[str, str, tuple[str, ...], dict[str, Any]]] = [
    ("llama2-7b", "h100-pcie-80gb", (POINT,), {"runtime": "graph"}),
    ("llama2-7b", "a100-sxm-80gb", ("rank=50%",), {"dtype": "tf32", "seq_len": 128}),
    ("opt-1.3b", "v100-sxm2-16gb", ("tensors=fc1,fc2 rank=107",), {"dtype": "fp16", "attention": "unfused"}),
    ("bert-large", "t4", ("rank=25%",), {"dtype": "fp32", "batch": 8, "seq_len": 128}),
    ("qwen3-0.6b", "l4", (), {"runtime": "graph", "batch": 4}),
    ("tinyllama-1.1b", "mi300x", ("rank=64 form=tucker",), {"runtime": "graph"}),
    ("tinyllama-1.1b", "epyc-9654", ("rank=33.3%",), {"dtype": "fp32", "seq_len": 64}),
    ("gpt2", "xeon-8480plus", (), {"new_tokens": 4, "seq_len": 100}),
]
"""The same on devices and types that no calibration serves, by what is known of the generation."""


def case_name(case: tuple[str, str, tuple[str, ...], dict[str, Any]]) -> str:
    """The case as one line, its key in the file."""
    model, hardware, specs, options = case
    return " | ".join([model, hardware, *specs, *(f"{key}={value}" for key, value in options.items())])


def compute(case: tuple[str, str, tuple[str, ...], dict[str, Any]], calibration: str = "none") -> dict[str, Any]:
    """Every number of an estimate, operations left out; `calibration` as the command takes it."""
    name, hardware, specs, options = case
    model, given = load_model(name), dict(options)
    seq_len, kv_len, new_tokens = given.pop("seq_len", 512), given.pop("kv_len", None), given.pop("new_tokens", None)
    kinds = {"dtype": DType, "weight_dtype": DType, "runtime": Runtime, "attention": Attention, "lm_head": LmHead}
    how = {key: kinds[key](value) if key in kinds else value for key, value in given.items()}
    works = [Workload.prefill(seq_len, **how)]
    if not model.is_encoder:
        works.append(Workload.decode(kv_len or seq_len + 1, **how))
    decomposition = parse_decomposition(specs, model, Decomposition())
    device = load_hardware(hardware)
    measured = find_calibration(calibration, device, works[0].dtype, works[0].runtime)
    found = estimate(model, device, decomposition, works, calibration=measured, new_tokens=new_tokens).to_json()
    kept = {"phases": [{**phase, "ops": len(phase["ops"])} for phase in found["phases"]]}
    return {**kept, **{key: found[key] for key in ("request", "warnings") if found[key]}}


def text(cases: list[tuple[str, str, tuple[str, ...], dict[str, Any]]], calibration: str = "none") -> str:
    """A whole file: a line for every flat object, so that a diff names the case and shows what changed."""
    lines = []
    for case in cases:
        result = compute(case, calibration)
        phases = [
            "    {\n"
            + ",\n".join(f"      {json.dumps(key)}: {json.dumps(value)}" for key, value in phase.items())
            + "\n    }"
            for phase in result.pop("phases")
        ]
        rest = "".join(f",\n  {json.dumps(key)}: {json.dumps(value)}" for key, value in result.items())
        lines.append(f'{json.dumps(case_name(case))}: {{\n  "phases": [\n' + ",\n".join(phases) + f"\n  ]{rest}\n}}")
    return "{\n" + ",\n".join(lines) + "\n}\n"


if __name__ == "__main__":
    PATH.write_text(text(CASES), encoding="utf-8")
    CALIBRATED_PATH.write_text(text(CALIBRATED, "auto"), encoding="utf-8")
    GENERATION_PATH.write_text(text(GENERATION, "auto"), encoding="utf-8")
    for cases, path in ((CASES, PATH), (CALIBRATED, CALIBRATED_PATH), (GENERATION, GENERATION_PATH)):
        sys.stdout.write(f"wrote {len(cases)} estimates to {path}\n")
