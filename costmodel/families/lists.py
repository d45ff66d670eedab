"""Lists of a config.json that say something of each layer, or name layers by their numbers.

A list of each layer may be longer than the model, as where fewer layers are asked for, and is cut.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from costmodel.families.fields import LIMITS, Fields

_MOST_SIZE = 10**6
_MOST = LIMITS["num_hidden_layers"]


def names(fields: Fields, name: str, known: Sequence[str]) -> list[str] | None:
    """Some of the names in `known`; None where the field is absent or null.

    Raises:
        ModelError: for anything else than a list of one at least.
    """
    value = fields.data.get(name)
    if value is None:
        return None
    chosen = [each for each in value if isinstance(each, str) and each in known] if isinstance(value, list) else []
    if not isinstance(value, list) or not 1 <= len(value) <= _MOST or len(chosen) < len(value):
        raise fields.error(name, f"a list of up to {_MOST:,} of {', '.join(known)}")
    return chosen


def names_by_layer(fields: Fields, name: str, layers: int, known: Sequence[str]) -> list[str] | None:
    """One of the names in `known` for each layer; None where the field is absent or null.

    Raises:
        ModelError: for anything else than such a list.
    """
    chosen = names(fields, name, known)
    if chosen is not None and len(chosen) < layers:
        raise fields.error(name, f"one entry for each of {layers} layers", f"found: {len(chosen)}")
    return None if chosen is None else chosen[:layers]


def marks_by_layer(fields: Fields, name: str, layers: int) -> list[bool] | None:
    """0 or 1, false or true, for each layer; None where the field is absent or null; errors as `names_by_layer`."""
    given = _by_layer(fields, name, layers)
    if given is None:
        return None
    if not all(type(each) in (int, bool) and each in (0, 1) for each in given):
        raise fields.error(name, f"0 or 1 for each of {layers} layers")
    return [bool(each) for each in given[:layers]]


def counts_by_layer(fields: Fields, name: str, layers: int, minimum: int = 1) -> list[int] | None:
    """A whole number from `minimum` on for each layer; None where the field is absent or null; errors as
    `names_by_layer`."""
    given = _by_layer(fields, name, layers)
    if given is None:
        return None
    counts = [each for each in given if type(each) is int and minimum <= each <= _MOST_SIZE]
    if len(counts) < len(given):
        raise fields.error(name, f"a whole number from {minimum} to {_MOST_SIZE:,} for each of {layers} layers")
    return counts[:layers]


def shares_by_layer(fields: Fields, name: str, layers: int, most: float) -> list[float]:
    """A number above 0 and up to `most` for each layer, which the file must give; errors as `names_by_layer`."""
    given = _by_layer(fields, name, layers) or []
    shares = [each for each in given if type(each) in (int, float) and 0 < each <= most]  # type: ignore[operator]
    if not shares or len(shares) < len(given):
        raise fields.error(name, f"a number above 0 and up to {most:,.0f} for each of {layers} layers")
    return [each for each in shares if isinstance(each, int | float)][:layers]


def objects(fields: Fields, name: str) -> list[Fields]:
    """The fields of each object of a list, which the file must give.

    Raises:
        ModelError: for anything else than a list of one object at least.
    """
    given = fields.data.get(name)
    parts = [each for each in given if isinstance(each, Mapping)] if isinstance(given, list) else []
    if not isinstance(given, list) or not 1 <= len(parts) <= _MOST or len(parts) < len(given):
        raise fields.error(name, f"a list of 1 to {_MOST:,} objects")
    return [fields.at(part, f"{fields.path}{name}[{place}].") for place, part in enumerate(parts)]


def layer_numbers(fields: Fields, name: str, first: int = 0) -> list[int] | None:
    """Numbers of layers, the first of which has the number `first`; None where the field is absent or null.

    Raises:
        ModelError: for anything else than a list of such numbers.
    """
    given = fields.data.get(name)
    if given is None:
        return None
    numbers = [each for each in given if type(each) is int] if isinstance(given, list) else []
    if not isinstance(given, list) or len(numbers) < len(given) or not all(first <= n <= _MOST for n in numbers):
        raise fields.error(name, f"a list of numbers of layers from {first} on")
    return numbers


def texts(fields: Fields, name: str) -> list[str]:
    """A list of texts; none where the field is absent or null.

    Raises:
        ModelError: for anything else.
    """
    given = fields.data.get(name)
    found = [each for each in given if isinstance(each, str)] if isinstance(given, list) else []
    if given is not None and (not isinstance(given, list) or len(found) < len(given)):
        raise fields.error(name, "a list of texts or null")
    return found


def words_between(fields: Fields, name: str, known: Sequence[str]) -> list[str]:
    """Words in any case, as a list or a text with | between them; none where the field is absent, null or empty.

    Raises:
        ModelError: for a word that is not in `known`, and for anything else.
    """
    given = fields.data.get(name)
    if given is None or given == "":
        return []
    parts = given.lower().split("|") if isinstance(given, str) else given
    words = [each.strip() for each in parts if isinstance(each, str)] if isinstance(parts, list) else []
    if not isinstance(parts, list) or len(words) < len(parts) or not set(words) <= set(known):
        raise fields.error(name, f"of {', '.join(known)}")
    return words


def letters(fields: Fields, name: str, known: Mapping[str, str]) -> list[str] | None:
    """What each letter of a text stands for; None where the field is absent or null.

    Raises:
        ModelError: for anything else than a text of one of the letters in `known` at least.
    """
    given = fields.data.get(name)
    if given is None:
        return None
    if not isinstance(given, str) or not 1 <= len(given) <= _MOST or not set(given) <= set(known):
        raise fields.error(
            name, f"a text of up to {_MOST:,} of the letters {', '.join(f'{one} ({known[one]})' for one in known)}"
        )
    return [known[letter] for letter in given]


def _by_layer(fields: Fields, name: str, layers: int) -> list[object] | None:
    given = fields.data.get(name)
    if given is None:
        return None
    if not isinstance(given, list):
        raise fields.error(name, f"a list with one entry for each of {layers} layers")
    if len(given) < layers:
        raise fields.error(name, f"one entry for each of {layers} layers", f"found: {len(given)}")
    return given
