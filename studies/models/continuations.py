"""Multiple-choice items from held-out text: which of four continuations is the real one."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

CHOICES = 4
"""One is right, so that guessing is right once in four times."""
CONTEXT = 480
"""Characters before the blank, fewer where a line begins later."""
CHOICE = 72
"""Characters of each choice, its leading line end included."""


def continuations(texts: Sequence[str], count: int, *, same_file: bool, seed: int = 0) -> list[dict[str, Any]]:
    """Items `{"context", "choices", "answer"}`: the choices begin at line ends and are equally long.

    Wrong ones come from other files, or from other places of the same file, where words and style are alike; either
    way they are indented like the right one where the file has such places, so that the indentation gives little away.

    Args:
        texts: of the held-out part.
        count: of items; fewer are returned where the text has no more places.
        same_file: where wrong choices come from.
    """
    source = random.Random(f"continuations {same_file} {seed}")
    places = [[at for at in _line_ends(text) if at >= CONTEXT] for text in texts]
    asked = [(file, at) for file, found in enumerate(places) for at in found]
    source.shuffle(asked)
    items: list[dict[str, Any]] = []
    used: dict[int, list[int]] = {}
    for file, at in asked:
        if len(items) == count:
            break
        if any(abs(at - other) < CONTEXT + CHOICE for other in used.get(file, [])):
            continue  # no text is asked for twice
        others = _others(texts, places, file, at, same_file, source)
        if len(others) < CHOICES - 1:
            continue
        used.setdefault(file, []).append(at)
        right = texts[file][at : at + CHOICE]
        answer = source.randrange(CHOICES)
        choices = [*others[:answer], right, *others[answer:]]
        items.append({"context": _context(texts[file], at), "choices": choices, "answer": answer})
    return items


def _line_ends(text: str) -> list[int]:
    """Positions of line ends with enough to read after them and nothing blank before them: a tokenizer splits there."""
    ends, at = [], text.find("\n")
    while 0 <= at <= len(text) - CHOICE:
        choice = text[at : at + CHOICE]
        if len("".join(choice.split())) >= CHOICE // 2 and not text[at - 1 : at].isspace():
            ends.append(at)
        at = text.find("\n", at + 1)
    return ends


def _context(text: str, at: int) -> str:
    start = text.find("\n", at - CONTEXT) + 1
    return text[start if start < at else at - CONTEXT : at]


def _others(
    texts: Sequence[str], places: Sequence[Sequence[int]], file: int, at: int, same_file: bool, source: random.Random
) -> list[str]:
    """Wrong choices, as alike in indentation as there are; from other files, each from a file of its own."""
    right = texts[file][at : at + CHOICE]
    if same_file:
        away = [other for other in places[file] if other + CHOICE <= at - CONTEXT or other >= at + CHOICE]
        candidates = [texts[file][other : other + CHOICE] for other in source.sample(away, min(len(away), 60))]
    else:
        files = [other for other in range(len(texts)) if other != file and places[other]]
        candidates = []
        for other in source.sample(files, min(len(files), 12)):
            some = [
                texts[other][each : each + CHOICE] for each in source.sample(places[other], min(8, len(places[other])))
            ]
            candidates.append(min(some, key=lambda text: abs(_indent(text) - _indent(right))))
    candidates.sort(key=lambda text: abs(_indent(text) - _indent(right)))  # stable: ties stay in random order
    taken: list[str] = []
    for candidate in candidates:
        if candidate not in (right, *taken) and candidate not in texts[file][max(0, at - CONTEXT) : at + CHOICE]:
            taken.append(candidate)
        if len(taken) == CHOICES - 1:
            break
    return taken


def _indent(choice: str) -> int:
    return len(choice) - 1 - len(choice[1:].lstrip(" "))
