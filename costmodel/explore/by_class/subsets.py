"""Sets of places with given numbers from each group, as masks in ascending order, one at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence


def grouped_subsets(group_of: Sequence[int], numbers: Sequence[int]) -> Iterator[int]:
    """Masks over places (bit i is place i) that hold `numbers[g]` places of each group g, in ascending order.

    The next mask sets the lowest bit that can be paid for by a lower chosen place of the same group; below it every
    group takes its lowest places.

    Args:
        group_of: the group of each place, -1 for a place that is never chosen.
        numbers: how many places of each group are chosen; none where a group has fewer.
    """
    places: list[list[int]] = [[] for _ in numbers]
    for place, group in enumerate(group_of):
        if group >= 0:
            places[group].append(place)
    if any(number > len(members) for number, members in zip(numbers, places, strict=True)):
        return

    def lowest(wanted: Sequence[int]) -> int:
        return sum(1 << place for number, members in zip(wanted, places, strict=True) for place in members[:number])

    mask: int | None = lowest(numbers)
    while mask is not None:
        yield mask
        mask = _following(mask, group_of, len(numbers), lowest)


def _following(mask: int, group_of: Sequence[int], groups: int, lowest: Callable[[Sequence[int]], int]) -> int | None:
    """The next larger mask with the same numbers, None after the last one."""
    below = [0] * groups
    for place, group in enumerate(group_of):
        if group < 0:
            continue
        if mask >> place & 1:
            below[group] += 1
        elif below[group]:
            below[group] -= 1
            return mask >> (place + 1) << (place + 1) | 1 << place | lowest(below)
    return None
