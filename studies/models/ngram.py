"""Interpolated n-grams with modified Kneser-Ney smoothing: the baseline that a model of text has to beat."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse  # type: ignore[import-untyped]

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Level:
    """One order: what was counted after each context, discounted.

    Attributes:
        contexts: keys of the contexts, ascending (contexts,).
        shares: discounted counts over the context's total (contexts, vocabulary).
        rests: what the discounts leave to the next lower order (contexts,).
    """

    contexts: Ints
    shares: sparse.csr_matrix
    rests: Floats

    @classmethod
    def counted(cls, keys: Ints, counts: Ints, vocabulary: int) -> Level:
        """From the keys of distinct n-grams, ascending, and how often each counts."""
        base = vocabulary + 1
        discounts = _discounts(counts)[np.minimum(counts, 3)]
        contexts, starts = np.unique(keys // base, return_index=True)
        totals = np.add.reduceat(counts, starts).astype(np.float64)
        ends = np.append(starts, len(keys))
        kept = (counts - discounts) / np.repeat(totals, np.diff(ends))
        shares = sparse.csr_matrix((kept, keys % base, ends), shape=(len(contexts), vocabulary))
        return cls(contexts=contexts, shares=shares, rests=np.add.reduceat(discounts, starts) / totals)

    def interpolate(self, keys: Ints, lower: Floats) -> Floats:
        """The distributions after contexts (rows,), of which the rest goes to `lower` (rows, vocabulary): all of it
        after a context that was never seen. `lower` is overwritten."""
        at = np.minimum(np.searchsorted(self.contexts, keys), len(self.contexts) - 1)
        known = self.contexts[at] == keys
        lower[known] *= self.rests[at[known], None]
        lower[known] += self.shares[at[known]].toarray()
        return lower


class KneserNey:
    """p(token | the tokens before it), with every order from `order` down to one token interpolated.

    Discounts of counts one, two, and three and more from the counts of counts, lower orders from the numbers of
    distinct tokens before (Chen and Goodman 1999, section 3; at the bottom a uniform distribution).

    Args:
        tokens: int64 (tokens,), each below `vocabulary`.
        order: tokens of the longest n-gram, 1 to 5.
        vocabulary: of tokens; in a context the number itself stands for a token that is not known.
    """

    def __init__(self, tokens: Ints, order: int, vocabulary: int) -> None:
        self.order, self.vocabulary = order, vocabulary
        self._levels = self._count(np.asarray(tokens, dtype=np.int64))

    def distribution(self, contexts: Ints) -> Floats:
        """The distribution after each context: (rows, order - 1), the nearest token last, to (rows, vocabulary)."""
        result = np.full((len(contexts), self.vocabulary), 1 / self.vocabulary)
        for length, level in enumerate(self._levels):
            result = level.interpolate(keys_of(contexts[:, contexts.shape[1] - length :], self.vocabulary), result)
        return result

    def losses(self, contexts: Ints, targets: Ints, *, rows: int = 4096) -> Floats:
        """-log p of each target (rows,) after its context (rows, order - 1), nats."""
        found = []
        for start in range(0, len(targets), rows):
            part = self.distribution(contexts[start : start + rows])
            found.append(-np.log(part[np.arange(len(part)), targets[start : start + rows]]))
        return np.concatenate(found)

    def _count(self, tokens: Ints) -> list[Level]:
        """Orders from one token up; each but the highest counts distinct predecessors in place of occurrences."""
        levels: list[Level] = []
        grams = np.lib.stride_tricks.sliding_window_view(tokens, self.order)
        keys, counts = np.unique(keys_of(grams, self.vocabulary), return_counts=True)
        for length in range(self.order, 0, -1):
            levels.append(Level.counted(keys, counts, self.vocabulary))
            # without its first token, each distinct n-gram is one distinct predecessor of the rest
            keys, counts = np.unique(keys % (self.vocabulary + 1) ** (length - 1), return_counts=True)
        return levels[::-1]


def contexts_of(rows: Ints, order: int, unknown: int) -> Ints:
    """The `order - 1` tokens before each token of each row, padded with `unknown`: (rows, length, order - 1)."""
    padded = np.pad(rows, ((0, 0), (order - 1, 0)), constant_values=unknown)
    return np.lib.stride_tricks.sliding_window_view(padded, order, axis=1)[..., :-1]


def keys_of(grams: Ints, vocabulary: int) -> Ints:
    """Each row as one number; five tokens of a vocabulary up to 6,000 fit 63 bits."""
    keys = np.zeros(len(grams), dtype=np.int64)
    for column in range(grams.shape[1]):
        keys = keys * (vocabulary + 1) + grams[:, column]
    return keys


def _discounts(counts: Ints) -> Floats:
    """What is taken off counts 0, 1, 2, and 3 and more (Chen and Goodman 1999, equation 26)."""
    n1, n2, n3, n4 = (max(int((counts == value).sum()), 1) for value in (1, 2, 3, 4))
    share = n1 / (n1 + 2 * n2)
    found = [1 - 2 * share * n2 / n1, 2 - 3 * share * n3 / n2, 3 - 4 * share * n4 / n3]
    return np.array([0.0, *(min(max(each, 0.05), top - 0.05) for each, top in zip(found, (1, 2, 3), strict=True))])
