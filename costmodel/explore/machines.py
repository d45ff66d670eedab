"""Explorations of one model on several numbers of devices: the smallest machine that keeps the limits."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from costmodel.explore.explore import Exploration
from costmodel.forward.workload import Workload


def by_machine(results: Iterable[Exploration]) -> list[list[Exploration]]:
    """The explorations in groups that differ in the number of devices alone, fewest first."""
    groups: dict[object, list[Exploration]] = {}
    for result in results:
        works = tuple(_alone(work) for work in result.workloads)
        groups.setdefault((result.hardware, works), []).append(result)
    return [sorted(group, key=devices_of) for group in groups.values()]


def _alone(work: Workload) -> Workload:
    return replace(work, tp=1, ep=1, pp=1)


def devices_of(result: Exploration) -> int:
    """Devices that take part."""
    return result.workloads[0].devices


def fewest_devices(group: Sequence[Exploration]) -> Exploration | None:
    """The first of a group of `by_machine` of which some configuration keeps the limits."""
    return next((result for result in group if result.answer.top), None)
