"""Answers that a notebook shows: the library's own, with a short repr, tables, frames and pictures."""

from __future__ import annotations

import html
import importlib
import textwrap
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from costmodel.errors import InputError
from costmodel.explore.beside import Beside
from costmodel.explore.explore import Exploration
from costmodel.explore.recommendation import Recommendation
from costmodel.pricing.comparison import comparison_json
from costmodel.pricing.estimate import Estimate
from costmodel.pricing.several import Refusal
from costmodel.show import exploration
from costmodel.show.comparison import Table, estimates_table, explorations_table
from costmodel.show.recommendation import csv_rows as recommended_rows
from costmodel.show.recommendation import recommendations_json, recommendations_table
from costmodel.show.report import comparison_csv_rows, configuration_text, csv_rows

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_ROWS = 8
"""Rows of a short repr."""


def _wrapped(configuration: str) -> list[str]:
    """A configuration below its row, in lines that fit a notebook."""
    return textwrap.wrap(
        configuration,
        100,
        initial_indent="    ",
        subsequent_indent="      ",
        break_long_words=False,
        break_on_hyphens=False,
    )


class Shown(ABC):
    """What every answer can do: show itself, become a frame, a dictionary and a picture."""

    __slots__ = ()

    @abstractmethod
    def to_dict(self) -> dict[str, Any]:
        """The command's JSON."""

    @abstractmethod
    def plot(self) -> Figure:
        """A picture of the answer."""

    @abstractmethod
    def _table(self) -> Table:
        """The answer as the command's comparison."""

    @abstractmethod
    def _rows(self) -> list[dict[str, object]]:
        """The rows of the command's CSV."""

    def _below(self) -> Sequence[str]:
        """What a short repr has below each row: a configuration that no column says."""
        return ()

    def __repr__(self) -> str:
        table, own = self._table(), self._below()
        lines = []
        for number, row in enumerate(table.rows[:_ROWS]):
            lines.append(f"  {' '.join(f'{name} {cell}' for name, cell in zip(table.columns, row, strict=True))}")
            lines += _wrapped(own[number]) if own and own[number] else []
        return "\n".join([table.title, *lines, *(["  ..."] if len(table.rows) > _ROWS else [])])

    def _repr_html_(self) -> str:
        """The answer as a table, for notebooks."""
        table = self._table()
        head = "".join(f"<th>{html.escape(name)}</th>" for name in table.columns)
        body = "".join(f"<tr>{''.join(f'<td>{html.escape(cell)}</td>' for cell in row)}</tr>" for row in table.rows)
        notes = "".join(f"<li>{html.escape(note)}</li>" for note in table.notes)
        title = f"<caption>{html.escape(table.title)}</caption>"
        return f"<table>{title}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table><ul>{notes}</ul>"

    def to_frame(self) -> Any:
        """The rows of the command's CSV as a pandas DataFrame.

        Raises:
            InputError: when pandas is not installed.
        """
        try:
            pandas = importlib.import_module("pandas")
        except ImportError as error:
            raise InputError("a frame needs pandas", hint="pip install pandas, or use .to_dict()") from error
        return pandas.DataFrame(self._rows())


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class EstimateAnswer(Shown, Estimate):
    """An estimate, as `costmodel estimate` gives it."""

    @classmethod
    def of(cls, result: Estimate) -> EstimateAnswer:
        return cls(**{field.name: getattr(result, field.name) for field in fields(Estimate)})

    def to_dict(self) -> dict[str, Any]:
        """The command's JSON."""
        return self.to_json()

    def plot(self) -> Figure:
        """Where the device's time goes, dense over decomposed.

        Raises:
            InputError: when matplotlib is not installed.
        """
        from costmodel.show.time_plot import time_figure

        return time_figure(self)

    def _table(self) -> Table:
        return estimates_table([self])

    def _rows(self) -> list[dict[str, object]]:
        return csv_rows(self)


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class ExplorationAnswer(Shown, Exploration):
    """An exploration, as `costmodel explore` gives it."""

    beside: Beside | None = None
    """The recipe that was named, or what the model's folder holds, priced as the configurations of the space are."""

    @classmethod
    def of(cls, result: Exploration, beside: Beside | None = None) -> ExplorationAnswer:
        return cls(**{field.name: getattr(result, field.name) for field in fields(Exploration)}, beside=beside)

    def to_dict(self) -> dict[str, Any]:
        """The command's JSON."""
        return self.to_json() | ({} if self.beside is None else {self.beside.source: self.beside.to_json()})

    def plot(self) -> Figure:
        """The frontier of the first two objectives.

        Raises:
            InputError: when fewer than two were asked for, or matplotlib is not installed.
        """
        from costmodel.show.explore_plot import frontier_figure

        return frontier_figure(self)

    def _table(self) -> Table:
        return explorations_table([self])

    def _below(self) -> Sequence[str]:
        if self.beside is None:
            return ()
        source, *cells = exploration.beside_row(self, self.beside)
        return (f"{source}: {', '.join(cells)}",)

    def _rows(self) -> list[dict[str, object]]:
        return exploration.csv_rows(self, self.beside)


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Comparison(Shown, Sequence[EstimateAnswer]):
    """Estimates of one configuration side by side: a sequence of those that there are; `refused` has the others."""

    answers: tuple[EstimateAnswer | Refusal, ...]
    """Of each question in order."""

    @property
    def results(self) -> tuple[EstimateAnswer, ...]:
        """The estimates."""
        return tuple(each for each in self.answers if isinstance(each, EstimateAnswer))

    @property
    def refused(self) -> tuple[Refusal, ...]:
        """The questions that cannot be answered, and why."""
        return tuple(each for each in self.answers if isinstance(each, Refusal))

    def __len__(self) -> int:
        return len(self.results)

    def __getitem__(self, index: Any) -> Any:
        return self.results[index]

    def __iter__(self) -> Iterator[EstimateAnswer]:
        return iter(self.results)

    def to_dict(self) -> dict[str, Any]:
        """The command's JSON of several."""
        return comparison_json(self.answers)

    def plot(self) -> Figure:
        """What is left of each row's dense latency, with the interval of the saving; of dense models, their latencies.

        Raises:
            InputError: when matplotlib is not installed.
        """
        from costmodel.show.share_plot import comparison_figure

        return comparison_figure(self.results)

    def _table(self) -> Table:
        return estimates_table(self.answers)

    def _rows(self) -> list[dict[str, object]]:
        return [row for each in self.answers for row in comparison_csv_rows(each)]


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Recommendations(Shown, Sequence[Recommendation]):
    """Recommendations, one for each device, stack and workload: a sequence of those that there are; `refused` has the
    others."""

    answers: tuple[Recommendation | Refusal, ...]
    """Of each question in order."""
    following: tuple[str | None, ...]
    """The next command of each."""

    @property
    def rows(self) -> tuple[Recommendation, ...]:
        """The recommendations."""
        return tuple(each for each in self.answers if isinstance(each, Recommendation))

    @property
    def refused(self) -> tuple[Refusal, ...]:
        """The questions that cannot be answered, and why."""
        return tuple(each for each in self.answers if isinstance(each, Refusal))

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: Any) -> Any:
        return self.rows[index]

    def __iter__(self) -> Iterator[Recommendation]:
        return iter(self.rows)

    def to_dict(self) -> dict[str, Any]:
        """The command's JSON."""
        return recommendations_json(self.answers, self.following)

    def plot(self) -> Figure:
        """What each recommendation leaves of the cost that the goal is about, beside the goal.

        Raises:
            InputError: when matplotlib is not installed.
        """
        from costmodel.show.share_plot import recommendations_figure

        return recommendations_figure(self.rows)

    def _table(self) -> Table:
        return recommendations_table(self.answers)

    def _below(self) -> Sequence[str]:
        found: list[str] = []
        for row in self.answers:
            if isinstance(row, Refusal):
                found += [""] * len(row.places)
            else:
                found.append("" if row.config is None else configuration_text(row.config, row.model))
        return found

    def _rows(self) -> list[dict[str, object]]:
        return [
            line
            for row, command in zip(self.answers, self.following, strict=True)
            for line in recommended_rows(row, command)
        ]
