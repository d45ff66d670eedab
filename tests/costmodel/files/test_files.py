"""Files read strictly: mutated ones end in success or in one line, and what is refused names file, key and value."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest
from exploring import quality_data
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from costmodel.decomposition.factors import load_decomposition
from costmodel.errors import CostModelError, InputError
from costmodel.explore.quality import load_quality
from costmodel.families.load import load_model
from costmodel.files.node import Node
from costmodel.files.read import MAX_DEPTH, read_json, read_text, read_toml
from costmodel.files.table import read_table
from costmodel.files.write import write_file
from costmodel.hardware.profile import load_hardware, profile_folder
from costmodel.space.make import design_space
from costmodel.timing.calibration.load import load_calibration

BERT = load_model("bert-base")
SPACE = design_space(BERT, ranks=[8])
MODELS = Path(load_model.__code__.co_filename).parent / "configs"
FILES: dict[str, tuple[str, Callable[[], bytes], Callable[[Path], object]]] = {
    "configuration": (
        "config.json",
        lambda: b'{"form": "svd", "ranks": {"layers.2.query": {"form": "tucker", "rank": [8, 16]}}, "drop": [5]}',
        lambda path: load_decomposition(path, BERT),
    ),
    "model": ("config.json", (MODELS / "qwen3-0.6b.json").read_bytes, load_model),
    "profile": ("device.toml", (profile_folder() / "t4.toml").read_bytes, load_hardware),
    "calibration": (
        "calibration.json",
        (profile_folder() / "calibrations" / "amd-epyc-2t.json").read_bytes,
        load_calibration,
    ),
    "quality": (
        "quality.json",
        lambda: json.dumps(quality_data(SPACE, 3, states=3)).encode(),
        lambda path: load_quality(str(path), SPACE),
    ),
}
"""Kind of file: its name, a good one, and what reads it."""
ODD = [
    b"null",
    b"true",
    b"-1",
    b"0",
    b"1e999",
    b"NaN",
    b"inf",
    b"1" + b"0" * 400,
    b"9" * 5000,
    b"0x" + b"f" * 400,
    b'""',
    b'"\\ud800"',
    b'"\\u001b[31m"',
    b"[]",
    b"{}",
    b"[" * 200 + b"]" * 200,
    b"[" * 100_000,
    b'{"a": 1, "a": 2}',
]
"""What a value may be replaced by."""


@pytest.mark.parametrize("kind", FILES)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_mutated_file_is_read_or_refused_in_one_line(kind: str, tmp_path: Path, data: st.DataObject) -> None:
    """Bytes cut, doubled or replaced anywhere, values replaced by odd ones."""
    name, good, read = FILES[kind]
    content = good()
    for _ in range(data.draw(st.integers(1, 3))):
        start = data.draw(st.integers(0, len(content)))
        if data.draw(st.booleans()):
            end, new = _value(content, start), data.draw(st.sampled_from(ODD))
            content = content[: end[0]] + new + content[end[1] :]
        else:
            end_at = data.draw(st.integers(start, min(len(content), start + 40)))
            content = content[:start] + data.draw(st.binary(max_size=3)) * 2 + content[end_at:]
    path = tmp_path / name
    path.write_bytes(content)
    try:
        read(path)
    except CostModelError as error:
        message = str(error)
    else:
        message = ""
    assert not message or (message.isprintable() and len(message) < 1000 + 3 * len(str(path)))


def _value(content: bytes, start: int) -> tuple[int, int]:
    """Where the next value after a colon, an equals sign or a comma stands."""
    begin = min((at for mark in (b":", b"=", b",", b"[") if (at := content.find(mark, start)) >= 0), default=start) + 1
    ends = [at for mark in (b",", b"}", b"]", b"\n") if (at := content.find(mark, begin)) >= 0]
    return begin, min(ends, default=len(content))


@pytest.mark.parametrize("kind", FILES)
def test_the_unchanged_file_is_read_with_and_without_a_byte_order_mark(kind: str, tmp_path: Path) -> None:
    name, good, read = FILES[kind]
    for mark in (b"", b"\xef\xbb\xbf"):
        (tmp_path / name).write_bytes(mark + good())
        assert read(tmp_path / name) is not None


@pytest.mark.parametrize("kind", ["model", "profile", "calibration"])
def test_a_file_read_again_is_the_same_object_until_its_content_changes(kind: str, tmp_path: Path) -> None:
    """Caches further on go by identity."""
    name, good, read = FILES[kind]
    path = tmp_path / name
    path.write_bytes(good())
    first = read(path)
    assert read(path) is first
    path.write_bytes(good() + b"\n")
    assert read(path) is not first


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"a": {"b": [1, NaN]}}', "a.b[1]: got nan; allowed: a finite number below 1e308"),
        ('{"a": -Infinity}', "a: got -inf; allowed: a finite number"),
        ('{"a": 1e999}', "a: got inf; allowed: a finite number"),
        ('{"a": %s}' % (10**400), "a: got 1000"),
        ('{"a": %s}' % ("9" * 5000), "a: got inf; allowed: a finite number"),
        ("1" + "0" * 400, "content: got 1000"),
        ('{"a": 1, "b": 2, "a": 3}', "note is not JSON: key 'a' twice in one object"),
        ('{"a": "\\uD83d"}', "a: got '\\ud83d'; allowed: text without half a surrogate pair"),
        ('{"\\ud83d": 1}', "content: got '\\ud83d'; allowed: text"),
        (
            "[" * (MAX_DEPTH + 1) + "]" * (MAX_DEPTH + 1),
            f"note is nested too deeply; allowed: up to {MAX_DEPTH} levels",
        ),
        ("[" * 100_000, "note is nested too deeply"),
        ("", "note is not JSON"),
        ("{} {}", "note is not JSON"),
    ],
)
def test_what_json_refuses(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "note.json"
    path.write_text(text)
    with pytest.raises(InputError) as caught:
        read_json(path, "note", InputError)
    assert str(caught.value).startswith(f"{path}: {message}")


def test_what_json_lets_pass(tmp_path: Path) -> None:
    path = tmp_path / "note.json"
    nested = "[" * (MAX_DEPTH - 1) + "]" * (MAX_DEPTH - 1)
    path.write_text(f'{{"a": {nested}, "b": {10**308}, "c": "\\ud83d\\ude00", "d": -1e308}}')
    content = read_json(path, "note", InputError)
    assert isinstance(content, dict)
    assert (content["b"], content["c"], content["d"]) == (10**308, "\U0001f600", -1e308)
    path.write_text('{"a": [NaN, -Infinity, 1e999]}')
    constants = read_json(path, "note", InputError, constants=True)
    assert isinstance(constants, dict)
    assert math.isnan(constants["a"][0])
    assert constants["a"][1:] == [-math.inf, math.inf]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a.b = inf", "a.b: got inf; allowed: a finite number"),
        (f"a = 0x{'f' * 400}", "a: got "),
        (f"a = {'9' * 5000}", "note is not TOML: a number of thousands of digits"),
        ("a = 1\na = 2", "note is not TOML"),
        ("a = " + "[" * (MAX_DEPTH + 1) + "]" * (MAX_DEPTH + 1), "note is nested too deeply"),
        ("a = " + "[" * 100_000, "note is nested too deeply"),
    ],
)
def test_what_toml_refuses(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "note.toml"
    path.write_text(text)
    with pytest.raises(InputError) as caught:
        read_toml(path, "note", InputError)
    assert str(caught.value).startswith(f"{path}: {message}")


def test_files_that_are_too_large_or_no_text(tmp_path: Path) -> None:
    path = tmp_path / "note"
    path.write_bytes(b"x" * 11)
    with pytest.raises(InputError, match="too large for a note; allowed: up to 10 bytes"):
        read_text(path, "note", InputError, limit=10)
    path.write_bytes(b"ab\xff")
    with pytest.raises(InputError, match="note is not UTF-8 text, from byte 2 on"):
        read_text(path, "note", InputError)
    for bad in (tmp_path, tmp_path / "none", "a\0b", "x" * 300):
        with pytest.raises(InputError, match="cannot read note: got "):
            read_text(bad, "note", InputError)


def test_a_node_names_its_place() -> None:
    node = Node("f", {"a": [{"b": 3}], "t": "x\x1b[31m", "n": 10**400}, InputError)
    part = node.table(["a", "t"], ["n"])
    number = part["a"].items()[0].table(["b"])["b"]
    assert number.integer(1, 3) == 3
    assert number.number() == 3.0
    for wrong, message in (
        (lambda: number.integer(4, 9), "f: a[0].b: got 3; allowed: a whole number from 4 to 9"),
        (lambda: number.number(0, 1), "f: a[0].b: got 3; allowed: a number from 0 to 1"),
        (lambda: number.flag(), "f: a[0].b: got 3; allowed: true or false"),
        (lambda: number.choice(["x", "y"]), "f: a[0].b: got 3; allowed: x, y"),
        (lambda: number.entries(), "f: a[0].b: got 3; allowed: an object"),
        (lambda: part["t"].text(), "f: t: got 'x\\x1b[31m'; allowed: a text, without control characters"),
        (lambda: part["n"].number(), "f: n: got 1000"),
        (lambda: part["a"].items(2), "f: a: got [{'b': 3}]; allowed: at least 2"),
        (lambda: node.table(["a", "t"]), "f: unknown key in the file: got 'n'; allowed: a, t"),
        (lambda: node.entries(["z"], hint="add it"), "f: z is missing; add it"),
    ):
        with pytest.raises(InputError) as caught:
            wrong()
        assert str(caught.value).startswith(message)


@pytest.mark.parametrize(
    ("value", "shape"),
    [
        ([1, "2"], (None,)),
        ([1, True], (None,)),
        ([1, None], (None,)),
        ([[1], 2], (None, None)),
        ([[1, 2], [3]], (None, None)),
        ([1, 2], (3,)),
        (3, (None,)),
        ([], (1,)),
        ([0.5], (1,)),
        ([10**400], (1,)),
        ([float("nan")], (1,)),
        ([[1]], (None,)),
    ],
)
def test_an_array_takes_numbers_of_its_shape_only(value: object, shape: tuple[int | None, ...]) -> None:
    with pytest.raises(InputError, match=r"f: k: got .*; allowed: numbers from 1 to 9, "):
        Node("f", value, InputError, "k").array(shape, 1, 9)


def test_arrays_keep_their_shape() -> None:
    assert Node("f", [[1, 2.5], [3, 4]], InputError).array((None, 2)).tolist() == [[1.0, 2.5], [3.0, 4.0]]
    assert Node("f", [], InputError).array((None,)).shape == (0,)


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "note"
    write_file(path, b"first")
    write_file(path, b"second")
    assert path.read_bytes() == b"second"
    with pytest.raises(InputError, match="cannot write"):
        write_file(tmp_path / "none" / "note", b"")
    (tmp_path / "folder").mkdir()
    with pytest.raises(InputError, match="cannot write"):
        write_file(tmp_path / "folder", b"")
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["folder", "note"]


@pytest.mark.parametrize("text", ["1_000", "\u0663", "\uff11", "1\u00a0", "0x10"])
def test_a_number_that_only_python_reads_is_refused_in_a_table(text: str, tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_text(f"m,n\n 7,1e3\n{text},2\n", encoding="utf-8")
    table = read_table(path, InputError)
    assert table.numbers("n").tolist() == [1000.0, 2.0]
    with pytest.raises(InputError, match="m in row 2: got"):
        table.numbers("m", 1)
