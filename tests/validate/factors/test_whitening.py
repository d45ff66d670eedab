"""Whitened factors: no weight of the same rank changes the outputs less, with moments of any rank."""

from __future__ import annotations

from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from checkpoints import dense_folder  # noqa: E402
from hypothesis import given  # noqa: E402
from hypothesis import strategies as st  # noqa: E402
from trained import trained_llama  # noqa: E402
from validating import BERT, FAMILIES, GPT2, LLAMA, OPT  # noqa: E402

from costmodel.decomposition.factors import Decomposition, Factor, LowRank, Site, Tucker  # noqa: E402
from costmodel.errors import InputError  # noqa: E402
from validate.errors import MeasurementError  # noqa: E402
from validate.factors.factorize import factorize, product  # noqa: E402
from validate.factors.moments import collect_moments  # noqa: E402
from validate.factors.replace import Replacement, WeightFactors  # noqa: E402
from validate.factors.whitening import WhitenedFactors, factorize_whitened, make_factors, numerical_rank  # noqa: E402
from validate.models.pretrained import Pretrained, open_pretrained  # noqa: E402
from validate.models.text import token_blocks  # noqa: E402
from validate.store.texts import read_text  # noqa: E402

BLOCKS = torch.randint(1, 128, (3, 10), generator=torch.Generator().manual_seed(1))
SHAPES = st.tuples(st.integers(1, 24), st.integers(1, 24), st.integers(1, 40))
"""out, in, tokens: fewer tokens than features as often as not."""


def normal(*shape: int, seed: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def case(out_features: int, in_features: int, tokens: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """A weight, and the moment of inputs whose directions have energies over six orders of magnitude."""
    inputs = normal(tokens, in_features, seed=seed) @ normal(in_features, in_features, seed=seed + 1)
    inputs = inputs * torch.logspace(0, -3, in_features, dtype=torch.float64)
    return normal(out_features, in_features, seed=seed + 2), inputs.T @ inputs / tokens


def output_error(weight: torch.Tensor, other: torch.Tensor, moment: torch.Tensor) -> float:
    """E||W x - W' x||^2."""
    lost = weight - other
    return float((lost @ moment * lost).sum())


def whitened_spectrum(weight: torch.Tensor, moment: torch.Tensor) -> torch.Tensor:
    """Squared singular values of W S, S the symmetric root of the moment: another way than the code's."""
    values, vectors = torch.linalg.eigh(moment)
    return torch.linalg.svdvals(weight @ vectors @ torch.diag(values.clamp_min(0).sqrt())).square()


@given(SHAPES, st.integers(1, 24), st.booleans(), st.integers(0, 10**6))
def test_the_output_error_is_the_tail_of_the_whitened_spectrum(
    shape: tuple[int, int, int], rank: int, tucker: bool, seed: int
) -> None:
    weight, moment = case(*shape, seed)
    rank = min(rank, *weight.shape)
    factor: Factor = Tucker(rank, rank) if tucker else LowRank(rank)
    spectrum = whitened_spectrum(weight, moment)
    rounding = 1e-12 * float(spectrum.sum())
    error = output_error(weight, product(factorize_whitened(weight, moment, tucker=tucker).stages(factor)), moment)
    assert error == pytest.approx(float(spectrum[rank:].sum()), rel=1e-7, abs=rounding)
    plain = output_error(weight, product(factorize(weight, tucker=tucker).stages(factor)), moment)
    assert error <= plain * (1 + 1e-9) + rounding
    other = normal(weight.shape[0], rank, seed=seed) @ normal(rank, weight.shape[1], seed=seed + 5)
    assert error <= output_error(weight, other, moment) * (1 + 1e-9) + rounding


@given(st.integers(1, 20), st.integers(1, 20), st.booleans(), st.integers(0, 10**6))
def test_isotropic_inputs_give_the_plain_truncation(rows: int, columns: int, tucker: bool, seed: int) -> None:
    weight, moment = normal(rows, columns, seed=seed), 3 * torch.eye(columns, dtype=torch.float64)
    plain, whitened = factorize(weight, tucker=tucker), factorize_whitened(weight, moment, tucker=tucker)
    for rank in range(1, min(rows, columns) + 1):
        factor: Factor = Tucker(rank, rank) if tucker else LowRank(rank)
        expected = output_error(weight, product(plain.stages(factor)), moment)
        found = output_error(weight, product(whitened.stages(factor)), moment)
        assert found == pytest.approx(expected, rel=1e-8, abs=1e-9)


@given(SHAPES, st.booleans(), st.integers(0, 10**6))
def test_full_rank_is_the_weight_even_where_no_input_ever_went(
    shape: tuple[int, int, int], tucker: bool, seed: int
) -> None:
    weight, moment = case(*shape, seed)
    rank = min(weight.shape)
    factor: Factor = Tucker(rank, rank) if tucker else LowRank(rank)
    assert torch.allclose(product(factorize_whitened(weight, moment, tucker=tucker).stages(factor)), weight, atol=1e-9)


def test_ranks_beyond_the_moments_go_to_the_plain_truncation_of_the_rest() -> None:
    weight, moment = case(20, 30, 4, seed=0)
    full = factorize_whitened(weight, moment, tucker=False)
    seen = numerical_rank(torch.linalg.eigvalsh(weight @ moment @ weight.T))
    assert seen == 4
    assert (full.left.shape, full.right.shape) == ((20, 20), (20, 30))
    assert factorize_whitened(weight.T, torch.eye(20), tucker=False).left.shape == (30, 20)
    kept = product(full.stages(LowRank(seen)))
    rest = torch.linalg.svdvals(weight - kept).square()
    for rank in range(seen, 21):
        lost = weight - product(full.stages(LowRank(rank)))
        assert float(lost.square().sum()) == pytest.approx(float(rest[rank - seen :].sum()), abs=1e-9)
    assert output_error(weight, kept, moment) == pytest.approx(0, abs=1e-12)


def test_degenerate_weights_and_moments() -> None:
    zero, eye = torch.zeros(5, 7, dtype=torch.float64), torch.eye(7, dtype=torch.float64)
    assert torch.equal(product(factorize_whitened(zero, eye, tucker=False).stages(LowRank(3))), zero)
    weight = normal(5, 7, seed=0)
    plain = product(factorize(weight, tucker=False).stages(LowRank(2)))
    found = product(factorize_whitened(weight, torch.zeros(7, 7), tucker=False).stages(LowRank(2)))
    assert torch.allclose(found, plain)  # no input at all: nothing but the weight to go by
    low = normal(9, 2, seed=1) @ normal(2, 6, seed=2)
    moment = torch.eye(6, dtype=torch.float64)
    assert torch.allclose(product(factorize_whitened(low, moment, tucker=True).stages(Tucker(2, 2))), low)


def test_stages_have_the_shapes_and_types_of_the_plain_ones() -> None:
    weight, moment = case(12, 20, 60, seed=3)
    for dtype, wide in ((torch.bfloat16, torch.float32), (torch.float32, torch.float32), (torch.float64,) * 2):
        tucker = factorize_whitened(weight.to(dtype), moment, tucker=True)
        assert tucker.core.dtype is wide
        stages = tucker.stages(Tucker(3, 7))
        assert [tuple(stage.shape) for stage in stages] == [(3, 20), (7, 3), (12, 7)]
        assert torch.allclose(product(stages), product(tucker.stages(Tucker(3, 3))), atol=1e-6)
        stages = factorize_whitened(weight.to(dtype), moment, tucker=False).stages(LowRank(4))
        assert [tuple(stage.shape) for stage in stages] == [(4, 20), (12, 4)]
    with pytest.raises(MeasurementError, match="does not give"):
        tucker.stages(LowRank(3))


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_what_is_not_finite_is_refused(bad: float) -> None:
    weight, moment = case(4, 5, 9, seed=0)
    spoilt = weight.clone()
    spoilt[1, 2] = bad
    with pytest.raises(MeasurementError, match=r"weight of shape \(4, 5\) holds NaN or infinity"):
        factorize_whitened(spoilt, moment, tucker=False)
    moment[0, 0] = bad
    with pytest.raises(MeasurementError, match=r"input moment of shape \(5, 5\) holds NaN or infinity"):
        factorize_whitened(weight, moment, tucker=False)


def test_a_failing_routine_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: object, **kwargs: object) -> None:
        raise RuntimeError("did not converge")

    monkeypatch.setattr("torch.linalg.eigh", fail)
    with pytest.raises(MeasurementError, match=r"whitening of \(4, 5\) failed: did not converge"):
        factorize_whitened(*case(4, 5, 9, seed=0), tucker=False)


@pytest.fixture
def tiny(request: pytest.FixtureRequest, tmp_path: Path) -> Pretrained:
    return open_pretrained(str(dense_folder(tmp_path / "dense", FAMILIES[request.param])))


@pytest.mark.parametrize("tiny", ["llama", "bert", "gpt2", "opt"], indirect=True)
def test_moments_are_means_over_the_inputs_of_each_weight(tiny: Pretrained) -> None:
    moments = collect_moments(tiny, BLOCKS, batch=2)
    spec, seen = tiny.spec, {}
    for site in moments.matrices:
        path = f"{spec.layer_prefix}.{site.layer}.{spec.tensor(site.tensor).path}"
        module = tiny.body.get_submodule(path)
        assert not module._forward_pre_hooks
        module.register_forward_pre_hook(lambda module, args, site=site: seen.update({site: args[0]}))
    with torch.no_grad():
        tiny.model(BLOCKS)
    assert set(seen) == {Site(layer, each.name) for layer in range(spec.num_layers) for each in spec.tensors}
    for site, inputs in seen.items():
        rows = inputs.reshape(-1, inputs.shape[-1]).double()
        assert moments.of(site).dtype is torch.float64
        assert torch.allclose(moments.of(site), rows.T @ rows / len(rows), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("config", "shared"),
    [
        (LLAMA, [("q_proj", "k_proj", "v_proj"), ("gate_proj", "up_proj")]),
        (BERT, [("query", "key", "value")]),
        (OPT, [("q_proj", "k_proj", "v_proj")]),
        (GPT2, []),
    ],
)
def test_sites_with_one_input_share_its_matrix(
    config: dict[str, object], shared: list[tuple[str, ...]], tmp_path: Path
) -> None:
    moments = collect_moments(open_pretrained(str(dense_folder(tmp_path / "dense", config))), BLOCKS, layers=[1])
    groups: dict[int, list[str]] = {}
    for site, matrix in moments.matrices.items():
        assert site.layer == 1
        groups.setdefault(id(matrix), []).append(site.tensor)
    assert [tuple(names) for names in groups.values() if len(names) > 1] == shared
    with pytest.raises(InputError, match=r"no input moments for this site: got 'layers\.0\."):
        moments.of(Site(0, next(iter(moments.matrices)).tensor))


def test_an_input_that_is_not_finite_is_refused(tmp_path: Path) -> None:
    pretrained = open_pretrained(str(dense_folder(tmp_path / "dense", LLAMA)))
    with torch.no_grad():
        pretrained.model.model.layers[0].mlp.up_proj.weight[0, 0] = float("inf")
    with pytest.raises(MeasurementError, match="input of down_proj holds NaN or infinity"):
        collect_moments(pretrained, BLOCKS)
    assert not pretrained.model.model.layers[0].mlp.down_proj._forward_pre_hooks


@pytest.mark.parametrize("tiny", ["gpt2", "llama"], indirect=True)
def test_a_model_runs_on_whitened_factors_of_either_form(tiny: Pretrained) -> None:
    make = make_factors("whitened", tiny, BLOCKS)
    first = tiny.spec.tensors[0].name
    with torch.no_grad():
        dense = tiny.model(BLOCKS).logits
        for factor in (LowRank(64), Tucker(64, 64)):
            with Replacement(tiny.body, tiny.spec, Decomposition({Site(1, first): factor}), make):
                assert torch.allclose(tiny.model(BLOCKS).logits, dense, atol=1e-4)
        with Replacement(tiny.body, tiny.spec, Decomposition({Site(1, first): LowRank(2)}), make):
            assert not torch.allclose(tiny.model(BLOCKS).logits, dense, atol=1e-4)


def test_one_factorisation_serves_every_rank(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from validate.factors import whitening

    pretrained = open_pretrained(str(dense_folder(tmp_path / "dense", LLAMA)))
    calls = []
    real = whitening.factorize_whitened
    monkeypatch.setattr(whitening, "factorize_whitened", lambda *args, **kw: calls.append(kw) or real(*args, **kw))
    make = WhitenedFactors(collect_moments(pretrained, BLOCKS))
    dense = pretrained.model.model.layers[0].self_attn.q_proj
    for factor in (LowRank(2), LowRank(9), Tucker(2, 2), Tucker(5, 3)):
        make(Site(0, "q_proj"), pretrained.spec.tensor("q_proj"), factor, dense)
    assert calls == [{"tucker": False}, {"tucker": True}]


def test_the_kind_of_factors_is_chosen_by_name(tmp_path: Path) -> None:
    pretrained = open_pretrained(str(dense_folder(tmp_path / "dense", LLAMA)))
    assert isinstance(make_factors("plain", pretrained, None), WeightFactors)
    assert isinstance(make_factors("whitened", pretrained, BLOCKS, layers=[0]), WhitenedFactors)
    with pytest.raises(InputError, match="need calibration text"):
        make_factors("whitened", pretrained, None)
    with pytest.raises(InputError, match="unknown factors: got 'best'; allowed: plain, whitened"):
        make_factors("best", pretrained, None)


def test_whitened_factors_keep_a_trained_model_closer_to_dense() -> None:
    made = trained_llama()
    pretrained = open_pretrained(str(made.model))
    calibration = token_blocks(pretrained.tokenizer, read_text(made.calibration), 64, 32)
    heldout = token_blocks(pretrained.tokenizer, read_text(made.text), 64, 16)
    config = Decomposition(
        {Site(layer, each.name): LowRank(16) for layer in range(3) for each in pretrained.spec.tensors}
    )
    with torch.no_grad():
        dense, lost = pretrained.model(heldout).logits.log_softmax(-1), {}
        for kind in ("plain", "whitened"):
            make = make_factors(kind, pretrained, calibration)
            with Replacement(pretrained.body, pretrained.spec, config, make):
                other = pretrained.model(heldout).logits.log_softmax(-1)
            lost[kind] = float((dense.exp() * (dense - other)).sum(-1).mean())
    assert lost["whitened"] < 0.7 * lost["plain"]
