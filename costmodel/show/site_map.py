"""What is known of every weight of a model as a picture: layers across, tensors down, the more the deeper its colour.

A page draws it as SVG whose text keeps its size at any width, without a script (`pages/site_map.html`);
`site_map_plot.py` draws the same into files.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from costmodel.arrays import Floats
from costmodel.decomposition.factors import Decomposition, Factor, Form, LowRank, Site, break_even_rank
from costmodel.decomposition.sites import column_labels, site_mask
from costmodel.model import ModelSpec
from costmodel.tensors import WeightTensor
from costmodel.units import significant

_SPAN = 1000.0
"""Values smaller than the largest by more than this are as pale as any."""
_EVEN = 10.0
"""Values whose largest is at most this many times the least have an even scale from 0, others a logarithmic one."""
_LETTER, _MARGIN, _BESIDE = 7.4, 10, 14
"""Width of a letter and of the gap behind a name, px; the most letters of a name that stands beside its row."""
_CELL, _NAME, _AXIS = 18, 17, 36
"""Height of a row, of a name above one, and of what stands below all rows, px."""
_NARROW, _TICK = 250, 26
"""Width of all cells on the narrowest screen, and the room that a layer's number needs, px."""
_TICKS = (1, 2, 4, 5, 8, 10, 16, 20, 25, 50, 100, 200, 500)

Kind = Literal["value", "dense", "above", "dropped"]


@dataclass(frozen=True, slots=True)
class Cell:
    """One weight, or an entry of the legend.

    Attributes:
        text: what it holds, in words.
        kind: a value is coloured by its shade, the others have a colour each; `above` is a rank above break-even.
        shade: 0 the palest to 1 the deepest.
    """

    text: str
    kind: Kind = "value"
    shade: float = 0.0


DENSE, DROPPED = Cell("dense", "dense"), Cell("layer dropped", "dropped")
_RANKS = (
    Cell("rank 1", shade=1.0),
    Cell("25 %", shade=0.5),
    Cell("50 %", shade=1 - 0.5**0.5),
    Cell("100 % of break-even", shade=0.0),
    Cell("above", "above"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteMap:
    """The picture.

    Attributes:
        title: what is shown, in which unit.
        name: of the picture in its page.
        tensors: names of the rows.
        rows: the cells of each tensor, layer by layer; None where a layer has no such tensor.
        key: the legend.
    """

    title: str
    name: str
    tensors: Sequence[str]
    rows: Sequence[Sequence[Cell | None]]
    key: Sequence[Cell]

    @property
    def layers(self) -> int:
        """How many there are."""
        return len(self.rows[0])

    @property
    def names_above(self) -> bool:
        """Whether names stand above their rows, as they would leave the cells no room beside them."""
        return max(map(len, self.tensors)) > _BESIDE

    @property
    def left(self) -> int:
        """Where cells begin, px."""
        return 0 if self.names_above else round(_LETTER * max(map(len, self.tensors))) + _MARGIN

    @property
    def step(self) -> int:
        """Height of a row with its name, px."""
        return _CELL + _NAME * self.names_above

    @property
    def height(self) -> int:
        """Of the picture, px."""
        return self.step * len(self.rows) + _AXIS

    @property
    def ticks(self) -> range:
        """The layers whose numbers are shown: as many as have room on a narrow screen."""
        room = _NARROW / self.layers
        return range(0, self.layers, next((step for step in _TICKS if step * room >= _TICK), self.layers))

    @property
    def summary(self) -> str:
        """The picture in a sentence, for those who cannot see it."""
        cells = [
            (cell, f"layer {layer} {name}")
            for name, row in zip(self.tensors, self.rows, strict=True)
            for layer, cell in enumerate(row)
            if cell is not None
        ]
        values = [each for each in cells if each[0].kind == "value"]
        said = [f"{len(cells)} weights by layer and tensor, {sum(cell.kind == 'dense' for cell, _ in cells)} dense"]
        if values:
            cell, where = max(values, key=lambda each: each[0].shade)
            said.append(f"deepest {where}: {cell.text}")
        return f"{self.title}: {'; '.join(said)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """From values to shades, evenly from 0 on or by their logarithms.

    Attributes:
        low, high: the values of the palest and the deepest colour.
        log: whether by logarithms.
    """

    low: float
    high: float
    log: bool

    @classmethod
    def of(cls, values: Floats) -> Scale:
        """One that holds these values, of any shape; what is not finite or not above 0 is left to the palest."""
        some = values[np.isfinite(values) & (values > 0)]
        if not some.size:
            return cls(low=0.0, high=1.0, log=False)
        low, high = float(some.min()), float(some.max())
        if high <= _EVEN * low:
            return cls(low=0.0, high=high, log=False)
        return cls(low=max(low, high / _SPAN), high=high, log=True)

    def shade(self, value: float) -> float:
        """Place of a value, from 0 to 1."""
        if value <= self.low:
            return 0.0
        share = np.log(value / self.low) / np.log(self.high / self.low) if self.log else value / self.high
        return min(1.0, float(share))

    def key(self, unit: str) -> list[Cell]:
        """Five entries of a legend."""
        cells = []
        for shade in (0.0, 0.25, 0.5, 0.75, 1.0):
            value = self.low * (self.high / self.low) ** shade if self.log else shade * self.high
            least = "at most " * (shade == 0.0 and self.log)
            cells.append(Cell(least + significant(value, 2) + f" {unit}" * (shade == 1.0), shade=shade))
        return cells


def rank_cell(factor: Factor, tensor: WeightTensor) -> Cell:
    """The colour of a factor: the deeper the lower its rank, as a share of the one at which nothing is saved."""
    form: Form = "svd" if isinstance(factor, LowRank) else "tucker"
    share = max(factor.ranks) / max(1, break_even_rank(tensor.out_features, tensor.in_features, form))
    ranks = " and ".join(str(rank) for rank in dict.fromkeys(factor.ranks))
    text = f"rank {ranks} ({100 * share:.0f} % of break-even)"
    return Cell(text, "above") if share > 1 else Cell(text, shade=1 - share**0.5)


def rank_map(title: str, name: str, config: Decomposition, model: ModelSpec) -> SiteMap:
    """The ranks of a configuration."""

    def cell(layer: int, tensor: WeightTensor) -> Cell:
        factor = config.factors.get(Site(layer, tensor.name))
        return DENSE if factor is None else rank_cell(factor, tensor)

    return _map(
        title,
        name,
        model,
        [
            [DROPPED if layer in config.dropped else cell(layer, tensor) for tensor in model.tensors]
            for layer in range(model.num_layers)
        ],
        [*_RANKS, DENSE, *[DROPPED] * bool(config.dropped)],
    )


def value_map(
    title: str,
    name: str,
    model: ModelSpec,
    values: Floats,
    unit: str,
    scale: Scale | None = None,
    dropped: frozenset[int] = frozenset(),
    dense: bool = True,
) -> SiteMap:
    """A number of each weight.

    Args:
        values: float64 (layers, tensors), NaN for a dense weight.
        unit: of the values.
        scale: of their colours; None for one that holds them.
        dropped: layers that are left out.
        dense: whether any weight is, or may come to be.
    """
    scale = scale or Scale.of(values)
    cells = [
        [
            DENSE if np.isnan(value) else Cell(f"{significant(value, 3)} {unit}", shade=scale.shade(value))
            for value in row
        ]
        for row in values.tolist()
    ]
    cells = [[DROPPED] * len(row) if layer in dropped else row for layer, row in enumerate(cells)]
    return _map(title, name, model, cells, [*scale.key(unit), *[DENSE] * dense, *[DROPPED] * bool(dropped)])


def _map(title: str, name: str, model: ModelSpec, cells: Sequence[Sequence[Cell]], key: Sequence[Cell]) -> SiteMap:
    """Cells [layer][tensor], those of weights that a layer has not left out."""
    there = site_mask(model)
    rows = [
        [cells[layer][column] if there[layer, column] else None for layer in range(model.num_layers)]
        for column in range(len(model.tensors))
    ]
    return SiteMap(title=title, name=name, tensors=column_labels(model), rows=rows, key=key)
