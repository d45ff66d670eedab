"""Mutations of good files, and the one law that every reader of them keeps.

The law: exit 0 with an answer that can be read, or one line and exit 2 (1 for a run that failed), and nothing written
that is not whole. What a run says never holds a character that a terminal obeys.
"""

from __future__ import annotations

import contextlib
import copy
import io
import json
import os
import re
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.errors import HypothesisWarning

from costmodel.cli import run
from costmodel.errors import CostModelError

MANY = int(os.environ.get("FUZZ_CASES", "10000"))
"""Cases of each reader among the slow tests."""
OBEYED = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e]")
_DIGITS = "@@digits:"
"""Begins a text that stands for a number of so many digits, which no encoder writes."""
_DEEP = "@@deep:"
_NUMBERS: list[object] = [
    0,
    -1,
    1,
    2,
    3.5,
    -0.0,
    1e-320,
    1e-12,
    1e12,
    1e300,
    -1e300,
    10**18,
    2**31,
    2**53 + 1,
    2**63,
    2**64,
    10**30,
    -(10**30),
    float("nan"),
    float("inf"),
    float("-inf"),
    f"{_DIGITS}400",
    f"{_DIGITS}-400",
    f"{_DIGITS}5000",
]
_OTHERS: list[object] = [
    None,
    True,
    False,
    "",
    " ",
    "x",
    "0",
    "-1",
    "\x1b[31mred\x1b[0m",
    "a\x00b",
    "a\rb",
    "a\nb",
    "\x85",
    "\u202e",
    "<script>alert(1)</script>",
    "[bold]x[/bold]",
    "[/]",
    "$\\frac{",
    "=1+1",
    "\ud800",
    "../../etc/passwd",
    "/dev/null",
    "y" * 5000,
    "\u0661\u0662",
    [],
    {},
    [[]],
    [None],
    [1, "a"],
    {"a": 1},
    f"{_DEEP}30",
    f"{_DEEP}1000",
]
ODD = _NUMBERS + _OTHERS


def mutated(base: Any) -> st.SearchStrategy[bytes]:
    """The JSON of `base` with one to three changes to its structure, and at times one to its bytes."""

    @st.composite
    def draw(pick: st.DrawFn) -> bytes:
        value = copy.deepcopy(base)
        for _ in range(pick(st.integers(1, 3))):
            value = _changed(value, pick)
        content = encoded(value)
        return _bytes_changed(content, pick) if pick(st.integers(0, 4)) == 0 else content

    return draw()


def mutated_text(base: bytes, words: list[bytes] | None = None) -> st.SearchStrategy[bytes]:
    """Any text with one to three pieces cut, doubled or replaced by odd ones."""

    @st.composite
    def draw(pick: st.DrawFn) -> bytes:
        content = base
        pieces = [*(words or []), *_PIECES]
        for _ in range(pick(st.integers(1, 3))):
            start = pick(st.integers(0, len(content)))
            stop = min(len(content), start + pick(st.sampled_from([0, 1, 2, 7, 40])))
            piece = pick(st.sampled_from([b"", content[start:stop] * 2, *pieces]))
            content = content[:start] + piece + content[stop:]
        return content

    return draw()


def mutated_values(base: str, cut: str = r"[^\s,=\"\[\]{}]+") -> st.SearchStrategy[bytes]:
    """A text of values, such as TOML or CSV, of which one to three are replaced by odd ones."""
    places = [match.span() for match in re.finditer(cut, base)]

    @st.composite
    def draw(pick: st.DrawFn) -> bytes:
        chosen = sorted({pick(st.integers(0, len(places) - 1)) for _ in range(pick(st.integers(1, 3)))}, reverse=True)
        text = base
        for place in chosen:
            start, stop = places[place]
            odd = pick(st.sampled_from(ODD))
            text = text[:start] + _written(odd) + text[stop:]
        content = text.encode("utf-8", "surrogatepass")
        return _bytes_changed(content, pick) if pick(st.integers(0, 4)) == 0 else content

    return draw()


def encoded(value: object) -> bytes:
    """JSON, with the marks that stand for long numbers and deep nests replaced."""
    text = json.dumps(value)
    text = re.sub(rf'"{_DIGITS}(-?)(\d+)"', lambda match: match[1] + "9" * int(match[2]), text)
    text = re.sub(rf'"{_DEEP}(\d+)"', lambda match: "[" * int(match[1]) + "]" * int(match[1]), text)
    return text.encode("utf-8", "surrogatepass")


_PIECES = [
    b"\xef\xbb\xbf",
    b"\xff\xfe",
    b"\xc3",
    b"\x00",
    b"\x1b[2J",
    b"\r",
    b"\n",
    b'"',
    b",",
    b"[" * 1000,
    b'{"a":' * 1000,
    b"9" * 400,
    b"9" * 5000,
    b"-",
    b"NaN",
    b"Infinity",
    b"1e999",
    b"null",
    b"true",
    b"{}",
    b"[]",
    b'"\\ud800"',
    b"\xe2\x80\xa8",
]


def _bytes_changed(content: bytes, pick: st.DrawFn) -> bytes:
    start = pick(st.integers(0, len(content)))
    stop = min(len(content), start + pick(st.sampled_from([0, 0, 1, 9])))
    if pick(st.integers(0, 3)) == 0:
        return content[:start]
    return content[:start] + pick(st.sampled_from(_PIECES)) + content[stop:]


def _changed(value: Any, pick: st.DrawFn) -> Any:
    places = list(_places(value))
    if not places:
        return copy.deepcopy(pick(st.sampled_from(ODD)))
    holder, key = places[pick(st.integers(0, len(places) - 1))]
    action = pick(st.sampled_from(["odd", "odd", "odd", "scaled", "gone", "renamed", "doubled", "moved", "wrapped"]))
    if action == "odd":
        holder[key] = copy.deepcopy(pick(st.sampled_from(ODD)))
    elif action == "scaled" and isinstance(holder[key], int | float) and not isinstance(holder[key], bool):
        factor = pick(st.sampled_from([-1, 0, 2, 1000, 10**12, 10**40, 0.5, 1e-12, 1e300]))
        with contextlib.suppress(OverflowError):
            holder[key] = holder[key] * factor
    elif action == "gone":
        del holder[key]
    elif action == "renamed" and isinstance(holder, dict):
        holder[f"{key}x"] = holder.pop(key)
    elif action == "doubled" and isinstance(holder, list):
        holder.insert(key, copy.deepcopy(holder[key]))
    elif action == "moved":
        other, place = places[pick(st.integers(0, len(places) - 1))]
        holder[key] = copy.deepcopy(other[place])
    elif action == "wrapped":
        holder[key] = [holder[key]]
    return value


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every holder and key below a value, the rare ones as likely as those of long lists: at most eight of a list."""
    waiting = [value]
    while waiting:
        part = waiting.pop()
        if isinstance(part, dict):
            keys: list[Any] = list(part)
        elif isinstance(part, list):
            keys = list(range(len(part)))
            keys = keys if len(keys) <= 8 else [*keys[:6], *keys[-2:]]
        else:
            continue
        for key in keys:
            yield part, key
            waiting.append(part[key])


def _written(odd: object) -> str:
    """An odd value as a cell or as a word of TOML."""
    if isinstance(odd, str) and not odd.startswith("@@"):
        return odd
    text = encoded(odd).decode("utf-8", "surrogatepass")
    return {"NaN": "nan", "Infinity": "inf", "-Infinity": "-inf", "null": ""}.get(text, text)


def hold(law: Callable[[Any], None], mutations: st.SearchStrategy[Any], cases: int) -> None:
    """Try a law on so many mutations."""
    health = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example]
    tried = settings(max_examples=cases, deadline=None, suppress_health_check=health)(given(mutations)(law))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", HypothesisWarning)  # of an example too long to print
        tried()


def cases(few: int, part: int = 1) -> pytest.MarkDecorator:
    """Runs a test with a few cases by default, and with MANY / `part` among the slow tests."""
    many = pytest.param(max(1, MANY // part), id="many", marks=pytest.mark.slow)
    return pytest.mark.parametrize("cases", [pytest.param(few, id="few"), many])


def answer_of(read: Callable[[], Any]) -> Any:
    """What a reader gives; None where it refuses the file in one line that any terminal can show."""
    try:
        return read()
    except CostModelError as error:
        told = str(error)
    assert "\n" not in told
    assert not OBEYED.search(told)
    assert len(told) < 2000
    return None


def keeps_the_law(
    group: click.Group,
    arguments: list[str],
    *,
    written: tuple[Path, ...] = (),
    check: Callable[[Any], None] = lambda answer: None,
) -> int:
    """Run a command that prints JSON (or what `check` reads) and hold it to the law; the exit code.

    Args:
        written: files that exist only where the command succeeded.
        check: told the decoded answer of a command that succeeded.
    """
    for path in written:
        path.unlink(missing_ok=True)
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = run(group, arguments)
    told = err.getvalue().splitlines()
    assert not OBEYED.search(err.getvalue()), err.getvalue()
    assert not OBEYED.search(out.getvalue()), out.getvalue()
    if code == 0:
        assert all(line.startswith(("note: ", "warning: ")) for line in told), told
        check(json.loads(out.getvalue(), parse_constant=_no_constant) if "json" in arguments else out.getvalue())
    else:
        assert code in (1, 2), code
        assert told, out.getvalue()
        assert told[-1].startswith("error: "), told
        assert not [line for line in told[:-1] if not line.startswith(("note: ", "warning: "))], told
        assert not any(path.exists() for path in written)
    return code


def _no_constant(text: str) -> object:
    raise AssertionError(f"{text} is no JSON")
