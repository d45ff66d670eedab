"""Models of experts and of latent attention, really factored: identities, FLOPs and parameters."""

from __future__ import annotations

import random
from typing import Any

import pytest
import torch
from cases import spec_of
from expert_configs import EXPERTS, experts
from torch.utils.flop_counter import FlopCounterMode
from validating import predictor, workloads

from costmodel.decomposition.text import parse_decomposition
from costmodel.errors import InputError
from costmodel.forward.workload import Attention, ExpertKernels, LmHead, Workload
from costmodel.hardware.profile import load_hardware
from costmodel.pricing.estimate import estimate
from costmodel.units import DType
from validate.factors.replace import RandomFactors, Replacement, WeightFactors
from validate.hf.experts import FactoredExperts, StackLayout
from validate.models.build import build_model, set_attention, set_experts
from validate.models.passes import make_pass
from validate.plans.case import params_of
from validate.speed.identity import identities, require_equal

A100 = load_hardware("a100-sxm-80gb")
CPU = torch.device("cpu")
QUICK = ("mixtral", "gpt_oss", "deepseek_v3")
TYPES = [each if each in QUICK else pytest.param(each, marks=pytest.mark.slow) for each in EXPERTS]


def built(model_type: str) -> tuple[Any, Any]:
    config = experts(model_type)
    spec = spec_of(config)
    model = build_model(config, spec, dtype=DType.FP32, device=CPU)
    generator = torch.Generator().manual_seed(1)
    for name, parameter in model.named_parameters():  # no two experts, and no two ranks of one, alike
        if parameter.dim() > 1 or "bias" in name:
            parameter.data = torch.randn(parameter.shape, generator=generator) * 0.3
    set_attention(model, Attention.UNFUSED)
    set_experts(model, "eager")
    return spec, model


def full_rank(spec: Any) -> list[str]:
    return [f"tensors={t.name} rank={min(t.out_features, t.in_features)}" for t in spec.tensors]


def tokens_of(batch: int, length: int) -> torch.Tensor:
    return torch.randint(1, 128, (batch, length), generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("model_type", TYPES)
def test_full_rank_is_the_dense_model_and_leaving_restores_it(model_type: str) -> None:
    spec, model = built(model_type)
    tokens = tokens_of(2, 9)
    before = model(tokens).logits
    with Replacement(model, spec, parse_decomposition(full_rank(spec), spec), WeightFactors()):
        assert (model(tokens).logits - before).abs().max() < 2e-4 * before.abs().max()
    assert torch.equal(model(tokens).logits, before)


@pytest.mark.parametrize("model_type", TYPES)
def test_parameters_and_flops_are_those_of_the_estimate(model_type: str) -> None:
    spec, model = built(model_type)
    rng = random.Random(model_type)
    specs = [f"tensors={name} rank={rng.randint(1, 5)}" for name in spec.groups["all"] if rng.random() < 0.7]
    apart = ["layers=1 tensors=experts.2.down_proj rank=2", "layers=1 tensors=experts.0.up_proj rank=3 form=tucker"]
    work = Workload.prefill(7, batch=2, dtype=DType.FP32, attention=Attention.UNFUSED, lm_head=LmHead.ALL)
    stacked, decomposition = (parse_decomposition(each, spec) for each in (specs, specs + apart))
    priced = estimate(spec, A100, decomposition, [work]).phases[0].decomposed
    with Replacement(model, spec, decomposition, WeightFactors()):
        assert sum(p.numel() for p in model.parameters()) == priced.params == params_of(spec, decomposition)
    with Replacement(model, spec, stacked, WeightFactors()), FlopCounterMode(display=False) as counter:
        model(tokens_of(2, 7), use_cache=False)
    assert counter.get_total_flops() == estimate(spec, A100, stacked, [work]).phases[0].decomposed.flops


@pytest.mark.parametrize("model_type", TYPES)
def test_what_is_timed_has_every_identity_and_a_pass_of_each_phase(model_type: str) -> None:
    spec, model = built(model_type)
    specs = ["layers=0,1 rank=3", "layers=2 tensors=experts.2.down_proj rank=2"]
    decomposition = parse_decomposition(specs, spec)
    Replacement(model, spec, decomposition, RandomFactors(0))
    for work in workloads(spec, attention=Attention.UNFUSED, experts=ExpertKernels.LOOPED):
        counts = predictor().counts(spec, decomposition, work)
        require_equal(identities(model, spec, decomposition, work, counts))
        run = make_pass(model, spec, decomposition, work, CPU)
        with torch.inference_mode():
            assert torch.equal(run(), run())  # a step stands where it stood


@pytest.mark.parametrize("model_type", ["gpt_oss", "nemotron_h", "qwen3_moe"])
def test_stacks_are_taken_apart_and_put_together(model_type: str) -> None:
    import transformers

    name = {"gpt_oss": "GptOssExperts", "nemotron_h": "NemotronHExperts", "qwen3_moe": "Qwen3MoeExperts"}[model_type]
    settings = transformers.CONFIG_MAPPING[model_type]()
    for field in ("num_local_experts", "num_experts", "n_routed_experts"):
        setattr(settings, field, 3)
    for field in ("intermediate_size", "moe_intermediate_size", "hidden_size"):
        setattr(settings, field, 8)
    settings._experts_implementation = "eager"
    module = getattr(getattr(transformers.models, model_type), f"modeling_{model_type}")
    dense = getattr(module, name)(settings).requires_grad_(False)
    for parameter in dense.parameters():
        parameter.normal_(generator=torch.Generator().manual_seed(0))
    hidden, numbers = torch.randn(5, 8), torch.tensor([[0, 2], [1, 2], [2, 0], [0, 1], [2, 1]])
    weights, factored = torch.rand(5, 2), FactoredExperts(dense, {})
    expected = dense(hidden, numbers, weights)
    assert torch.allclose(factored(hidden, numbers, weights), expected, atol=1e-5)
    again = factored.dense()
    assert {key: value.shape for key, value in again.state_dict().items()} == {
        key: value.shape for key, value in dense.state_dict().items()
    }
    assert all(torch.equal(value, dense.state_dict()[key]) for key, value in again.state_dict().items())
    assert torch.equal(again(hidden, numbers, weights), expected)


def test_experts_that_are_stacked_in_an_unknown_way_are_refused_by_name() -> None:
    with pytest.raises(ValueError, match="experts of Linear cannot be factored"):
        StackLayout.of(torch.nn.Linear(2, 2))


def test_experts_are_timed_one_after_the_other() -> None:
    from validating import FakeGpu

    from validate.speed import planning
    from validate.speed.settings import MeasureSettings

    spec = spec_of(experts("mixtral"))
    device: Any = FakeGpu()
    choice = planning.workloads(MeasureSettings(), spec, device, DType.BF16)
    assert [each["experts"] for each in choice.options] == [ExpertKernels.LOOPED]
    with pytest.raises(InputError, match="--runtime graph with experts"):
        planning.workloads(MeasureSettings(runtime="graph"), spec, device, DType.BF16)
