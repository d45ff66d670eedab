"""What is run: phase, batch, lengths, data types, and how it is run."""

from __future__ import annotations

import enum
from dataclasses import dataclass, replace
from typing import Literal, get_args

from costmodel.errors import InputError
from costmodel.forward.shares import Shares
from costmodel.model import ModelSpec
from costmodel.tensors import WeightTensor
from costmodel.units import HALF_BYTES, KV_DTYPES, RUN_DTYPES, WEIGHT_DTYPES, DType
from costmodel.weights import WeightFormat


class Phase(enum.Enum):
    """A forward pass over the whole prompt, or over one new token per sequence."""

    PREFILL = "prefill"
    DECODE = "decode"


class Runtime(enum.Enum):
    """How kernels reach the device: one by one from the host, or replayed as a captured graph."""

    EAGER = "eager"
    GRAPH = "graph"


class Attention(enum.Enum):
    """One fused kernel that never writes the scores, or separate kernels that do (HF's "eager")."""

    FUSED = "fused"
    UNFUSED = "unfused"


class Cache(enum.Enum):
    """How keys and values of earlier tokens are kept: in place, copied into a longer cache at every step with each
    query head's own copy made, or in pages."""

    STATIC = "static"
    GROWING = "growing"
    PAGED = "paged"


class Routing(enum.Enum):
    """How a router spreads tokens over experts: all alike, or the popular ones more by a power law."""

    BALANCED = "balanced"
    POWER_LAW = "power-law"


class ExpertKernels(enum.Enum):
    """One kernel for the same linear of all experts, or one for each expert that a token reaches."""

    FUSED = "fused"
    LOOPED = "looped"


class Latent(enum.Enum):
    """Latent attention with keys and values made from the whole cache in every pass, or with the weights that make
    them applied to queries and results."""

    PLAIN = "plain"
    ABSORBED = "absorbed"


class LmHead(enum.Enum):
    """Logits of the last position only, or of every position."""

    LAST = "last"
    ALL = "all"


ENUMERATIONS: dict[str, type[enum.Enum]] = {
    "phase": Phase,
    "runtime": Runtime,
    "attention": Attention,
    "lm_head": LmHead,
    "cache": Cache,
    "routing": Routing,
    "experts": ExpertKernels,
    "latent": Latent,
}
"""Fields of a workload that are one of a few names."""
MAX_BATCH = 1 << 20
MAX_LENGTH = 1 << 24
MAX_NEW_TOKENS = 1 << 17
Way = Literal["replicate", "gather", "reduce-rank", "reduce-hidden", "scatter"]
WAY_NAMES: tuple[Way, ...] = get_args(Way)
MAX_DEVICES = 8
"""Devices of one server, among which collectives were measured."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload(Shares):
    """One forward pass.

    Attributes:
        phase: prefill or decode; decode means q_len = 1.
        batch: sequences.
        q_len: new tokens per sequence.
        kv_len: tokens each sequence attends to, the new ones included (past + q_len).
        dtype: of activations and the arithmetic; fp8 (W8A8) is that of decomposable weights and of what their products
            read, while everything between them has 16 bits.
        weight_dtype: of the resident decomposable weights; None means `dtype`.
        kv_dtype: of the KV cache; None means the activations'.
        runtime, attention, lm_head, cache, routing, experts, latent: see the enumerations.
        stack: what executes the model, a name or file of `costmodel.hardware.stack`; None for bare kernels.
        ways: in which a factored weight may be split over the devices (`costmodel.forward.sharding`).
        tp: devices that share out each layer's weights, of one server.
        pp: stages that the layers are cut into, each on tp x ep devices (`costmodel.forward.stages`).
        microbatches: that the sequences pass the stages in, one behind the other.
        ep: so many times as many devices, which share out the sequences, and the experts of each layer among them.
        host: class of the machine that launches, of `costmodel.hardware.host`; None for the device's usual one.

    Raises:
        InputError: on a batch or length below 1 or absurdly large, kv_len < q_len, or a type not allowed.
    """

    phase: Phase
    batch: int = 1
    q_len: int
    kv_len: int
    dtype: DType = DType.BF16
    weight_dtype: DType | None = None
    kv_dtype: DType | None = None
    runtime: Runtime = Runtime.EAGER
    attention: Attention = Attention.FUSED
    lm_head: LmHead = LmHead.LAST
    cache: Cache = Cache.STATIC
    routing: Routing = Routing.BALANCED
    experts: ExpertKernels = ExpertKernels.FUSED
    latent: Latent = Latent.PLAIN
    stack: str | None = None
    host: str | None = None
    tp: int = 1
    ep: int = 1
    pp: int = 1
    microbatches: int = 1
    ways: tuple[Way, ...] = WAY_NAMES
    stored: WeightFormat | None = None
    """The form that a quantised checkpoint holds its weights in, where `weight_dtype` does not ask for another; set by
    `of_model`."""

    def __post_init__(self) -> None:
        for name, kind in ENUMERATIONS.items():
            value = getattr(self, name)
            if not isinstance(value, kind):
                allowed = ", ".join(f"{kind.__name__}.{member.name}" for member in kind)
                raise InputError(f"{name} is no {kind.__name__}", value=value, allowed=allowed)
        for name, limit in (
            ("batch", MAX_BATCH),
            ("q_len", MAX_LENGTH),
            ("kv_len", MAX_LENGTH),
            ("tp", MAX_DEVICES),
            ("ep", MAX_DEVICES),
            ("pp", MAX_DEVICES),
            ("microbatches", MAX_BATCH),
        ):
            value = getattr(self, name)
            if type(value) is not int or not 1 <= value <= limit:
                raise InputError(f"{name} out of range", value=value, allowed=f"a whole number from 1 to {limit}")
        wrong = [way for way in self.ways if way not in WAY_NAMES]
        if wrong or not self.ways:
            raise InputError("unknown way to split a factor", value=wrong or "none", allowed=", ".join(WAY_NAMES))
        if self.devices > MAX_DEVICES:
            raise InputError("devices of one server", value=self.devices, allowed=f"at most {MAX_DEVICES}")
        if self.kv_len < self.q_len:
            raise InputError("kv_len is less than q_len", value=self.kv_len, allowed=f"at least {self.q_len}")
        if self.phase is Phase.DECODE and self.q_len != 1:
            raise InputError("decode takes one new token per sequence", value=self.q_len, allowed="1")
        for what, dtype, choices in (
            ("dtype", self.dtype, RUN_DTYPES),
            ("weight dtype", self.weight_dtype or self.dtype, WEIGHT_DTYPES),
            ("KV dtype", self.kv_dtype or DType.BF16, KV_DTYPES),
        ):
            if dtype not in choices:
                allowed = ", ".join(choice.value for choice in choices)
                raise InputError(f"unknown {what}", value=getattr(dtype, "value", dtype), allowed=allowed)
        if self.fp8 and self.weight_dtype not in (None, DType.FP8):
            raise InputError(
                "products in fp8 take weights in fp8", value=self.site_dtype.value, allowed="fp8", hint="leave it out"
            )

    @classmethod
    def prefill(cls, seq_len: int, **options: object) -> Workload:
        """A pass over a whole prompt of `seq_len` tokens; options are the other fields."""
        return cls(phase=Phase.PREFILL, q_len=seq_len, kv_len=seq_len, **options)  # type: ignore[arg-type]

    @classmethod
    def decode(cls, kv_len: int, **options: object) -> Workload:
        """One step that adds a token to each sequence and attends to `kv_len` tokens, itself included."""
        return cls(phase=Phase.DECODE, q_len=1, kv_len=kv_len, **options)  # type: ignore[arg-type]

    @property
    def tokens(self) -> int:
        """Rows of every activation matrix: m = batch * q_len."""
        return self.batch * self.q_len

    @property
    def of_device(self) -> Workload:
        """What one device runs at once: `batch` is its share of the sequences of one microbatch. Named without stack,
        host and runtime, on which no list of operations depends, so that passes under several share their lists.

        Raises:
            InputError: when the sequences cannot be dealt out evenly.
        """
        self.require_shares()
        batch = self.batch // (self.ep * self.microbatches)
        device = replace(self, batch=batch, stack=None, host=None, runtime=Runtime.EAGER)
        return self if device == self else device

    def require_shares(self) -> None:
        """Raise InputError unless the sequences can be dealt out evenly."""
        parts = self.ep * self.microbatches
        if self.batch % parts:
            by = f"--microbatches {self.microbatches}" if self.microbatches > 1 else ""
            by = " and ".join(each for each in (f"--ep {self.ep}" if self.ep > 1 else "", by) if each)
            raise InputError(
                f"--batch cannot be dealt out evenly by {by}", value=self.batch, allowed=f"a multiple of {parts}"
            )

    @property
    def act_bytes(self) -> int:
        """Bytes of one activation element."""
        return HALF_BYTES if self.fp8 else self.dtype.bits // 8

    @property
    def input_bytes(self) -> int:
        """Bytes of an element that the product of a decomposable weight reads."""
        return self.dtype.bits // 8

    def of_model(self, model: ModelSpec) -> Workload:
        """This workload with the weights as the model's checkpoint holds them, unless it asks for a type of its own."""
        if model.weights is None or self.weight_dtype is not None or self.stored is not None or self.fp8:
            return self
        return replace(self, stored=model.weights)

    @property
    def kv_bytes(self) -> int:
        """Bytes of an element of the KV cache."""
        return self.act_bytes if self.kv_dtype is None else self.kv_dtype.bits // 8

    @property
    def fp8(self) -> bool:
        """Whether products of decomposable weights run in fp8."""
        return self.dtype is DType.FP8

    @property
    def site_dtype(self) -> DType:
        """Type of the decomposable weights."""
        return self.stored.dtype if self.stored else self.weight_dtype or self.dtype

    def site_form(self, tensor: WeightTensor) -> DType | WeightFormat:
        """How the weight of a decomposable tensor is held."""
        if self.stored is None:
            return self.site_dtype
        return self.dtype if tensor.plain else tensor.form or self.stored

    @property
    def vocabulary_form(self) -> DType | WeightFormat:
        """How the weights of the token embedding and the LM head are held."""
        plain = DType.BF16 if self.fp8 else self.dtype
        return self.stored if self.stored is not None and self.stored.embeddings else plain

    @property
    def quantised(self) -> bool:
        """Whether decomposable weights are held in fewer bits than the arithmetic uses."""
        return self.site_dtype in (DType.INT8, DType.INT4)

    def to_json(self) -> dict[str, object]:
        return {
            "phase": self.phase.value,
            "batch": self.batch,
            "q_len": self.q_len,
            "kv_len": self.kv_len,
            "dtype": self.dtype.value,
            "weight_dtype": self.site_dtype.value,
            "runtime": self.runtime.value,
            "attention": self.attention.value,
            "lm_head": self.lm_head.value,
            **({"kv_dtype": self.kv_dtype.value} if self.kv_dtype is not None else {}),
            **({"cache": self.cache.value} if self.cache is not Cache.STATIC else {}),
            **({"routing": self.routing.value} if self.routing is not Routing.BALANCED else {}),
            **({"latent": self.latent.value} if self.latent is not Latent.PLAIN else {}),
            **({"experts": self.experts.value} if self.experts is not ExpertKernels.FUSED else {}),
            **({"tp": self.tp} if self.tp > 1 else {}),
            **{name: getattr(self, name) for name in ("ep", "pp", "microbatches") if getattr(self, name) > 1},
            **{name: value for name, value in (("stack", self.stack), ("host", self.host)) if value is not None},
        }
