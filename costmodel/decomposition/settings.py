"""A configuration as options name it."""

from __future__ import annotations

from dataclasses import dataclass, field

from costmodel.decomposition.factors import Decomposition, load_decomposition
from costmodel.decomposition.text import parse_decomposition
from costmodel.model import ModelSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class DecompositionSettings:
    """Configuration file and SPECs; metadata is what `--help` says of each."""

    decompose: tuple[str, ...] = field(
        default=(),
        metadata={
            "metavar": "SPEC",
            "help": 'For example "layers=2,17,31 tensors=all rank=1 form=tucker"; repeatable, or joined by " + "; the '
            "later wins.",
        },
    )
    config: str | None = field(
        default=None, metadata={"metavar": "FILE", "help": "Configuration as JSON; SPECs apply on top."}
    )

    def load(self, model: ModelSpec) -> Decomposition:
        """The configuration file, if any, with every SPEC on top.

        Raises:
            DecompositionError: when one cannot be read or does not fit the model.
        """
        base = Decomposition() if self.config is None else load_decomposition(self.config, model)
        return parse_decomposition(self.decompose, model, base)
