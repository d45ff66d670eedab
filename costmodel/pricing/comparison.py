"""Estimates of one model side by side, as the contract's JSON."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from costmodel.pricing.estimate import SCHEMA, Estimate


def comparison_json(results: Sequence[Estimate]) -> dict[str, Any]:
    """Estimates of one model side by side: an entry of `phases` for each, with `hardware` and `stack` in its workload,
    and one of `request` for each where requests were priced."""
    answers = [result.to_json() for result in results]
    phases, requests = [], []
    for result, answer in zip(results, answers, strict=True):
        for phase, entry in zip(result.phases, answer["phases"], strict=True):
            asked = {**entry["workload"], "hardware": result.hardware.name, "stack": phase.workload.stack}
            phases.append({**entry, "workload": asked})
        if answer["request"]:
            requests.append({"workload": phases[-len(result.phases)]["workload"], **answer["request"]})
    return {
        "schema": SCHEMA,
        "model": answers[0]["model"],
        "hardware": list(dict.fromkeys(answer["hardware"] for answer in answers)),
        "decomposition": answers[0]["decomposition"],
        "phases": phases,
        "request": requests or None,
        "assumptions": list(dict.fromkeys(text for answer in answers for text in answer["assumptions"])),
        "warnings": list(dict.fromkeys(text for answer in answers for text in answer["warnings"])),
    }
