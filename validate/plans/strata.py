"""What kind of configuration a record is of."""

from __future__ import annotations

from validate.store.decode import Amount, Count
from validate.store.record_format import Record


class Strata(Record, frozen=True, kw_only=True):
    """The classes that sampling balances and reports group by."""

    form: str
    rank_class: Count
    """Largest of 64, 16, 8, 2, 1 that divides every rank; 0 where there is none."""
    tensors: str
    layers: Count
    """Factored or dropped layers."""
    param_ratio: Amount
    """Parameters of the configuration / of the dense model."""
