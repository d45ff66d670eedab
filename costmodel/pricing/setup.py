"""What runs on what: the settings that every command of pricing takes, and what they name, loaded and checked."""

from __future__ import annotations

from dataclasses import dataclass, field
from numbers import Integral
from typing import Any, Literal

from costmodel.errors import InputError, nearest
from costmodel.families.load import load_model
from costmodel.forward.sharding import rank_of
from costmodel.forward.stages import require_stages
from costmodel.forward.workload import (
    MAX_BATCH,
    MAX_DEVICES,
    MAX_LENGTH,
    MAX_NEW_TOKENS,
    WAY_NAMES,
    Attention,
    Cache,
    ExpertKernels,
    Latent,
    LmHead,
    Routing,
    Runtime,
    Way,
    Workload,
)
from costmodel.hardware.host import host_of
from costmodel.hardware.profile import HardwareProfile, load_hardware
from costmodel.hardware.stack import load_stack
from costmodel.model import ModelSpec
from costmodel.pricing.checks import SEQ_LEN, check_dtype, check_phases, usual_dtype, usual_latent, usual_lengths
from costmodel.timing.calibration.load import find_calibration
from costmodel.timing.calibration.record import Calibration
from costmodel.units import KV_DTYPES, RUN_DTYPES, WEIGHT_DTYPES, DType

PHASES = ("prefill", "decode", "both")
"""What may be asked for."""
SEVERAL = ("hw", "stack", "tp", "ep", "pp", "batch", "seq_len", "kv_len")
"""Settings that a question may name several of: one answer for each combination."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """What settings name, loaded and checked; `workloads` holds the asked phases in order."""

    model: ModelSpec
    hardware: HardwareProfile
    workloads: tuple[Workload, ...]
    calibration: Calibration | None
    new_tokens: int | None


def _names(values: tuple[DType, ...]) -> str:
    return "|".join(value.value for value in values)


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkloadSettings:
    """Model, device and workload as options name them; metadata is what `--help` says of each."""

    model: str = field(metadata={"metavar": "NAME|PATH", "help": "Built-in name, or a config.json."})
    hw: str = field(
        metadata={
            "metavar": "NAME|PATH",
            "help": "Built-in device, a profile's TOML, or auto: this machine's, where it was probed.",
        }
    )
    phase: Literal["prefill", "decode", "both"] = field(
        default="both", metadata={"help": "Which pass to price; an encoder has prefill only."}
    )
    batch: int = field(default=1, metadata={"help": "Sequences."})
    seq_len: int | None = field(
        default=None,
        metadata={"help": f"Tokens of the prompt.  [default: {SEQ_LEN}, or the model's positions if fewer]"},
    )
    kv_len: int | None = field(
        default=None,
        metadata={
            "help": "Tokens that one decode step attends to, the new one included.  "
            "[default: seq-len + 1, or the model's positions if fewer]"
        },
    )
    new_tokens: int | None = field(
        default=None,
        metadata={"help": "Price a request for N tokens: a prefill and N - 1 decode steps."},
    )
    dtype: str | None = field(
        default=None,
        metadata={
            "metavar": _names(RUN_DTYPES),
            "help": "Of activations, KV cache, arithmetic; fp8: of weights and what they multiply, the rest bf16.  "
            "[default: bf16; where a device has none, fp16 or fp32]",
        },
    )
    weight_dtype: str | None = field(
        default=None,
        metadata={
            "metavar": _names(WEIGHT_DTYPES),
            "help": "Of the decomposable weights; int8 and int4 are weight-only.  [default: dtype]",
        },
    )
    kv_dtype: str | None = field(
        default=None, metadata={"metavar": _names(KV_DTYPES), "help": "Of the KV cache.  [default: the activations']"}
    )
    runtime: Runtime | None = field(
        default=None,
        metadata={
            "help": "Kernels launched one by one, or a captured graph replayed.  [default: eager, or the stack's]"
        },
    )
    attention: Attention | None = field(
        default=None,
        metadata={
            "help": "One fused kernel, or separate kernels that write the scores.  [default: fused, or the stack's]"
        },
    )
    lm_head: LmHead = field(default=LmHead.LAST, metadata={"help": "Logits of the last position or of all."})
    stack: str | None = field(
        default=None,
        metadata={
            "metavar": "NAME|PATH",
            "help": "What executes the model: `costmodel stacks list`.  [default: bare kernels]",
        },
    )
    host: str | None = field(
        default=None,
        metadata={
            "metavar": "NAME",
            "help": "Class of the host that launches: `costmodel stacks list`.  [default: the device's]",
        },
    )
    cache: Cache | None = field(
        default=None, metadata={"help": "How the KV cache is kept.  [default: static, or the stack's]"}
    )
    routing: Routing = field(default=Routing.BALANCED, metadata={"help": "How tokens spread over experts."})
    experts: ExpertKernels = field(
        default=ExpertKernels.FUSED,
        metadata={"help": "One kernel for a linear of all experts, or one for each expert that is hit."},
    )
    latent: Latent | None = field(
        default=None,
        metadata={
            "help": "Latent attention as its modules do it, or absorbed.  "
            "[default: plain; absorbed in a stack other than eager and graph]"
        },
    )
    tp: int = field(
        default=1,
        metadata={
            "metavar": "N",
            "help": "Devices of one server that share out each layer's weights (tensor parallel).",
        },
    )
    ep: int = field(
        default=1,
        metadata={
            "metavar": "N",
            "help": "Times as many devices, which share out the sequences and each layer's experts (expert parallel).",
        },
    )
    pp: int = field(
        default=1,
        metadata={
            "metavar": "N",
            "help": "Times as many devices, in stages that each have some of the layers (pipeline parallel).",
        },
    )
    microbatches: int = field(
        default=1,
        metadata={"metavar": "M", "help": "Parts of the batch that pass the stages one behind the other."},
    )
    tp_ways: str | None = field(
        default=None,
        metadata={
            "metavar": "WAY,...",
            "help": f"How a factored weight may be split over them: {', '.join(WAY_NAMES)}.  [default: the fastest]",
        },
    )
    calibration: str = field(
        default="auto", metadata={"metavar": "FILE|auto|none", "help": "Measured corrections to the roofline."}
    )

    def setup(self, model: ModelSpec | None = None, hardware: HardwareProfile | None = None) -> Setup:
        """Load and check what the settings name; a model or device that is given takes the place of its name.

        Raises:
            CostModelError: in one line, naming the option.
        """
        self.require_numbers()
        if self.phase not in PHASES:
            raise InputError("unknown phase", value=self.phase, allowed=", ".join(PHASES))
        named = None if self.dtype is None else DType.parse(self.dtype, "dtype", RUN_DTYPES)
        model = load_model(self.model) if model is None else model
        hardware = load_hardware(self.hw) if hardware is None else hardware
        dtype = usual_dtype(hardware) if named is None else named
        check_dtype(hardware, dtype)
        weight_dtype = DType.parse(self.weight_dtype, "weight dtype", WEIGHT_DTYPES) if self.weight_dtype else None
        kv_dtype = DType.parse(self.kv_dtype, "KV dtype", KV_DTYPES) if self.kv_dtype else None
        check_phases(model, self.phase, seq_len=self.seq_len, kv_len=self.kv_len, new_tokens=self.new_tokens)
        stack = None if self.stack is None else load_stack(self.stack)
        if self.host is not None:
            host_of(self.host, hardware)
        if stack is not None and self.runtime not in (None, Runtime(stack.runtime)) and hardware.asynchronous:
            raise InputError(
                f"--runtime contradicts --stack {self.stack}",
                value=self.runtime.value,
                allowed=stack.runtime,
                hint="leave --runtime out: what executes the model says how it is launched",
            )
        rank_of(model, self.tp, self.ep)
        require_stages(model, self.pp)
        if self.microbatches > 1 and self.pp == 1:
            raise InputError("--microbatches pass stages, and there is one", value=self.microbatches, hint="add --pp")
        runtime = self.runtime or (Runtime(stack.runtime) if stack else Runtime.EAGER)
        how: dict[str, Any] = {
            "batch": self.batch,
            "dtype": dtype,
            "runtime": runtime,
            "attention": self.attention or (Attention(stack.attention) if stack else Attention.FUSED),
            "weight_dtype": weight_dtype,
            "kv_dtype": kv_dtype,
            "lm_head": self.lm_head,
            "cache": self.cache or (Cache(stack.cache) if stack else Cache.STATIC),
            "stack": self.stack,
            "host": self.host,
            "routing": self.routing,
            "experts": self.experts,
            "latent": self.latent or usual_latent(self.stack),
            "tp": self.tp,
            "ep": self.ep,
            "pp": self.pp,
            "microbatches": self.microbatches,
            "ways": self._ways(),
        }
        prompt, attended = usual_lengths(model, self.seq_len, self.kv_len)
        workloads = []
        if self.phase != "decode":
            workloads.append(Workload.prefill(prompt, **how))
        if self.phase != "prefill" and model.generates:
            workloads.append(Workload.decode(attended, **how))
        for work in workloads:
            work.require_shares()
        return Setup(
            model=model,
            hardware=hardware,
            workloads=tuple(work.of_model(model) for work in workloads),
            calibration=find_calibration(self.calibration, hardware, dtype, runtime, self.stack),
            new_tokens=self.new_tokens,
        )

    def _ways(self) -> tuple[Way, ...]:
        """The ways that `--tp-ways` names, all by default."""
        if self.tp_ways is None:
            return WAY_NAMES
        names = [name.strip() for name in self.tp_ways.split(",")]
        known = {str(way): way for way in WAY_NAMES}
        for name in names:
            if name not in known:
                raise InputError("--tp-ways", value=name, allowed=", ".join(WAY_NAMES), hint=nearest(name, WAY_NAMES))
        if self.tp == 1:
            raise InputError(
                "--tp-ways says how devices share a factor, and there is one", value=self.tp_ways, hint="add --tp"
            )
        return tuple(known[name] for name in names)

    def require_numbers(self) -> None:
        """Raise InputError where a number is out of range."""
        options: tuple[tuple[str, object, int], ...] = (
            ("--batch", self.batch, MAX_BATCH),
            ("--seq-len", self.seq_len, MAX_LENGTH - 1),
            ("--kv-len", self.kv_len, MAX_LENGTH),
            ("--new-tokens", self.new_tokens, MAX_NEW_TOKENS),
            ("--tp", self.tp, MAX_DEVICES),
            ("--ep", self.ep, MAX_DEVICES),
            ("--pp", self.pp, MAX_DEVICES),
            ("--microbatches", self.microbatches, MAX_BATCH),
        )
        for name, value, limit in options:
            if value is None and name not in ("--batch", "--tp", "--ep", "--pp", "--microbatches"):
                continue
            if isinstance(value, bool) or not isinstance(value, Integral) or not 1 <= int(value) <= limit:
                raise InputError(f"{name} out of range", value=value, allowed=f"a whole number from 1 to {limit:,}")
