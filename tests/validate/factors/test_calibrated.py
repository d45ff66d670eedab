"""Sequential and Fisher-weighted factors: closed forms, exactness at full rank, and which loses least on a model."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from quality_cases import BERT, checkpoint, opened  # noqa: E402
from torch import nn  # noqa: E402
from trained import trained_llama  # noqa: E402
from validating import GPT2, LLAMA  # noqa: E402

from costmodel.decomposition.factors import Decomposition, LowRank, Site, break_even_rank  # noqa: E402
from costmodel.decomposition.text import parse_decomposition  # noqa: E402
from validate.checkpoint.makers import SequentialMakers  # noqa: E402
from validate.factors.factorize import product  # noqa: E402
from validate.factors.fisher import DAMPING, FisherFactors, StoredFactors, factorize_fisher  # noqa: E402
from validate.factors.replace import Replacement  # noqa: E402
from validate.factors.sequential import SequentialFactors, corrected_weight  # noqa: E402
from validate.factors.whitening import factorize_whitened  # noqa: E402
from validate.models.blocks import Blocks, text_blocks  # noqa: E402
from validate.models.pretrained import Pretrained, open_pretrained  # noqa: E402
from validate.models.stream import LayerStream  # noqa: E402
from validate.models.weights import dense_weight  # noqa: E402
from validate.quality.job import TextFile  # noqa: E402
from validate.quality.opening import calibrated_factors  # noqa: E402
from validate.store.digests import Source  # noqa: E402
from validate.store.texts import read_text  # noqa: E402


def normal(*shape: int, seed: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def symmetric(matrix: torch.Tensor, power: float) -> torch.Tensor:
    values, vectors = torch.linalg.eigh(matrix)
    return (vectors * values.clamp_min(0) ** power) @ vectors.T


@pytest.mark.parametrize("shape", [(7, 12), (12, 7)])
def test_the_last_factor_is_the_least_squares_fit_of_the_dense_outputs(shape: tuple[int, int]) -> None:
    weight, tokens = normal(*shape, seed=0), normal(500, shape[1], seed=1)
    own = tokens + 0.3 * normal(500, shape[1], seed=2)
    moment, cross = own.T @ own / 500, tokens.T @ own / 500
    full = factorize_whitened(corrected_weight(weight, moment, cross), moment, tucker=False)
    first, last = full.stages(LowRank(3))
    fitted = torch.linalg.lstsq(own @ first.T, tokens @ weight.T).solution.T
    assert torch.allclose(last, fitted, rtol=0.05, atol=0.02)

    def error(candidate: torch.Tensor) -> float:
        return float((tokens @ weight.T - own @ candidate.T).square().sum())

    whole = torch.linalg.lstsq(own, tokens @ weight.T).solution.T  # what no rank limits
    best = factorize_whitened(whole, moment, tucker=False)
    assert error(last @ first) <= 1.001 * error(product(best.stages(LowRank(3))))
    assert error(last @ first) < error(product(factorize_whitened(weight, moment, tucker=False).stages(LowRank(3))))


def test_inputs_that_are_the_dense_ones_change_no_weight() -> None:
    weight, tokens = normal(5, 9, seed=0), normal(4, 9, seed=1)  # fewer tokens than features
    moment = tokens.T @ tokens
    assert torch.equal(corrected_weight(weight, moment, moment.clone()), weight)
    own = tokens + 1e-9 * normal(4, 9, seed=2)
    near = corrected_weight(weight, own.T @ own, tokens.T @ own)
    assert torch.allclose(near, weight, atol=1e-6)


@pytest.mark.parametrize(("tucker", "shape"), [(False, (6, 11)), (True, (11, 6))])
def test_weighted_truncation_is_the_best_for_its_criterion(tucker: bool, shape: tuple[int, int]) -> None:
    weight = normal(*shape, seed=0)
    inputs, gradients = normal(50, shape[1], seed=1), normal(50, shape[0], seed=2) * torch.logspace(0, -2, shape[0])
    moment, curvature = inputs.T @ inputs, gradients.T @ gradients
    full = factorize_fisher(weight, moment, curvature, tucker=tucker)
    core = full.core if tucker else torch.diag(full.core)
    assert torch.allclose(full.left @ core @ full.right, weight, atol=1e-10)
    damped = curvature + DAMPING * curvature.diagonal().mean() * torch.eye(shape[0])
    outer, inner = symmetric(damped, 0.5), symmetric(moment, 0.5)
    spectrum = torch.linalg.svdvals(outer @ weight @ inner).square()
    for rank in (1, 3):
        lost = weight - full.left[:, :rank] @ core[:rank, :rank] @ full.right[:rank]
        assert float((outer @ lost @ inner).square().sum()) == pytest.approx(float(spectrum[rank:].sum()), rel=1e-8)


def test_without_gradients_the_weights_are_whitened() -> None:
    weight, inputs = normal(6, 8, seed=0), normal(20, 8, seed=1)
    moment = inputs.T @ inputs
    found = factorize_fisher(weight, moment, torch.zeros(6, 6, dtype=torch.float64), tucker=False)
    truth = factorize_whitened(weight, moment, tucker=False)
    assert torch.equal(found.right, truth.right)


def whole(pretrained: Pretrained, form: str) -> Decomposition:
    ranks = {tensor.name: min(tensor.out_features, tensor.in_features) for tensor in pretrained.spec.tensors}
    spec = " + ".join(f"tensors={name} rank={rank} form={form}" for name, rank in ranks.items())
    return parse_decomposition([spec], pretrained.spec)


def logits(pretrained: Pretrained, blocks: torch.Tensor) -> torch.Tensor:
    model: Any = pretrained.model
    with torch.inference_mode():
        found: torch.Tensor = model(input_ids=blocks).logits
    return found


TOKENS = torch.randint(5, 90, (5, 12), generator=torch.Generator().manual_seed(3))
TARGETS = TOKENS.roll(-1, 1)


@pytest.mark.parametrize(
    ("config", "form"), [(LLAMA, "svd"), (GPT2, "tucker"), (BERT, "svd")], ids=["llama", "gpt2", "bert"]
)
def test_full_rank_is_the_dense_model(config: dict[str, Any], form: str, tmp_path: Path) -> None:
    pretrained = opened(checkpoint(tmp_path / "model", config, scale=2.0))
    dense = logits(pretrained, TOKENS)
    stream = LayerStream(str(tmp_path / "model"), batch=2)
    everything = whole(pretrained, form)
    for make in (SequentialFactors(stream, TOKENS).fitted(everything), FisherFactors(stream, TOKENS, TARGETS)):
        with Replacement(pretrained.body, pretrained.spec, everything, make):
            assert torch.allclose(logits(pretrained, TOKENS), dense, atol=2e-3 * float(dense.abs().max()))
        assert torch.equal(logits(pretrained, TOKENS), dense)


def test_the_first_factored_layer_is_whitened_and_the_next_follows_it(tmp_path: Path) -> None:
    """The second layer against moments taken by hand, of the really factored model beside the dense one."""
    pretrained = opened(checkpoint(tmp_path / "model", LLAMA, scale=2.0))
    stream = LayerStream(str(tmp_path / "model"), batch=2)
    asked = parse_decomposition(["layers=0 rank=3", "layers=2 tensors=gate_proj rank=4"], pretrained.spec)
    dropping = Decomposition(asked.factors, frozenset({1}))
    for decomposition in (asked, dropping):
        make = SequentialFactors(stream, TOKENS).fitted(decomposition)
        module = pretrained.model.get_submodule("model.layers.2.mlp.gate_proj")
        seen: list[torch.Tensor] = []
        hook = module.register_forward_pre_hook(lambda _, args, to=seen: to.append(args[0].double().reshape(-1, 64)))
        first = Decomposition({s: f for s, f in decomposition.factors.items() if s.layer == 0}, decomposition.dropped)
        logits(pretrained, TOKENS)
        with Replacement(pretrained.body, pretrained.spec, first, make):
            logits(pretrained, TOKENS)
        hook.remove()
        dense, own = seen
        moment, cross = own.T @ own / len(own), dense.T @ own / len(own)
        weight = dense_weight(module)
        full = factorize_whitened(corrected_weight(weight, moment, cross), moment, tucker=False)
        site = Site(2, "gate_proj")
        found = make(site, pretrained.spec.tensor("gate_proj"), LowRank(4), module)
        assert torch.allclose(product(found), product(full.stages(LowRank(4))).float(), atol=1e-4)


def test_what_apply_writes_is_what_quality_measures(tmp_path: Path) -> None:
    pretrained = opened(checkpoint(tmp_path / "model", LLAMA, scale=2.0))
    stream = LayerStream(str(tmp_path / "model"), batch=2)
    decomposition = parse_decomposition(["layers=0,2 rank=3"], pretrained.spec)
    (tmp_path / "scratch").mkdir()
    stored = StoredFactors(stream, TOKENS, TARGETS, decomposition, tmp_path / "scratch")
    pairs = [
        (SequentialFactors(stream, TOKENS).fitted(decomposition), SequentialMakers(stream, TOKENS, decomposition)),
        (FisherFactors(stream, TOKENS, TARGETS, {0, 2}), lambda site: stored),
    ]
    for quality, makers in pairs:
        for site, factor in sorted(decomposition.factors.items()):
            tensor = pretrained.spec.tensor(site.tensor)
            module = pretrained.body.get_submodule(f"model.layers.{site.layer}.{tensor.path}")
            for one, other in zip(
                quality(site, tensor, factor, module), makers(site)(site, tensor, factor, module), strict=True
            ):
                assert torch.equal(one, other)


@functools.cache
def trained() -> tuple[Pretrained, Blocks, Blocks, TextFile]:
    found = trained_llama()
    pretrained = open_pretrained(str(found.model))
    calibration, text = read_text(found.calibration), read_text(found.text)
    asked = (pretrained.model, pretrained.spec, pretrained.tokenizer)
    blocks = [text_blocks(*asked, each, 64, 48) for each in (calibration, text)]
    return pretrained, *blocks, TextFile(content=calibration, source=Source(name="c", sha256="0"))


def loss(pretrained: Pretrained, blocks: Blocks) -> float:
    predicted = logits(pretrained, blocks.inputs)
    return float(nn.functional.cross_entropy(predicted.flatten(0, 1), blocks.targets.flatten()))


def test_what_knows_more_loses_less_on_a_trained_model() -> None:
    """At a tenth of break-even everywhere: plain > whitened > sequential on calibration text, and on other text."""
    pretrained, calibration, text, source = trained()
    spec = pretrained.spec
    limits = {tensor.name: break_even_rank(tensor.out_features, tensor.in_features, "svd") for tensor in spec.tensors}
    sites = [Site(layer, name) for layer in range(spec.num_layers) for name in limits]
    asked = Decomposition({site: LowRank(max(1, limits[site.tensor] // 10)) for site in sites})
    losses: dict[str, tuple[float, float]] = {"dense": (loss(pretrained, calibration), loss(pretrained, text))}
    for kind in ("plain", "whitened", "sequential", "fisher"):
        make = calibrated_factors(kind, pretrained, source, length=64, blocks=48)
        if isinstance(make, SequentialFactors):
            make = make.fitted(asked)
        with Replacement(pretrained.body, spec, asked, make):
            losses[kind] = loss(pretrained, calibration), loss(pretrained, text)
    for place, tolerance in ((0, 0.0), (1, 0.01)):
        values = {kind: pair[place] for kind, pair in losses.items()}
        assert values["dense"] < values["sequential"] < values["whitened"] + tolerance, losses
        assert values["whitened"] < values["plain"] + tolerance, losses
        assert values["dense"] < values["fisher"] < values["plain"], losses
