"""Estimates of one model side by side, as the contract's JSON."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from costmodel.pricing.estimate import SCHEMA, Estimate
from costmodel.pricing.several import Refusal


def comparison_json(results: Sequence[Estimate | Refusal]) -> dict[str, Any]:
    """Estimates of one model side by side: an entry of `phases` for each, with `hardware` and `stack` in its workload,
    and one of `request` for each where requests were priced. Of what cannot be answered, all but the workload and the
    verdict that says why is null. At least one of the results is an estimate."""
    answered = [result.to_json() for result in results if isinstance(result, Estimate)]
    told = iter(answered)
    phases: list[dict[str, Any]] = []
    requests = []
    for result in results:
        if isinstance(result, Refusal):
            phases += result.rows(answered[0]["phases"][0])
            continue
        answer = next(told)
        for phase, entry in zip(result.phases, answer["phases"], strict=True):
            asked = {**entry["workload"], "hardware": result.hardware.name, "stack": phase.workload.stack}
            phases.append({**entry, "workload": asked})
        if answer["request"]:
            requests.append({"workload": phases[-len(result.phases)]["workload"], **answer["request"]})
    return {
        "schema": SCHEMA,
        "model": answered[0]["model"],
        "hardware": list(dict.fromkeys(entry["workload"]["hardware"] for entry in phases)),
        "decomposition": answered[0]["decomposition"],
        "phases": phases,
        "request": requests or None,
        "assumptions": list(dict.fromkeys(text for answer in answered for text in answer["assumptions"])),
        "warnings": list(dict.fromkeys(text for answer in answered for text in answer["warnings"])),
    }
