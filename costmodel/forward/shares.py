"""By how many devices a model is shared out."""

from __future__ import annotations


class Shares:
    """What a workload and the place of a question say alike of their `tp`, `ep` and `pp`, each a number of devices."""

    __slots__ = ()
    tp: int
    ep: int
    pp: int

    @property
    def devices(self) -> int:
        """All that take part."""
        return self.tp * self.ep * self.pp

    @property
    def split(self) -> dict[str, int]:
        """By how many devices what is shared out; tensor parallelism always."""
        return {"tp": self.tp, **{name: size for name, size in (("ep", self.ep), ("pp", self.pp)) if size > 1}}
