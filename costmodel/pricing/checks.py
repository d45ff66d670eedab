"""What the settings of a workload must keep to for a model and a device."""

from __future__ import annotations

from costmodel.errors import HardwareError, InputError
from costmodel.forward.workload import Latent
from costmodel.hardware.profile import HardwareProfile
from costmodel.hardware.stack import names_bare_kernels
from costmodel.model import ModelSpec
from costmodel.units import RUN_DTYPES, DType

SEQ_LEN = 512
"""Tokens of the prompt unless told otherwise."""


def check_phases(
    model: ModelSpec, phase: str, *, seq_len: int | None, kv_len: int | None, new_tokens: int | None
) -> None:
    """Raise InputError where a length says nothing about the phases that are asked for."""
    if not model.generates and (phase == "decode" or kv_len is not None):
        asked = phase if phase == "decode" else f"--kv-len {kv_len}"
        raise InputError(
            f"{model.name} is {model.role} and has no decode phase", value=asked, hint="use --phase prefill"
        )
    if phase == "prefill" and kv_len is not None:
        raise InputError(
            "--kv-len belongs to the decode phase, and only prefill is asked for",
            value=kv_len,
            hint="use --seq-len, or --phase both",
        )
    if phase == "decode" and kv_len is not None and seq_len is not None:
        raise InputError(
            "--seq-len and --kv-len both say what a decode step attends to",
            value=f"{seq_len}, {kv_len}",
            hint="leave out one of them, or use --phase both",
        )
    if new_tokens is not None and kv_len is not None:
        raise InputError(
            "--kv-len says nothing about a request, whose steps follow its prompt",
            value=kv_len,
            hint="leave out --kv-len or --new-tokens",
        )
    if new_tokens is not None and not model.generates:
        raise InputError(
            f"{model.name} is {model.role} and generates no tokens",
            value=f"--new-tokens {new_tokens}",
            hint="leave --new-tokens out",
        )
    if new_tokens is not None and phase == "decode":
        raise InputError(
            "--new-tokens prices a prefill and its decode steps",
            value=f"--phase {phase}",
            hint="use --phase both",
        )


def usual_lengths(model: ModelSpec, seq_len: int | None, kv_len: int | None) -> tuple[int, int]:
    """Tokens of the prompt, and tokens that a decode step attends to: as told, else 512 and one more than the prompt,
    but no more than the model has positions, unless the prompt that is asked for is longer."""
    prompt = min(SEQ_LEN, model.max_positions) if seq_len is None else seq_len
    if kv_len is not None:
        return prompt, kv_len
    return prompt, prompt + 1 if prompt > model.max_positions else min(prompt + 1, model.max_positions)


def usual_latent(stack: str | None) -> Latent:
    """How latent attention runs where nothing is said: as its modules do it, absorbed in an engine's stack."""
    return Latent.PLAIN if names_bare_kernels(stack) else Latent.ABSORBED


def usual_dtype(hardware: HardwareProfile) -> DType:
    """The type to compute in where none is named: bf16, or what a device without it has."""
    known = [dtype for dtype in (DType.BF16, DType.FP16, DType.FP32) if dtype in hardware.matrix_flops_per_s]
    return known[0] if known else DType.BF16


def check_dtype(hardware: HardwareProfile, dtype: DType) -> None:
    """Raise HardwareError unless the device has a rate for products of `dtype`, naming the types that it has."""
    if dtype not in hardware.matrix_flops_per_s:
        known = [each.value for each in RUN_DTYPES if each in hardware.matrix_flops_per_s]
        hint = f"use --dtype {known[-1]}" if known else "no type that activations can have has a rate there"
        raise HardwareError(
            f"{hardware.name} has no matrix rate for --dtype", value=dtype.value, allowed=", ".join(known), hint=hint
        )
