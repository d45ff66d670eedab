"""Factors, break-even ranks, and the configuration file."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from costmodel.decomposition.factors import (
    FORMS,
    Decomposition,
    LowRank,
    Site,
    Tucker,
    break_even_rank,
    load_decomposition,
    make_factor,
)
from costmodel.errors import CostModelError, DecompositionError
from costmodel.families.load import load_model

LLAMA = load_model("llama2-7b")
BERT = load_model("bert-base")
SIZES = st.integers(1, 40_000)


@pytest.mark.parametrize(
    ("out_features", "in_features", "svd", "tucker"),
    [(4096, 4096, 2048, 1696), (11008, 4096, 2985, 2553), (4096, 11008, 2985, 2553), (1, 1, 0, 0), (2, 2, 1, 0)],
)
def test_break_even_ranks(out_features: int, in_features: int, svd: int, tucker: int) -> None:
    assert break_even_rank(out_features, in_features, "svd") == svd
    assert break_even_rank(out_features, in_features, "tucker") == tucker


@given(SIZES, SIZES, st.sampled_from(FORMS))
def test_break_even_is_the_last_rank_that_costs_no_more(out_features: int, in_features: int, form: Any) -> None:
    rank = break_even_rank(out_features, in_features, form)
    dense = out_features * in_features
    assert make_factor(form, rank).weight_params(out_features, in_features) <= dense
    assert make_factor(form, rank + 1).weight_params(out_features, in_features) > dense
    assert rank < min(out_features, in_features)


@given(st.integers(1, 200), st.integers(1, 200))
def test_svd_costs_the_dense_weight_exactly_where_the_rank_is_whole(a: int, b: int) -> None:
    """m = a (a + b), n = b (a + b): m n / (m + n) = a b."""
    out_features, in_features = a * (a + b), b * (a + b)
    assert break_even_rank(out_features, in_features, "svd") == a * b
    assert LowRank(a * b).weight_params(out_features, in_features) == out_features * in_features


def test_factor_parameters() -> None:
    assert LowRank(3).weight_params(5, 7) == 3 * 5 + 3 * 7
    assert Tucker(2, 3).weight_params(5, 7) == 7 * 2 + 2 * 3 + 3 * 5
    assert (LowRank(3).ranks, Tucker(2, 3).ranks) == ((3, 3), (2, 3))


def test_above_break_even_lists_what_costs_more() -> None:
    sites = {Site(3, "q_proj"): LowRank(2049), Site(1, "q_proj"): LowRank(2048), Site(0, "up_proj"): Tucker(2554, 2554)}
    assert Decomposition(sites).above_break_even(LLAMA) == [Site(0, "up_proj"), Site(3, "q_proj")]


FILE = """{"form": "svd", "ranks": {"layers.2.q_proj": 64, "layers.3.o_proj": {"form": "tucker", "rank": [8, 16]}},
           "drop": [5]}"""


def read(text: str | bytes, folder: Path, model: Any = LLAMA) -> Decomposition:
    path = folder / "config.json"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return load_decomposition(path, model)


def test_the_file_of_the_contract(tmp_path: Path) -> None:
    found = read(FILE, tmp_path)
    assert found.factors == {Site(2, "q_proj"): LowRank(64), Site(3, "o_proj"): Tucker(8, 16)}
    assert found.dropped == {5}


def test_defaults_of_the_file(tmp_path: Path) -> None:
    assert read("{}", tmp_path) == Decomposition()
    found = read(
        '{"form": "tucker", "ranks": {"layers.0.q_proj": 4, "layers.1.q_proj": {"rank": [4, 5]},'
        ' "layers.2.q_proj": {"form": "svd", "rank": 6}, "layers.3.q_proj": [7, 8]}}',
        tmp_path,
    )
    assert list(found.factors.values()) == [Tucker(4, 4), Tucker(4, 5), LowRank(6), Tucker(7, 8)]


def test_json_round_trip() -> None:
    rng = random.Random(0)
    for _ in range(50):
        dropped = frozenset(rng.sample(range(32), rng.randint(0, 4)))
        factors = {
            Site(layer, tensor.name): rng.choice([LowRank(rng.randint(1, 99)), Tucker(rng.randint(1, 9), 5)])
            for layer in range(32)
            for tensor in LLAMA.tensors
            if layer not in dropped and rng.random() < 0.2
        }
        configuration = Decomposition(factors, dropped)
        text = json.dumps(configuration.to_json())
        assert Decomposition.from_json(json.loads(text), LLAMA) == configuration


def test_json_is_plain_where_the_form_is_the_same() -> None:
    tucker = Decomposition({Site(0, "q_proj"): Tucker(1, 1)})
    assert tucker.to_json() == {"form": "tucker", "ranks": {"layers.0.q_proj": 1}, "drop": []}
    assert Decomposition().to_json() == {"form": "svd", "ranks": {}, "drop": []}


BAD_FILES = [
    ("", "is not JSON"),
    ("{", "is not JSON"),
    ("[]", "got []; allowed: an object"),
    ("null", "got None; allowed: an object"),
    ("3", "got 3; allowed: an object"),
    ('{"rank": 3}', "unknown key in the file: got 'rank'; allowed: form, ranks, drop"),
    ('{"form": "cp"}', "form: got 'cp'; allowed: svd, tucker"),
    ('{"form": null}', "form: got None"),
    ('{"form": ["svd"]}', "form: got ['svd']"),
    ('{"ranks": []}', "ranks: got []; allowed: an object"),
    ('{"ranks": null}', "ranks: got None; allowed: an object"),
    ('{"ranks": {"q_proj": 1}}', "not a site: got 'q_proj'; allowed: layers.NUMBER.TENSOR"),
    ('{"ranks": {"": 1}}', "not a site"),
    ('{"ranks": {"layers.1": 1}}', "not a site"),
    ('{"ranks": {"layers.01.q_proj": 1}}', "not a site"),
    ('{"ranks": {"layers.-1.q_proj": 1}}', "not a site"),
    ('{"ranks": {"layers.1.5.q_proj": 1}}', "not a site"),
    ('{"ranks": {"layers.x.q_proj": 1}}', "not a site"),
    ('{"ranks": {"layers.\u0661.q_proj": 1}}', "not a site"),
    ('{"ranks": {"layers.%s.q_proj": 1}}' % ("9" * 5000), "not a site"),
    ('{"ranks": {"model.layers.1.q_proj": 1}}', "not a site"),
    ('{"ranks": {"layers.32.q_proj": 1}}', "layer out of range for llama2-7b: got 32; allowed: 0 to 31"),
    ('{"ranks": {"layers.1.query": 1}}', "llama2-7b has no such site: got 'layers.1.query'; allowed: layers.1. and q_"),
    ('{"ranks": {"layers.1.all": 1}}', "has no such site"),
    ('{"ranks": {"layers.1.q_proj": 0}}', "layers.1.q_proj: rank out of range: got 0; allowed: 1 to 4096 (4096 x 4096"),
    ('{"ranks": {"layers.1.q_proj": -3}}', "rank out of range: got -3"),
    ('{"ranks": {"layers.1.q_proj": 4097}}', "rank out of range: got 4097"),
    ('{"ranks": {"layers.1.q_proj": %s}}' % ("9" * 400), "q_proj: got 999"),
    ('{"ranks": {"layers.1.q_proj": %s}}' % ("9" * 5000), "q_proj: got inf; allowed: a finite number"),
    ('{"ranks": {"layers.1.q_proj": 2.0}}', "q_proj: got 2.0; allowed: a rank of form svd, a whole number"),
    ('{"ranks": {"layers.1.q_proj": 1e3}}', "allowed: a rank of form svd"),
    ('{"ranks": {"layers.1.q_proj": true}}', "q_proj: got True"),
    ('{"ranks": {"layers.1.q_proj": "64"}}', "q_proj: got '64'"),
    ('{"ranks": {"layers.1.q_proj": "50%"}}', "allowed: a rank of form svd"),
    ('{"ranks": {"layers.1.q_proj": null}}', "q_proj: got None"),
    ('{"ranks": {"layers.1.q_proj": {}}}', "rank is missing"),
    ('{"ranks": {"layers.1.q_proj": {"form": "tucker"}}}', "rank is missing"),
    ('{"ranks": {"layers.1.q_proj": {"rank": 1, "form": "dense"}}}', "form: got 'dense'"),
    (
        '{"ranks": {"layers.1.q_proj": {"rank": 1, "bias": 2}}}',
        "unknown key in ranks.layers.1.q_proj: got 'bias'",
    ),
    ('{"ranks": {"layers.1.q_proj": [8, 16]}}', "q_proj: got [8, 16]; allowed: a rank of form svd, a whole number"),
    (
        '{"form": "tucker", "ranks": {"layers.1.q_proj": [8]}}',
        "a whole number or [rank_in, rank_out]",
    ),
    ('{"form": "tucker", "ranks": {"layers.1.q_proj": [8, 16, 2]}}', "allowed: a rank of form tucker"),
    ('{"form": "tucker", "ranks": {"layers.1.q_proj": [8, 0]}}', "rank out of range: got 0"),
    ('{"form": "tucker", "ranks": {"layers.1.q_proj": [8, true]}}', "allowed: a rank of form tucker"),
    ('{"form": "tucker", "ranks": {"layers.1.q_proj": [5000, 8]}}', "rank out of range: got 5000"),
    ('{"drop": 5}', "drop: got 5; allowed: a list"),
    ('{"drop": "5"}', "drop: got"),
    ('{"drop": {"5": true}}', "drop: got"),
    ('{"drop": null}', "drop: got"),
    ('{"drop": [true]}', "drop[0]: got"),
    ('{"drop": [1.0]}', "drop[0]: got"),
    ('{"drop": ["1"]}', "drop[0]: got"),
    ('{"drop": [32]}', "drop: layer out of range for llama2-7b: got 32"),
    ('{"drop": [-1]}', "drop[0]: got -1"),
    ('{"drop": [1], "ranks": {"layers.1.q_proj": 1}}', "a rank is given for a dropped layer: got 'layers.1.q_proj'"),
    ('{"ranks": {"layers.1.q_proj": NaN}}', "ranks.layers.1.q_proj: got nan; allowed: a finite number"),
    ('{"drop": [Infinity]}', "drop[0]: got inf; allowed: a finite number"),
    ('{"form": "svd", "form": "tucker"}', "key 'form' twice in one object"),
    ('{"ranks": {"layers.1.q_proj": 1, "layers.1.q_proj": 2}}', "key 'layers.1.q_proj' twice in one object"),
    ('{"ranks": %s}' % ('{"a":' * 100_000 + "1" + "}" * 100_000), "nested too deeply"),
    (b"\xff\xfe{\x00}\x00", "is not UTF-8 text, from byte 0 on"),
    (b"\x80\x04\x95\x00", "is not UTF-8 text"),
    (b"{}\x00", "is not JSON"),
    ('{"ranks": {"layers.1.q\\nproj": 1}}', "no such site"),
]


@pytest.mark.parametrize(("text", "expected"), BAD_FILES, ids=[str(n) for n in range(len(BAD_FILES))])
def test_bad_files_are_refused_in_one_line_that_names_the_file(
    text: str | bytes, expected: str, tmp_path: Path
) -> None:
    with pytest.raises(DecompositionError) as caught:
        read(text, tmp_path)
    message = str(caught.value)
    assert expected in message
    assert message.startswith(str(tmp_path / "config.json"))
    assert "\n" not in message
    assert len(message) < 500 + len(str(tmp_path))


def test_unreadable_files(tmp_path: Path) -> None:
    for path, reason in ((tmp_path, "Is a directory"), (tmp_path / "none", "No such file"), ("a\0b", "null")):
        with pytest.raises(DecompositionError, match=reason):
            load_decomposition(path, LLAMA)


def test_a_file_for_another_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        DecompositionError, match=r"bert-base has no such site: got 'layers.2.q_proj'; allowed: .*query"
    ):
        read(FILE, tmp_path, BERT)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
RANKS = st.integers(-2, 5000) | st.lists(st.integers(0, 9), min_size=1, max_size=3) | JSON
ENTRIES = RANKS | st.fixed_dictionaries({}, optional={"form": st.sampled_from(FORMS) | JSON, "rank": RANKS})
NAMES = st.builds("layers.{}.{}".format, st.integers(-1, 40), st.sampled_from(["q_proj", "up_proj", "x", ""]))
FILES = st.fixed_dictionaries(
    {},
    optional={
        "form": st.sampled_from(FORMS) | JSON,
        "ranks": st.dictionaries(NAMES | st.text(max_size=9), ENTRIES, max_size=4) | JSON,
        "drop": st.lists(st.integers(-1, 40), max_size=4) | JSON,
    },
)


@given(FILES | JSON)
def test_any_json_is_read_or_refused(data: Any) -> None:
    try:
        found = Decomposition.from_json(data, LLAMA)
    except CostModelError as error:
        message = str(error)
    else:
        message = ""
        assert found.check(LLAMA) is found
        assert Decomposition.from_json(found.to_json(), LLAMA) == found
    assert "\n" not in message


@pytest.mark.parametrize("factor", [LowRank(2.5), LowRank(True), LowRank(0), LowRank(5000), Tucker(3, 0)])  # type: ignore[arg-type]
def test_what_the_constructor_lets_pass_the_check_does_not(factor: Any) -> None:
    with pytest.raises(DecompositionError, match=r"layers\.0\.q_proj: rank out of range"):
        Decomposition({Site(0, "q_proj"): factor}).check(LLAMA)
