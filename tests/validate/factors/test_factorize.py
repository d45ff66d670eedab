"""Factorisations: exact at full rank, off by the tail of the singular values below; any float type; failures named."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from hypothesis import given  # noqa: E402
from hypothesis import strategies as st  # noqa: E402
from torch import nn  # noqa: E402

from costmodel.decomposition.factors import Factor, LowRank, Tucker  # noqa: E402
from validate.errors import MeasurementError  # noqa: E402
from validate.factors.factorize import Factorization, factorize, product, random_stages  # noqa: E402
from validate.hf.modules import FactoredLinear  # noqa: E402


def weight(rows: int, columns: int, dtype: torch.dtype = torch.float32, seed: int = 0) -> torch.Tensor:
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed)).to(dtype)


def off(matrix: torch.Tensor, full: Factorization, factor: Factor) -> float:
    """Frobenius norm of what a factor leaves out of a matrix."""
    kept = product(full.stages(factor)).to(torch.float64)
    return float(torch.linalg.norm(matrix.to(torch.float64) - kept))


@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 40), st.booleans(), st.integers(0, 10**6))
def test_the_error_is_the_tail_of_the_singular_values(
    rows: int, columns: int, rank: int, tucker: bool, seed: int
) -> None:
    rank = min(rank, rows, columns)
    matrix = weight(rows, columns, torch.float64, seed)
    factor: Factor = Tucker(rank, rank) if tucker else LowRank(rank)
    full = factorize(matrix, tucker=tucker)
    tail = torch.linalg.svdvals(matrix)[rank:].square().sum().sqrt()
    assert off(matrix, full, factor) == pytest.approx(float(tail), abs=1e-9)


def test_one_factorisation_serves_every_rank_and_unequal_ones() -> None:
    matrix = weight(20, 12, torch.float64)
    full = factorize(matrix, tucker=True)
    errors = [off(matrix, full, Tucker(rank, rank)) for rank in range(1, 13)]
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] == pytest.approx(0, abs=1e-9)
    stages = full.stages(Tucker(3, 7))
    assert [tuple(stage.shape) for stage in stages] == [(3, 12), (7, 3), (20, 7)]
    assert off(matrix, full, Tucker(3, 7)) == pytest.approx(errors[2], rel=1e-9)


def spectrum(values: torch.Tensor, dtype: torch.dtype, seed: int = 0) -> torch.Tensor:
    """A square matrix of these singular values, in random directions."""
    left, right = (torch.linalg.qr(weight(len(values), len(values), torch.float64, seed + side))[0] for side in (0, 1))
    return (left * values @ right.T).to(dtype)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize(
    ("values", "rank"),
    [
        (torch.ones(128, dtype=torch.float64), 32),
        (torch.cat([torch.full((32,), 2.0), torch.ones(224)]).to(torch.float64), 64),
        (torch.tensor([3.0, 3.0, 3.0, 1.0, 1.0, 0.0, 0.0], dtype=torch.float64), 2),
    ],
)
def test_both_forms_have_the_error_of_the_truncated_svd_where_singular_values_repeat(
    values: torch.Tensor, rank: int, dtype: torch.dtype
) -> None:
    """Also in narrow types, whose rounding parts the values hardly."""
    matrix = spectrum(values, dtype)
    tail = float(torch.linalg.svdvals(matrix.to(torch.float64))[rank:].square().sum().sqrt())
    svd = off(matrix, factorize(matrix, tucker=False), LowRank(rank))
    tucker = off(matrix, factorize(matrix, tucker=True), Tucker(rank, rank))
    assert svd == pytest.approx(tail, rel=1e-5)
    assert tucker == pytest.approx(tail, rel=1e-5)


def test_a_tucker_decomposition_is_tensorlys_where_no_singular_value_repeats() -> None:
    import tensorly
    from tensorly.decomposition import tucker

    matrix = weight(12, 9, torch.float64)
    full = factorize(matrix, tucker=True)
    with tensorly.backend_context("pytorch", local_threadsafe=True):
        core, (left, right) = tucker(matrix, rank=[4, 4], init="svd")
    theirs = torch.linalg.norm(matrix - left @ core @ right.T)
    assert off(matrix, full, Tucker(4, 4)) == pytest.approx(float(theirs), rel=1e-9)
    assert torch.allclose(core.abs(), full.core[:4, :4], atol=1e-9)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("tucker", [False, True])
def test_any_float_type_goes_in(dtype: torch.dtype, tucker: bool) -> None:
    matrix = weight(9, 6, dtype)
    full = factorize(matrix, tucker=tucker)
    assert full.left.dtype is (torch.float64 if dtype is torch.float64 else torch.float32)
    factor: Factor = Tucker(6, 6) if tucker else LowRank(6)
    assert torch.allclose(product(full.stages(factor)).to(dtype), matrix, atol=1e-2)


@pytest.mark.parametrize("tucker", [False, True])
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_weight_that_is_not_finite_is_refused(tucker: bool, bad: float) -> None:
    matrix = weight(4, 4)
    matrix[2, 1] = bad
    with pytest.raises(MeasurementError, match=r"weight of shape \(4, 4\) holds NaN or infinity"):
        factorize(matrix, tucker=tucker)


@pytest.mark.parametrize("tucker", [False, True])
def test_a_failing_routine_is_named(tucker: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: object, **kwargs: object) -> None:
        raise RuntimeError("did not converge")

    monkeypatch.setattr("torch.linalg.svd", fail)
    with pytest.raises(MeasurementError, match="failed: did not converge"):
        factorize(weight(4, 4), tucker=tucker)


def test_the_wrong_form_is_refused() -> None:
    with pytest.raises(MeasurementError, match="does not give"):
        factorize(weight(4, 4), tucker=False).stages(Tucker(2, 2))


@pytest.mark.parametrize("factor", [LowRank(3), Tucker(3, 5)])
def test_random_factors_keep_outputs_as_large_as_a_dense_random_weight(factor: Factor) -> None:
    stages = random_stages(
        300,
        200,
        factor,
        dtype=torch.float32,
        device=torch.device("cpu"),
        scale=0.02,
        generator=torch.Generator().manual_seed(1),
    )
    assert product(stages).std() == pytest.approx(0.02, rel=0.5)


def test_a_factored_linear_runs_its_factors_and_keeps_the_bias() -> None:
    matrix, bias = weight(7, 5), nn.Parameter(weight(7, 1)[:, 0])
    layer = FactoredLinear(factorize(matrix, tucker=True).stages(Tucker(5, 5)), bias)
    assert [name for name, _ in layer.named_children()] == ["in", "core", "out"]
    assert (layer.in_features, layer.out_features) == (5, 7)
    assert sum(parameter.numel() for parameter in layer.parameters()) == 5 * 5 + 5 * 5 + 7 * 5 + 7
    inputs = weight(11, 5, seed=3).view(1, 11, 5)
    assert torch.allclose(layer(inputs), nn.functional.linear(inputs, matrix, bias), atol=1e-5)
