"""What a measurement leaves behind: one JSON object per sample, with all that refitting needs. No torch.

docs/validate.md describes each key. Times are in seconds, sizes in bytes, energy in joules.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, Self, TypeVar

import msgspec

from costmodel.decomposition.factors import Decomposition
from costmodel.families.registry import spec_from_config
from costmodel.files.node import Node
from costmodel.forward.workload import MAX_BATCH, MAX_LENGTH, Attention, Cache, LmHead, Phase, Runtime, Workload
from costmodel.hardware.stack import builtin_stacks
from costmodel.model import ModelSpec
from costmodel.units import DType
from validate.errors import RecordError
from validate.plans.strata import Strata
from validate.store.decode import Amount, Count, Positive, Signed
from validate.store.record_format import Failure, Record, RecordFormat, device_of
from validate.store.settings import NAME

E = TypeVar("E", bound=enum.Enum)
SCHEMA = 1
"""Version of the line format; raise it when a key is renamed, dropped or changes its meaning."""


class ModelRecord(Record, frozen=True, kw_only=True):
    """The model that was built."""

    name: str
    config: dict[str, Any]
    """The decoded config.json: with `num_layers` it gives the ModelSpec again."""
    num_layers: int
    weights: str
    """`random`, or the folder that the weights came from."""
    factors: Literal["random", "factorised"]
    """Whether factors are random matrices of the right shapes or were computed from the weights."""

    @classmethod
    def of(cls, config: Mapping[str, Any], spec: ModelSpec, folder: Path | None) -> Self:
        """The record of a model whose weights are from a folder; from None, random."""
        return cls(
            name=spec.name,
            config=dict(config),
            num_layers=spec.num_layers,
            weights=folder.name if folder else "random",
            factors="factorised" if folder else "random",
        )


class Prediction(Record, frozen=True, kw_only=True):
    """One level's prediction under the sample's workload, in seconds, None where the profile lacks the rate."""

    level: str
    dense_s: Positive
    decomposed_s: Positive
    decomposed_lower_s: Amount
    decomposed_upper_s: Amount
    peak_memory_bytes: Count
    energy_j: Amount | None = None


class Series(Record, frozen=True, kw_only=True):
    """Raw times of one of the two models, in the order measured."""

    seconds: list[Amount]
    median_s: Positive
    iqr_s: Amount


class Timing(Record, frozen=True, kw_only=True):
    """An interleaved comparison of the candidate with the dense reference."""

    candidate: Series
    dense: Series
    ratio: Positive
    """Candidate / dense: the median over pairs."""
    ratio_low: Signed
    ratio_high: Positive
    """95 % interval of `ratio`."""
    warmup_pairs: Count
    settled: bool
    """Whether warm-up ended because times had settled, not because its limit was reached."""
    precise: bool
    """Whether the interval reached the asked precision within the budget, before it was widened for a single copy."""
    copies: Count
    """Sets of weights that took turns, so that caches stay cold and no one place in memory decides."""
    disturbed: list[str]
    """What else went on meanwhile; empty for an undisturbed block."""
    conditions: dict[str, Any]
    """Load, clocks, temperatures before and after."""

    @property
    def half_width(self) -> float:
        """Half of the interval, relative to the ratio."""
        return (self.ratio_high - self.ratio_low) / 2 / self.ratio


class Identity(Record, frozen=True, kw_only=True):
    """One count of the model that was built, and what the cost model says it is."""

    name: str
    expected: Count
    found: Count


class Outputs(Record, frozen=True, kw_only=True):
    """How far the outputs of a stack are from those of PyTorch's own pass, relative to the largest of them."""

    candidate: Amount
    dense: Amount
    tolerance: Amount
    """What was allowed."""


class Memory(Record, frozen=True, kw_only=True):
    """Bytes of one pass of the candidate without the dense weights that it replaces."""

    weight_bytes: Count
    kv_cache_bytes: Count
    peak_allocated_bytes: Count | None
    peak_reserved_bytes: Count | None
    peak_process_bytes: Count | None
    method: str


class Energy(Record, frozen=True, kw_only=True):
    """Joules per pass by the device's own counter, over a window of seconds."""

    candidate_j: Amount
    dense_j: Amount
    window_s: Amount
    method: str


class Sample(Record, frozen=True, kw_only=True):
    """One line of samples.jsonl."""

    schema: int = SCHEMA
    id: str
    """Digest of model, configuration and workload: equal for the same sample in every run."""
    index: Count
    status: Literal["ok", "failed"]
    failure: Failure | None = None
    model: ModelRecord
    config: dict[str, Any]
    """The configuration as the contract's FILE."""
    workload: dict[str, Any]
    strata: Strata
    hardware: str
    predicted: list[Prediction] = msgspec.field(default_factory=list)
    identity: list[Identity] = msgspec.field(default_factory=list)
    outputs: Outputs | None = None
    """Of a run by a stack, which `workload` then names; None where PyTorch itself was timed."""
    timing: Timing | None = None
    repeat: Timing | None = None
    """The same sample built and measured a second time, for the noise floor."""
    memory: Memory | None = None
    energy: Energy | None = None
    environment: dict[str, Any]
    started: str
    """UTC, ISO 8601."""
    elapsed_s: Amount

    def spec(self) -> ModelSpec:
        """The structure of the model, rebuilt from the record."""
        return spec_from_config(
            self.model.config, name=self.model.name, source=f"sample {self.id}", num_layers=self.model.num_layers
        )

    def decomposition(self, spec: ModelSpec) -> Decomposition:
        """The configuration, checked against `spec`."""
        return Decomposition.from_json(self.config, spec, where=f"sample {self.id}")

    def work(self) -> Workload:
        """The workload, rebuilt from the record."""
        return workload_from_json(self.workload)


def workload_from_json(data: dict[str, Any]) -> Workload:
    """The inverse of `Workload.to_json`.

    Raises:
        RecordError: when a key is missing or holds another value.
    """
    names = ("phase", "batch", "q_len", "kv_len", "dtype", "weight_dtype", "runtime", "attention", "lm_head")
    part = Node("workload", data, RecordError).entries(names)

    def member(kind: type[E], name: str) -> E:
        return kind(part[name].choice([str(each.value) for each in kind]))

    stack = part["stack"].choice(builtin_stacks()) if "stack" in part else None

    dtype, weight = member(DType, "dtype"), member(DType, "weight_dtype")
    return Workload(
        phase=member(Phase, "phase"),
        batch=part["batch"].integer(1, MAX_BATCH),
        q_len=part["q_len"].integer(1, MAX_LENGTH),
        kv_len=part["kv_len"].integer(1, MAX_LENGTH),
        dtype=dtype,
        weight_dtype=None if weight is dtype else weight,
        runtime=member(Runtime, "runtime"),
        attention=member(Attention, "attention"),
        lm_head=member(LmHead, "lm_head"),
        cache=member(Cache, "cache") if "cache" in part else Cache.STATIC,
        stack=stack,
    )


def check_sample(sample: Sample) -> None:
    """Raise where the values of a record do not go together.

    Raises:
        CostModelError: when its model, configuration or workload is none, it counts without a time, or the interval of
            a ratio does not hold it.
    """
    sample.work()
    sample.decomposition(sample.spec())
    device_of(sample.environment)
    if sample.status == "ok" and sample.timing is None:
        raise RecordError("status without a timing", value=sample.status)
    for name, timing in (("timing", sample.timing), ("repeat", sample.repeat)):
        if timing is not None and not timing.ratio_low <= timing.ratio <= timing.ratio_high:
            raise RecordError(f"{name}.ratio is outside its interval", value=timing.ratio)


SAMPLES = RecordFormat(
    kind=Sample,
    schema=SCHEMA,
    file="samples.jsonl",
    settings=NAME,
    noun="sample",
    manual="docs/validate.md",
    check=check_sample,
)
"""The records of a timing run."""


def read_samples(paths: Path | Iterable[Path]) -> list[Sample]:
    """Samples of files or of folders that hold a samples.jsonl, in order; a line cut off at the end is left out.

    Raises:
        RecordError: when a file cannot be read or a line is not a sample.
    """
    return SAMPLES.read(paths)
