"""Options that say what runs on what: shared by `estimate`, `explore` and `roofline`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import click
from click.core import ParameterSource

from costmodel.decomposition.factors import Decomposition, load_decomposition
from costmodel.decomposition.text import parse_decomposition
from costmodel.errors import CalibrationError, HardwareError, InputError
from costmodel.families.load import load_model
from costmodel.forward.workload import MAX_BATCH, MAX_LENGTH, Attention, LmHead, Runtime, Workload
from costmodel.hardware.profile import HardwareProfile, load_hardware, profile_folder
from costmodel.model import ModelSpec
from costmodel.pricing.request import MAX_NEW_TOKENS
from costmodel.units import COMPUTE_DTYPES, WEIGHT_DTYPES, DType

if TYPE_CHECKING:
    from costmodel.timing.calibration.record import Calibration

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """What the options name, loaded and checked; `workloads` holds the asked phases in order."""

    model: ModelSpec
    hardware: HardwareProfile
    workloads: tuple[Workload, ...]
    calibration: Calibration | None
    new_tokens: int | None


def _names(values: Any) -> list[str]:
    return [value.value for value in values]


_OPTIONS = [
    click.option("--model", "model_name", required=True, metavar="NAME|PATH", help="Built-in name, or a config.json."),
    click.option("--hw", "hw_name", required=True, metavar="NAME|PATH", help="Built-in device, or a profile's TOML."),
    click.option(
        "--phase",
        type=click.Choice(["prefill", "decode", "both"]),
        default="both",
        show_default=True,
        help="Which pass to price; an encoder has prefill only.",
    ),
    click.option("--batch", type=int, default=1, show_default=True, help="Sequences."),
    click.option("--seq-len", type=int, default=512, show_default=True, help="Tokens of the prompt."),
    click.option(
        "--kv-len",
        type=int,
        help="Tokens that one decode step attends to, the new one included.  [default: seq-len + 1]",
    ),
    click.option("--new-tokens", type=int, help="Price a request too: one prefill and this many decode steps."),
    click.option(
        "--dtype",
        default="bf16",
        show_default=True,
        metavar="|".join(_names(COMPUTE_DTYPES)),
        help="Of activations, KV cache and arithmetic.",
    ),
    click.option(
        "--weight-dtype",
        metavar="|".join(_names(WEIGHT_DTYPES)),
        help="Of the decomposable weights; int8 and int4 are weight-only.  [default: dtype]",
    ),
    click.option(
        "--runtime",
        type=click.Choice(_names(Runtime)),
        default="eager",
        show_default=True,
        help="Kernels launched one by one, or a captured graph replayed.",
    ),
    click.option(
        "--attention",
        type=click.Choice(_names(Attention)),
        default="fused",
        show_default=True,
        help="One fused kernel, or separate kernels that write the scores.",
    ),
    click.option(
        "--lm-head",
        type=click.Choice(_names(LmHead)),
        default="last",
        show_default=True,
        help="Logits of the last position or of all.",
    ),
    click.option(
        "--calibration",
        "calibration_option",
        default="auto",
        show_default=True,
        metavar="FILE|auto|none",
        help="Measured corrections to the roofline.",
    ),
]


def workload_options(function: F) -> F:
    """Add the options; the command receives them as keywords that `read_setup` takes."""
    for option in reversed(_OPTIONS):
        function = option(function)
    return function


def decomposition_options(function: F) -> F:
    """Add `--decompose SPEC` (repeatable) and `--config FILE`."""
    for option in (
        click.option("--config", "config_file", metavar="FILE", help="Configuration as JSON; SPECs apply on top."),
        click.option(
            "--decompose",
            "specs",
            multiple=True,
            metavar="SPEC",
            help='For example "layers=2,17,31 tensors=all rank=1 form=tucker"; repeatable, or joined by '
            '" + "; the later wins.',
        ),
    ):
        function = option(function)
    return function


def read_setup(
    *,
    model_name: str,
    hw_name: str,
    phase: str,
    batch: int,
    seq_len: int,
    kv_len: int | None,
    new_tokens: int | None,
    dtype: str,
    weight_dtype: str | None,
    runtime: str,
    attention: str,
    lm_head: str,
    calibration_option: str,
) -> Setup:
    """Load and check what the options name.

    Raises:
        CostModelError: in one line, naming the option.
    """
    _check_numbers(batch, seq_len, kv_len, new_tokens)
    compute = DType.parse(dtype, "dtype", COMPUTE_DTYPES)
    model, hardware = load_model(model_name), load_hardware(hw_name)
    _check_dtype(hardware, compute)
    how: dict[str, Any] = {
        "batch": batch,
        "dtype": compute,
        "runtime": Runtime(runtime),
        "attention": Attention(attention),
        "weight_dtype": DType.parse(weight_dtype, "weight dtype", WEIGHT_DTYPES) if weight_dtype else None,
        "lm_head": LmHead(lm_head),
    }
    if model.is_encoder and (phase == "decode" or kv_len is not None):
        asked = phase if phase == "decode" else f"--kv-len {kv_len}"
        raise InputError(f"{model.name} is an encoder and has no decode phase", value=asked, hint="use --phase prefill")
    if phase == "prefill" and kv_len is not None:
        raise InputError(
            "--kv-len belongs to the decode phase, and only prefill is asked for",
            value=kv_len,
            hint="use --seq-len, or --phase both",
        )
    if phase == "decode" and kv_len is not None and _is_given("seq_len"):
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
    workloads = []
    if phase != "decode":
        workloads.append(Workload.prefill(seq_len, **how))
    if phase != "prefill" and not model.is_encoder:
        workloads.append(Workload.decode(seq_len + 1 if kv_len is None else kv_len, **how))
    if new_tokens is not None and model.is_encoder:
        raise InputError(
            f"{model.name} is an encoder and generates no tokens",
            value=f"--new-tokens {new_tokens}",
            hint="leave --new-tokens out",
        )
    if new_tokens is not None and phase == "decode":
        raise InputError(
            "--new-tokens prices a prefill and its decode steps", value=f"--phase {phase}", hint="use --phase both"
        )
    calibration = _calibration(calibration_option, hardware, compute, Runtime(runtime))
    return Setup(
        model=model, hardware=hardware, workloads=tuple(workloads), calibration=calibration, new_tokens=new_tokens
    )


def read_decomposition(model: ModelSpec, specs: tuple[str, ...], config_file: str | None) -> Decomposition:
    """The configuration file, if any, with every SPEC on top."""
    base = Decomposition() if config_file is None else load_decomposition(config_file, model)
    return parse_decomposition(specs, model, base)


def _calibration(option: str, hardware: HardwareProfile, dtype: DType, runtime: Runtime) -> Calibration | None:
    """What the option asks for; calibrations are imported only where there is one."""
    if not option:
        raise CalibrationError("--calibration is empty", allowed="auto, none or the path of a calibration")
    shipped = profile_folder() / "calibrations" / f"{hardware.name}.json"
    if option == "none" or (option == "auto" and not shipped.is_file()):
        return None
    from costmodel.timing.calibration.load import find_calibration

    return find_calibration(option, hardware, dtype, runtime)


def _is_given(option: str) -> bool:
    """Whether the running command was given this option, rather than its default."""
    context = click.get_current_context(silent=True)
    return context is not None and context.get_parameter_source(option) is not ParameterSource.DEFAULT


def _check_numbers(batch: int, seq_len: int, kv_len: int | None, new_tokens: int | None) -> None:
    options = (
        ("--batch", batch, MAX_BATCH),
        ("--seq-len", seq_len, MAX_LENGTH - 1),
        ("--kv-len", kv_len, MAX_LENGTH),
        ("--new-tokens", new_tokens, MAX_NEW_TOKENS),
    )
    for name, value, limit in options:
        if value is not None and not 1 <= value <= limit:
            raise InputError(f"{name} out of range", value=value, allowed=f"a whole number from 1 to {limit:,}")


def _check_dtype(hardware: HardwareProfile, dtype: DType) -> None:
    """Raise HardwareError unless the device has a rate for products of `dtype`, naming the types that it has."""
    if dtype not in hardware.matrix_flops_per_s:
        known = [each.value for each in COMPUTE_DTYPES if each in hardware.matrix_flops_per_s]
        hint = f"use --dtype {known[-1]}" if known else "no type that activations can have has a rate there"
        raise HardwareError(
            f"{hardware.name} has no matrix rate for --dtype", value=dtype.value, allowed=", ".join(known), hint=hint
        )
