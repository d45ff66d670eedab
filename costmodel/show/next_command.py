"""What to run after a recommendation, as a line to copy."""

from __future__ import annotations

import dataclasses
import enum
import shlex

from costmodel.explore.recommendation import Recommendation
from costmodel.forward.workload import Workload
from costmodel.pricing.setup import WorkloadSettings

_ROWS_OWN = ("model", "hw", "phase", "batch", "seq_len", "kv_len", "new_tokens")
"""Fields of a question that a row answers for itself."""
_MEASURED = ("--dtype", "--runtime", "--attention", "--calibration")
"""Options that `validate` takes too."""
_RECIPE = "recipe.toml"


def next_command(row: Recommendation, settings: WorkloadSettings, saved: str | None = None) -> str:
    """What to run to verify a recommendation, or to see where the time goes where there is none; `saved` is the recipe
    that holds it already, which is written first where there is none.

    `validate` measures on one device, the dense model beside the factored one: it follows where one device holds the
    dense model, without the options that share it out, and where the model's folder is the dense one.
    """
    work = row.workload
    words = _question(work, settings)
    said = _said(settings)
    here = [*words, *(word for option in said.items() for word in option)]
    if row.config is None or row.spec is None or row.spec == "dense":
        return shlex.join(["costmodel", "roofline", *here])
    named = ["--recipe", saved] if saved else ["--decompose", row.spec, "--save-recipe", _RECIPE]
    first = shlex.join(["costmodel", "estimate", *here, *named])
    if not row.held_by_one or row.model.factored is not None:
        return first
    there = [*words, *(word for name in _MEASURED if name in said for word in (name, said[name]))]
    measure = shlex.join(["validate", *there, "--configs", saved or _RECIPE])
    return measure if saved else f"{first} && {measure}"


def _question(work: Workload, settings: WorkloadSettings) -> list[str]:
    """Model, device and pass as options."""
    words = ["--model", settings.model, "--hw", settings.hw, "--phase", work.phase.value, "--batch", str(work.batch)]
    return words + (["--seq-len", str(work.q_len)] if work.phase.value == "prefill" else ["--kv-len", str(work.kv_len)])


def _said(settings: WorkloadSettings) -> dict[str, str]:
    """The options of a question that are not its defaults, but for those of which a row has its own."""
    said = {}
    for item in dataclasses.fields(settings):
        value = getattr(settings, item.name)
        if item.name in _ROWS_OWN or value is None or value == item.default:
            continue
        option = item.metadata.get("option", f"--{item.name.replace('_', '-')}")
        name = option if isinstance(option, str) else option[0]
        said[name] = str(value.value if isinstance(value, enum.Enum) else value)
    return said
