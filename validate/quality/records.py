"""What a quality measurement leaves behind: one JSON object per configuration, with all that refitting needs. No torch.

docs/quality.md describes each key. Sums over tokens are in nats; times are in seconds.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec

from costmodel.decomposition.factors import Decomposition
from costmodel.families.registry import spec_from_config
from costmodel.model import ModelSpec
from validate.errors import RecordError
from validate.factors.kinds import FactorsUsed
from validate.plans.case import params_of, strata_of
from validate.plans.strata import Strata
from validate.quality.case import QualityCase
from validate.quality.settings import NAME
from validate.store.decode import Amount, Count, PositiveCount, Signed
from validate.store.digests import Source
from validate.store.record_format import Failure, Record, RecordFormat

Right = Annotated[str, msgspec.Meta(pattern="^[01]*$")]
"""Whether each item is right."""
SCHEMA = 1
"""Version of the line format; raise it when a key is renamed, dropped or changes its meaning."""

FINAL = ("non-finite", "input")
"""Kinds of failure that a configuration will show whenever it is measured; others, such as memory that was short or a
device that failed, are measured again when the run is resumed."""


class CheckpointRecord(Record, frozen=True, kw_only=True):
    """The trained model that was measured."""

    name: str
    sha256: str
    """Digest of its config.json and all of its *.safetensors."""
    config: dict[str, Any]
    """The decoded config.json: with `num_layers` it gives the ModelSpec again."""
    num_layers: PositiveCount
    dtype: str | None = None
    """That it was read in; None in records from before."""


class CalibrationSource(Source, frozen=True, kw_only=True):
    """The text that factors were fitted to, and how much of it."""

    blocks: Count | None = None
    """None in records from before."""


class TextRecord(Record, frozen=True, kw_only=True):
    """One row of numbers per block of text, so that statistics can be paired with the dense model's."""

    kind: Literal["causal", "masked"]
    """Each token given those before it, or masked tokens given all others."""
    source: Source
    length: PositiveCount
    """Tokens of a block."""
    tokens: list[PositiveCount]
    """Predicted tokens."""
    nll: list[Signed]
    """Negative log-likelihood of the text's own tokens, summed."""
    kl: list[Signed]
    """Kullback-Leibler divergence of the prediction from the dense model's, summed."""
    flips: list[Count]
    """Tokens whose likeliest prediction is another than the dense model's."""
    hits: list[Count]
    """Tokens whose likeliest prediction is the text's own."""


class TaskRecord(Record, frozen=True, kw_only=True):
    """One entry per item of a task, in the order of its data."""

    name: str
    group: str
    """The name that was asked for: `mmlu` for each of its subjects."""
    kind: Literal["multiple-choice", "generation", "cloze", "classification", "similarity"]
    items: PositiveCount
    left_out: list[Count] | None = None
    """Places, from 0, of items of the data that cannot be scored: a choice that merges into its context has no token
    of its own, and one may be longer than the model's sequences. The others are `items`."""
    prompts: str
    """Digest of what the model was asked; equal for paired records."""
    chance: Amount | None = None
    """Accuracy of guessing."""
    metrics: dict[str, Right | list[Signed]]
    """By metric: a string of 0 and 1 where every item is wrong or right, else its values."""
    answers: list[Count] | None = None
    """The choice taken: the likeliest as a whole."""
    truth_nll: list[Signed] | None = None
    """Negative logarithm of the right choice's share of the likelihood of all choices."""
    scores: list[Signed] | None = None
    """Of sentence pairs: how alike people found them; the rank correlation of the metric with these is what counts."""


class QualityRecord(Record, frozen=True, kw_only=True):
    """One line of quality.jsonl."""

    schema: int = SCHEMA
    id: str
    """Digest of model, configuration and factors: equal for the same configuration in every run."""
    index: Count
    status: Literal["ok", "failed"]
    failure: Failure | None = None
    model: CheckpointRecord
    config: dict[str, Any]
    """The configuration as the contract's FILE."""
    origin: str
    """Why it was measured: dense, given, or sample."""
    factors: FactorsUsed
    """How factors were computed: from the weights alone, or from calibration text too; none where none are."""
    calibration: CalibrationSource | None = None
    """Of factors fitted to a text."""
    artefact: Source | None = None
    """The factored folder that was measured as it is; None for factors that were computed here."""
    strata: Strata
    params: PositiveCount
    """Of the configuration."""
    text: TextRecord | None = None
    tasks: tuple[TaskRecord, ...] = ()
    seconds: dict[str, Amount]
    """What building, text and tasks took."""
    environment: dict[str, Any]
    started: str
    """UTC, ISO 8601."""

    def spec(self) -> ModelSpec:
        """The structure of the model, rebuilt from the record."""
        return spec_from_config(
            self.model.config, name=self.model.name, source=f"record {self.id}", num_layers=self.model.num_layers
        )

    def decomposition(self, spec: ModelSpec) -> Decomposition:
        """The configuration, checked against `spec`."""
        return Decomposition.from_json(self.config, spec, where=f"record {self.id}")

    @property
    def is_final(self) -> bool:
        """Whether measuring again would give the same: it succeeded, or failed for a reason of its own."""
        return self.failure is None or self.failure.kind in FINAL

    @property
    def is_dense(self) -> bool:
        """Whether it is the dense checkpoint."""
        return not self.config.get("ranks") and not self.config.get("drop") and self.artefact is None


def unmeasured(
    case: QualityCase,
    spec: ModelSpec,
    model: CheckpointRecord,
    *,
    calibration: CalibrationSource | None,
    failure: Failure | None,
    started: str,
) -> QualityRecord:
    """The record of a case without any result, at index 0.

    Args:
        calibration: of the run; kept where the case's factors are fitted to it.
        started: UTC, ISO 8601.
    """
    return QualityRecord(
        id=case.id(spec, model.sha256),
        index=0,
        status="failed" if failure else "ok",
        failure=failure,
        model=model,
        config=case.decomposition.to_json(),
        origin=case.origin,
        factors=case.kind,
        calibration=calibration if case.kind not in ("none", "plain") and case.artefact is None else None,
        artefact=case.artefact,
        strata=strata_of(spec, case.decomposition),
        params=params_of(spec, case.decomposition),
        seconds={},
        environment={},
        started=started,
    )


def check_quality(record: QualityRecord) -> None:
    """Raise where the values of a record do not go together.

    Raises:
        CostModelError: when its model or configuration is none, or rows of numbers are of unequal length.
    """
    record.decomposition(record.spec())
    if (record.status == "ok") != (record.failure is None):
        raise RecordError("status and failure do not agree", value=record.status)
    if text := record.text:
        lengths = {name: len(getattr(text, name)) for name in ("tokens", "nll", "kl", "flips", "hits")}
        if len(set(lengths.values())) > 1 or not text.tokens:
            raise RecordError("rows of the text are of unequal length", value=lengths)
    for task in record.tasks:
        rows = {**task.metrics, "answers": task.answers, "truth_nll": task.truth_nll, "scores": task.scores}
        uneven = [name for name, row in rows.items() if row is not None and len(row) != task.items]
        if uneven:
            raise RecordError(f"{task.name}: {uneven[0]} has not one entry per item", allowed=str(task.items))


QUALITY = RecordFormat(
    kind=QualityRecord,
    schema=SCHEMA,
    file="quality.jsonl",
    settings=NAME,
    noun="record",
    manual="docs/quality.md",
    check=check_quality,
)
"""The records of a quality run."""
