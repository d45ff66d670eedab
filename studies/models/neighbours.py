"""Counts of what stands between two neighbours, interpolated with what follows the left and precedes the right one."""

from __future__ import annotations

import numpy as np

from studies.models.ngram import Floats, Ints, KneserNey, Level, contexts_of, keys_of

WEIGHTS = (0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
"""Exponents of both sides that are tried; 1 is Bayes' rule for sides that are independent given the token."""
SIDES = (2, 3, 4)
"""Orders that are tried of the n-grams on either side."""


class Neighbours:
    """p(token | tokens on both sides) from counts alone.

    Left and right Kneser-Ney n-grams are multiplied, p_left^a p_right^a p^(1 - 2a) over its sum, and that is what the
    counts between the nearest pair of neighbours fall back to: their counts, discounted, take the rest.

    Args:
        tokens: int64 (tokens,), each below `vocabulary`.
        vocabulary: of tokens; as a neighbour the number itself stands for a token that is not known.
    """

    def __init__(self, tokens: Ints, vocabulary: int) -> None:
        self.vocabulary = vocabulary
        self._left = {order: KneserNey(tokens, order, vocabulary) for order in SIDES}
        self._right = {order: KneserNey(tokens[::-1], order, vocabulary) for order in SIDES}
        triples = np.stack([tokens[:-2], tokens[2:], tokens[1:-1]], axis=1)  # the middle after the pair around it
        self._between = Level.counted(*np.unique(keys_of(triples, vocabulary), return_counts=True), vocabulary)
        self._alone = KneserNey(tokens, 1, vocabulary).distribution(np.zeros((1, 0), dtype=np.int64))

    def distribution(self, left: Ints, right: Ints, *, order: int, weight: float) -> Floats:
        """Left neighbours, the nearest last, and right ones, the nearest last too, both (rows, order - 1), to
        (rows, vocabulary)."""
        logs = weight * np.log(self._left[order].distribution(left))
        logs += weight * np.log(self._right[order].distribution(right))
        logs += (1 - 2 * weight) * np.log(self._alone)
        sides = np.exp(logs - logs.max(axis=1, keepdims=True))
        sides /= sides.sum(axis=1, keepdims=True)
        pairs = np.stack([left[:, -1], right[:, -1]], axis=1)
        return self._between.interpolate(keys_of(pairs, self.vocabulary), sides)

    def losses(self, rows: Ints, where: tuple[Ints, Ints], targets: Ints, *, chunk: int = 4096) -> dict[str, float]:
        """Mean loss at the positions of each setting, nats.

        Args:
            rows: (rows, length), `vocabulary` where a token is not known.
            where: rows and columns of the positions.
            targets: what stood there (positions,).
        """
        found: dict[str, float] = {}
        for order in SIDES:
            left = contexts_of(rows, order, self.vocabulary)[where]
            flipped = (where[0], rows.shape[1] - 1 - where[1])
            right = contexts_of(rows[:, ::-1], order, self.vocabulary)[flipped]
            for weight in WEIGHTS:
                total = 0.0
                for start in range(0, len(targets), chunk):
                    part = slice(start, start + chunk)
                    chances = self.distribution(left[part], right[part], order=order, weight=weight)
                    total -= float(np.log(chances[np.arange(len(chances)), targets[part]]).sum())
                found[f"order {order}, weight {weight:g}"] = total / len(targets)
        return found
