"""Configurations that a user names: files, lists of them, SPECs. No torch."""

from __future__ import annotations

from collections.abc import Sequence

from costmodel.decomposition.factors import load_decomposition
from costmodel.decomposition.text import parse_decomposition
from costmodel.model import ModelSpec
from validate.factors.kinds import FactorsUsed
from validate.plans.configs_file import load_configs
from validate.quality.case import QualityCase


def given_cases(
    spec: ModelSpec, *, config: Sequence[str], configs: str | None, decompose: Sequence[str], factors: FactorsUsed
) -> list[QualityCase]:
    """Each file, each entry of a list, and each SPEC as a case of its own.

    Raises:
        DecompositionError: when one cannot be read or does not fit `spec`.
    """
    found = [load_decomposition(path, spec) for path in config]
    found += load_configs(configs, spec) if configs is not None else []
    found += [parse_decomposition([text], spec) for text in decompose]
    return [QualityCase(decomposition=each, factors=factors) for each in found]
