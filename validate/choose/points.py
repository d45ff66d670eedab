"""The configurations of a loop that are measured, each with the reason and what was predicted. No torch."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import msgspec

from costmodel.decomposition.factors import Decomposition
from costmodel.files.write import write_file
from validate.errors import RecordError
from validate.store.decode import Amount, Positive, PositiveCount, Signed, read_as
from validate.store.record_format import Record

NAME = "plan.json"
CONFIGS = "configs.json"
Role = Literal["frontier", "match", "baseline"]


class Point(Record, frozen=True, kw_only=True):
    """One configuration.

    Attributes:
        role: a point of the frontier spread over its cost, a point of the frontier at the cost of a baseline, or a
            baseline.
        rule: the space for points of the frontier; random, paper, uniform, or how layers are dropped for baselines.
        label: what tells it from others of the rule.
        config: the contract's FILE.
        params: of the configuration.
        costs: predicted; seconds by phase.
        quality: predicted increase of NLL in nats per token; None where the search predicts none.
    """

    role: Role
    rule: str
    label: str
    config: dict[str, Any]
    params: PositiveCount
    costs: dict[str, Positive]
    quality: Signed | None = None

    @property
    def key(self) -> str:
        """Equal for equal configurations."""
        return config_key(self.config)

    @property
    def told(self) -> bool:
        """Whether layers are dropped and nothing else; what that loses is measured for the search, not predicted."""
        return bool(self.config.get("drop")) and not self.config.get("ranks")


class Curve(Record, frozen=True, kw_only=True):
    """A predicted frontier, thinned for drawing.

    Attributes:
        space: homogeneous, per-site, or per-site beside dropped layers.
        objective: `prefill.latency_s`, `decode.latency_s` or `params`, against quality.
        count: points that it had.
        guarantee: how far it is exact.
        configurations: that were searched, a whole number as text: it may be beyond what JSON readers hold.
        seconds: that the search took.
        costs, qualities: of the points kept, cheapest first.
    """

    space: str
    objective: str
    count: int
    guarantee: str
    configurations: str
    seconds: Amount
    costs: list[Positive]
    qualities: list[Signed]


class Plan(Record, frozen=True, kw_only=True):
    """What is measured after the search, with the frontiers it is from.

    Attributes:
        points: a configuration may be in it for several reasons.
        curves: predicted frontiers.
        dense: predicted seconds of the dense model by phase.
        dense_params: its parameters.
        metric: what the quality file says that it predicts.
    """

    points: list[Point]
    curves: list[Curve]
    dense: dict[str, Positive]
    dense_params: PositiveCount
    metric: str

    def write(self, folder: Path, name: str = NAME) -> None:
        """Write the plan, and the distinct configurations for `validate --configs`."""
        distinct = {point.key: point.config for point in self.points}
        if name == NAME:
            write_file(folder / CONFIGS, json.dumps({"configs": list(distinct.values())}).encode() + b"\n")
        write_file(folder / name, msgspec.json.format(msgspec.json.encode(self), indent=1) + b"\n")

    @classmethod
    def read(cls, folder: Path, name: str = NAME) -> Plan:
        """The plan of a folder.

        Raises:
            RecordError: when there is none, or it is malformed.
        """
        return read_as(folder / name, cls, "plan of a loop", RecordError)


def round_name(number: int) -> str:
    """The file with the points of a round, counted from 1."""
    return f"round{number}.json"


def round_plans(folder: Path) -> list[Plan]:
    """Every search before the one that counts, in order."""
    plans: list[Plan] = []
    while (folder / round_name(len(plans) + 1)).exists():
        plans.append(Plan.read(folder, round_name(len(plans) + 1)))
    return plans


def found_keys(folder: Path) -> set[str]:
    """Keys of the configurations that the searches so far have found."""
    plans = round_plans(folder) + ([Plan.read(folder)] if (folder / NAME).exists() else [])
    return {point.key for plan in plans for point in plan.points if point.role != "baseline"}


def config_key(config: Mapping[str, Any]) -> str:
    """Equal for equal configurations."""
    return json.dumps(config, sort_keys=True)


def distinct(points: Iterable[Point]) -> list[Point]:
    """Points without a later one of the same configuration and role; for a baseline of the same rule too."""
    found: dict[tuple[str, str, str], Point] = {}
    for point in points:
        found.setdefault((point.role, point.rule if point.role == "baseline" else "", point.key), point)
    return list(found.values())


def decompositions(points: Sequence[Point], spec: Any) -> list[Decomposition]:
    """Distinct configurations of points, in order."""
    configs = {point.key: point.config for point in points}
    return [Decomposition.from_json(config, spec) for config in configs.values()]
