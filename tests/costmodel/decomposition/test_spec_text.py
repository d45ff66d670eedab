"""The SPEC grammar: every form of every key, precedence, percentages, and the text that rebuilds a configuration."""

from __future__ import annotations

import random
from fractions import Fraction
from math import floor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from costmodel.decomposition.factors import Decomposition, Factor, LowRank, Site, Tucker, break_even_rank
from costmodel.decomposition.text import Rank, apply_spec, compact, describe, describe_layers, parse_decomposition
from costmodel.errors import CostModelError, DecompositionError
from costmodel.families.load import load_model
from costmodel.model import ModelSpec

LLAMA = load_model("llama2-7b")
MODELS = {name: load_model(name) for name in ("llama2-7b", "bert-base", "gpt2", "opt-1.3b", "mistral-7b")}
TENSORS = {
    "llama2-7b": ("q_proj k_proj v_proj o_proj", "gate_proj up_proj down_proj"),
    "bert-base": ("query key value attn_output", "intermediate output"),
    "gpt2": ("c_attn attn_proj", "c_fc mlp_proj"),
    "opt-1.3b": ("q_proj k_proj v_proj out_proj", "fc1 fc2"),
}


def parse(*specs: str, model: ModelSpec = LLAMA, base: Decomposition | None = None) -> Decomposition:
    return parse_decomposition(specs, model, base)


def layers_of(found: Decomposition) -> list[int]:
    return sorted({site.layer for site in found.factors})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("all", list(range(32))),
        ("5", [5]),
        ("0", [0]),
        ("31", [31]),
        ("8-23", list(range(8, 24))),
        ("7-7", [7]),
        ("0-30:2", list(range(0, 31, 2))),
        ("0-31:2", list(range(0, 32, 2))),
        ("1-31:40", [1]),
        ("2,17,31", [2, 17, 31]),
        ("31,2,2", [2, 31]),
        ("0-3,2-5,30-31", [0, 1, 2, 3, 4, 5, 30, 31]),
        ("0-9:3,20", [0, 3, 6, 9, 20]),
        ("007", [7]),
    ],
)
def test_layers(text: str, expected: list[int]) -> None:
    assert layers_of(parse(f"layers={text} tensors=q_proj rank=1")) == expected


@pytest.mark.parametrize("name", TENSORS)
def test_tensors_and_groups(name: str) -> None:
    model, (attn, mlp) = MODELS[name], TENSORS[name]
    names = f"{attn} {mlp}".split()

    def chosen(text: str) -> set[str]:
        return {site.tensor for site in parse(f"layers=0 {text} rank=1", model=model).factors}

    assert chosen("") == chosen("tensors=all") == chosen("tensors=attn,mlp") == set(names)
    assert chosen("tensors=attn") == set(attn.split())
    assert chosen("tensors=mlp") == set(mlp.split())
    assert chosen(f"tensors={','.join(reversed(names))}") == set(names)
    assert chosen(f"tensors=attn,{mlp.split()[0]}") == {*attn.split(), mlp.split()[0]}
    for each in names:
        assert chosen(f"tensors={each}") == {each}


def test_defaults_are_all_layers_all_tensors_svd() -> None:
    assert parse("rank=8") == parse("layers=all tensors=all rank=8 form=svd")
    assert len(parse("rank=8").factors) == 32 * 7
    assert set(parse("rank=8").factors.values()) == {LowRank(8)}
    assert set(parse("rank=8 form=tucker").factors.values()) == {Tucker(8, 8)}


def test_order_of_keys_and_white_space_do_not_matter() -> None:
    assert parse("  form=tucker\trank=3\n layers=1 ") == parse("layers=1 rank=3 form=tucker")


@pytest.mark.parametrize("form", ["svd", "tucker"])
@pytest.mark.parametrize(
    "percent", ["50", "12.5", "33.3", "0.01", "100", "99.999", "1", ".5", "5.", "66.6666666666666666667"]
)
def test_percentages_are_exact_floors_of_break_even(percent: str, form: str) -> None:
    for site, factor in parse(f"layers=0 rank={percent}% form={form}").factors.items():
        tensor = LLAMA.tensor(site.tensor)
        limit = break_even_rank(tensor.out_features, tensor.in_features, form)  # type: ignore[arg-type]
        expected = max(1, floor(Fraction(percent) / 100 * limit))
        assert factor.ranks == (expected, expected)


def test_percentages_that_floats_get_wrong() -> None:
    """0.29 of 100 is 28.999999999999996 in binary floats; a break-even of 100 is that of 200 x 200."""
    assert int(29 / 100 * 100) == 28
    tensor = LLAMA.tensor("q_proj")
    assert Rank.parse("25%").of(tensor, "svd") == 512
    assert Rank.parse("24.999999999999999999999999%").of(tensor, "svd") == 511
    assert Rank.parse("0.0000001%").of(tensor, "svd") == 1
    for hundredth in range(1, 2049):
        percent = Fraction(hundredth * 100, 2048)  # exact in at most 9 decimals, since 2048 is a power of two
        text = f"{float(percent):.12f}%"
        assert Rank.parse(text).of(tensor, "svd") == hundredth, text


def test_percentages_follow_each_tensor_and_form() -> None:
    found = parse("layers=0 rank=50%").factors
    assert (found[Site(0, "q_proj")], found[Site(0, "up_proj")]) == (LowRank(1024), LowRank(1492))
    found = parse("layers=0 rank=50% form=tucker").factors
    assert (found[Site(0, "q_proj")], found[Site(0, "up_proj")]) == (Tucker(848, 848), Tucker(1276, 1276))


def test_above_break_even_is_allowed_up_to_the_smaller_side() -> None:
    assert parse("layers=0 tensors=q_proj rank=4096").factors[Site(0, "q_proj")] == LowRank(4096)
    assert parse("layers=0 tensors=q_proj rank=200%").factors[Site(0, "q_proj")] == LowRank(4096)
    with pytest.raises(DecompositionError, match=r"q_proj: rank out of range: got 4116; allowed: 1 to 4096"):
        parse("layers=0 tensors=q_proj rank=201%")


def test_the_later_wins_site_by_site() -> None:
    found = parse("rank=8", "layers=0-1 tensors=attn rank=4 form=tucker", "layers=1 tensors=q_proj rank=2").factors
    assert found[Site(0, "q_proj")] == Tucker(4, 4)
    assert found[Site(0, "up_proj")] == LowRank(8)
    assert found[Site(1, "q_proj")] == LowRank(2)
    assert found[Site(1, "k_proj")] == Tucker(4, 4)
    assert found[Site(2, "q_proj")] == LowRank(8)


def test_dense_restores() -> None:
    found = parse("layers=0-2 rank=8", "layers=1 form=dense", "layers=2 tensors=mlp form=dense")
    assert layers_of(found) == [0, 2]
    assert {site.tensor for site in found.factors if site.layer == 2} == {"q_proj", "k_proj", "v_proj", "o_proj"}
    assert parse("rank=8", "form=dense") == Decomposition()
    assert parse("form=dense") == Decomposition()


def test_drop_takes_the_whole_layer_and_what_comes_later_brings_it_back() -> None:
    found = parse("layers=0-3 rank=8", "layers=1,2 form=drop")
    assert (layers_of(found), found.dropped) == ([0, 3], {1, 2})
    again = parse("layers=1 form=dense", base=found)
    assert (layers_of(again), again.dropped) == ([0, 3], {2})
    ranked = parse("layers=2 tensors=q_proj rank=5", base=found)
    assert ranked.dropped == {1}
    assert ranked.factors[Site(2, "q_proj")] == LowRank(5)
    assert Site(2, "k_proj") not in ranked.factors
    assert parse("form=drop").dropped == set(range(32))
    assert parse("layers=1 form=drop", "layers=1 form=drop").dropped == {1}


def test_specs_apply_on_top_of_a_base() -> None:
    base = Decomposition({Site(0, "q_proj"): LowRank(3), Site(1, "q_proj"): LowRank(3)}, frozenset({9}))
    found = parse("layers=1 tensors=q_proj rank=7", base=base)
    assert found.factors == {Site(0, "q_proj"): LowRank(3), Site(1, "q_proj"): LowRank(7)}
    assert found.dropped == {9}
    assert base.factors[Site(1, "q_proj")] == LowRank(3)


BAD_SPECS = [
    ("", "empty SPEC"),
    ("   ", "empty SPEC"),
    ("dense rank=1", "layers, tensors, rank, form; dense is a SPEC of its own, or form=dense in one"),
    ("rank", "not a SPEC: got 'rank'"),
    ("rank=", "not a SPEC"),
    ("=1", "unknown key in SPEC: got ''"),
    ("rank =1", "not a SPEC: got 'rank'"),
    ("layers=1, 2 rank=1", "not a SPEC: got '2'"),
    ("Rank=1", "unknown key in SPEC: got 'Rank'; allowed: layers, tensors, rank, form"),
    ("layer=1 rank=1", "unknown key in SPEC: got 'layer'"),
    ("rank=1 rank=2", "key given twice in SPEC: got 'rank'"),
    ("layers=1 layers=2 rank=1", "key given twice in SPEC: got 'layers'; use two SPECs"),
    ("layers=1", "a SPEC needs a rank: got 'layers=1'; add rank=64"),
    ("form=svd", "a SPEC needs a rank"),
    ("form=tucker layers=1", "a SPEC needs a rank"),
    ("rank=0", "not a rank: got '0'"),
    ("rank=-1", "not a rank: got '-1'"),
    ("rank=+1", "not a rank"),
    ("rank=1.5", "not a rank"),
    ("rank=1e3", "not a rank: got '1e3'"),
    ("rank=1_0", "not a rank"),
    ("rank=0x10", "not a rank"),
    ("rank=inf", "not a rank"),
    ("rank=nan", "not a rank"),
    ("rank=None", "not a rank"),
    ("rank=\u0664", "not a rank"),
    ("rank=\u00b2", "not a rank"),
    ("rank=" + "9" * 10_000, "not a rank"),
    ("rank=8x16", "not a rank"),
    ("rank=4097", "q_proj: rank out of range: got 4097; allowed: 1 to 4096 (4096 x 4096)"),
    ("rank=0%", "rank out of range: got '0%'; allowed: above 0%"),
    ("rank=0.0%", "rank out of range"),
    ("rank=-5%", "not a rank: got '-5%'"),
    ("rank=1e1%", "not a rank"),
    ("rank=nan%", "not a rank"),
    ("rank=inf%", "not a rank"),
    ("rank=%", "not a rank"),
    ("rank=.%", "not a rank"),
    ("rank=50%%", "not a rank"),
    ("rank=5 0%", "not a SPEC: got '0%'"),
    ("rank=" + "9" * 10_000 + "%", "not a rank"),
    ("rank=999999%", "rank out of range"),
    ("layers=32 rank=1", "layer out of range for llama2-7b: got 32; allowed: 0 to 31"),
    ("layers=0-32 rank=1", "layer out of range"),
    ("layers=-1 rank=1", "not a set of layers: got '-1'"),
    ("layers=9-8 rank=1", "empty range of layers: got '9-8'"),
    ("layers=0-9:0 rank=1", "empty range of layers"),
    ("layers=0-9:-1 rank=1", "not a set of layers"),
    ("layers=3:2 rank=1", "not a set of layers"),
    ("layers=1,,2 rank=1", "not a set of layers: got ''"),
    ("layers=1, rank=1", "not a set of layers: got ''"),
    ("layers=1-2-3 rank=1", "not a set of layers"),
    ("layers=all,1 rank=1", "not a set of layers: got 'all'"),
    ("layers=ALL rank=1", "not a set of layers"),
    ("layers=1.0 rank=1", "not a set of layers"),
    ("layers=\u0661 rank=1", "not a set of layers"),
    ("layers=" + "9" * 10_000 + " rank=1", "not a set of layers"),
    ("tensors=query rank=1", "llama layers have no tensor of that name: got 'query'; allowed: q_proj, k_proj"),
    ("tensors=Q_PROJ rank=1", "no tensor of that name"),
    ("tensors=q_proj,,k_proj rank=1", "no tensor of that name: got ''"),
    ("tensors=lm_head rank=1", "no tensor of that name"),
    ("form=cp rank=1", "unknown form: got 'cp'; allowed: svd, tucker, dense, drop"),
    ("form=SVD rank=1", "unknown form"),
    ("form=dense rank=1", "form=dense takes no rank"),
    ("form=drop rank=1", "form=drop takes no rank"),
    ("form=drop tensors=attn", "form=drop takes whole layers, no tensors"),
    ("form=drop tensors=all", "form=drop takes whole layers, no tensors"),
]


@pytest.mark.parametrize(("text", "expected"), BAD_SPECS, ids=[str(n) for n in range(len(BAD_SPECS))])
def test_bad_specs_are_refused_in_one_line(text: str, expected: str) -> None:
    with pytest.raises(DecompositionError) as caught:
        parse(text)
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


WORDS = st.one_of(
    st.builds(
        "{}={}".format,
        st.sampled_from(["layers", "tensors", "rank", "form", "x"]),
        st.text("0123456789-:,%.eE+all_projqkvx", max_size=8)
        | st.sampled_from(["all", "attn", "mlp", "svd", "tucker", "dense", "drop", "1", "50%"]),
    ),
    st.text(max_size=6),
)


@given(st.lists(WORDS, max_size=5).map(" ".join), st.sampled_from(sorted(MODELS)))
def test_any_text_is_read_or_refused(text: str, name: str) -> None:
    try:
        found = apply_spec(Decomposition(), text, MODELS[name])
    except CostModelError as error:
        message = str(error)
    else:
        message = ""
        found.check(MODELS[name])
    assert "\n" not in message


@given(st.sets(st.integers(0, 31), max_size=32))
def test_compact_is_what_layers_reads_back(layers: set[int]) -> None:
    text = compact(sorted(layers))
    assert layers_of(parse(f"layers={text} rank=1")) == sorted(layers) if layers else text == ""


@pytest.mark.parametrize(
    ("layers", "expected"),
    [
        ([5], "5"),
        ([0, 1], "0,1"),
        ([0, 1, 2, 5, 7, 9], "0-2,5-9:2"),
        (list(range(0, 31, 2)), "0-30:2"),
        ([2, 17, 31], "2,17,31"),
        ([0, 2, 3, 4], "0,2-4"),
    ],
)
def test_compact(layers: list[int], expected: str) -> None:
    assert compact(layers) == expected


def test_layers_in_words() -> None:
    assert (describe_layers({5}), describe_layers({2, 0, 1})) == ("layer 5", "layers 0-2")


@pytest.mark.parametrize(
    "text",
    [
        "layers=2,17,31 tensors=all rank=1 form=tucker",
        "layers=all tensors=attn rank=1024 form=svd",
        "layers=0 tensors=q_proj,up_proj rank=8 form=svd",
        "layers=0-30:2 form=drop",
        "layers=all form=drop",
    ],
)
def test_describe_gives_the_spec_back(text: str) -> None:
    assert describe(parse(text), LLAMA) == text


def test_describe_rebuilds_any_configuration_of_equal_ranks() -> None:
    rng = random.Random(1)
    for name, model in MODELS.items():
        for _ in range(10):
            dropped = frozenset(rng.sample(range(model.num_layers), rng.randint(0, 3)))
            choices: list[Factor] = [LowRank(rng.randint(1, 500)), Tucker(7, 7), LowRank(3)]
            factors = {
                Site(layer, tensor.name): rng.choice(choices)
                for layer in range(model.num_layers)
                for tensor in model.tensors
                if layer not in dropped and rng.random() < 0.5
            }
            configuration = Decomposition(factors, dropped)
            text = describe(configuration, model)
            assert parse(*text.split(" + "), model=model) == configuration, name


def test_describe_of_the_rest() -> None:
    assert describe(Decomposition(), LLAMA) == "dense"
    unequal = Decomposition({Site(3, "o_proj"): Tucker(8, 16)})
    assert describe(unequal, LLAMA) == "layers=3 tensors=o_proj rank=8x16 form=tucker"


def test_specs_joined_as_they_are_printed_are_read() -> None:
    first, second = "layers=2,3 tensors=attn rank=8 form=tucker", "layers=5-9 tensors=mlp rank=64 form=svd"
    expected = parse(first, second)
    assert parse(describe(expected, LLAMA)) == expected
    assert parse(f"{first}  +\n{second}", "layers=31 form=drop") == parse(first, second, "layers=31 form=drop")
    assert parse("rank=8 + rank=9") == parse("rank=9"), "the later wins"


@pytest.mark.parametrize("text", ["+", "rank=8 +", "+ rank=8", "rank=8 + + rank=9", "rank=8+rank=9", "rank=8 +rank=9"])
def test_a_plus_without_a_spec_on_each_side_is_refused(text: str) -> None:
    with pytest.raises(DecompositionError):
        parse(text)


def test_a_stray_comma_is_named() -> None:
    with pytest.raises(DecompositionError, match="a stray comma"):
        parse("tensors=mlp, rank=25%")


def test_a_rank_too_large_for_one_of_several_tensors_says_what_to_do() -> None:
    with pytest.raises(DecompositionError, match=r"k_proj: rank out of range.*percentage of break-even.*tensors="):
        parse("rank=2048", model=MODELS["mistral-7b"])
    with pytest.raises(DecompositionError, match=r"\(1024 x 4096\)$"):
        parse("tensors=k_proj rank=2048", model=MODELS["mistral-7b"])
