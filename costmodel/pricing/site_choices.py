"""What passes are put together from, where every site chooses among the same forms and ranks."""

from __future__ import annotations

from dataclasses import dataclass

from costmodel.arrays import Ints
from costmodel.pricing.costs import Additive


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteChoices:
    """What passes that keep every layer are put together from, for choices of form and ranks that any layer can make.

    Attributes:
        outside: costs outside the layers, shape ().
        layers: costs of each layer outside its tensors, shape (layers,).
        sites: costs of the choices, shape (choices, tensors).
        site_live: int64 (layers, choices, tensors): live bytes of activations while a choice's linears run.
        other_live: the most live bytes while anything else runs.
    """

    outside: Additive
    layers: Additive
    sites: Additive
    site_live: Ints
    other_live: int
