"""Every family: built, factored in place, proved to be what was priced, run, and put back."""

from __future__ import annotations

from typing import Any

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402
from validating import BERT, FAMILIES, GPT2, LLAMA, predictor, tiny_spec, workloads  # noqa: E402

from costmodel.decomposition.factors import Decomposition  # noqa: E402
from costmodel.decomposition.text import parse_decomposition  # noqa: E402
from costmodel.errors import ModelError  # noqa: E402
from costmodel.forward.passes import forward_ops  # noqa: E402
from costmodel.forward.workload import Attention, LmHead, Phase, Workload  # noqa: E402
from costmodel.units import DType  # noqa: E402
from validate.errors import MeasurementError  # noqa: E402
from validate.factors.replace import RandomFactors, Replacement, WeightFactors, clone  # noqa: E402
from validate.hf.modules import FactoredLinear  # noqa: E402
from validate.models.build import RandomMatrices, build_model, set_attention  # noqa: E402
from validate.models.passes import cache_bytes, make_pass  # noqa: E402
from validate.speed.identity import identities, require_equal  # noqa: E402
from validate.speed.records import Identity  # noqa: E402

CPU = torch.device("cpu")
CONFIGURATIONS = {
    "dense": [],
    "svd": ["rank=5"],
    "tucker": ["rank=3 form=tucker"],
    "one layer": ["layers=1 tensors=attn rank=7"],
    "dropped": ["layers=0 form=drop", "layers=2 tensors=mlp rank=50%"],
}


def build(config: dict[str, Any], dtype: DType = DType.FP32, seed: int = 0) -> tuple[nn.Module, Any]:
    spec = tiny_spec(config)
    return build_model(config, spec, dtype=dtype, device=CPU, seed=seed), spec


@pytest.mark.parametrize("attention", list(Attention))
@pytest.mark.parametrize("family", FAMILIES)
def test_the_model_built_is_the_one_priced(family: str, attention: Attention) -> None:
    model, spec = build(FAMILIES[family])
    names = CONFIGURATIONS if attention is Attention.FUSED else ("dense", "dropped")  # its kernels see no factor
    for name in names:
        decomposition = parse_decomposition(CONFIGURATIONS[name], spec)
        candidate = clone(model)
        Replacement(candidate, spec, decomposition, RandomFactors(0))
        for work in workloads(spec, attention=attention):
            checks = identities(candidate, spec, decomposition, work, predictor().counts(spec, decomposition, work))
            require_equal(checks)
            assert {check.name for check in checks} == {"params", "weight_bytes", "flops", "kv_cache_bytes"}
            assert checks[2].found > 0
            set_attention(candidate, attention)
            run = make_pass(candidate, spec, decomposition, work, CPU)
            with torch.inference_mode():
                first, second = run(), run()
            assert torch.isfinite(first).all()
            assert torch.equal(first, second)
            assert first.shape == ((2, 64) if spec.is_encoder else (2, 1, 128))


@pytest.mark.parametrize("family", FAMILIES)
def test_factors_carry_the_names_of_the_priced_operations(family: str) -> None:
    model, spec = build(FAMILIES[family])
    decomposition = parse_decomposition(["rank=2 form=tucker", "layers=1 rank=3"], spec)
    Replacement(model, spec, decomposition, RandomFactors(0))
    linears = {name for name, module in model.named_modules() if isinstance(module, nn.Linear)}
    priced = {op.name for op in forward_ops(spec, decomposition, workloads(spec)[0]) if op.site}
    assert priced == {name for name in linears if name.startswith(spec.layer_prefix)}


@pytest.mark.parametrize("family", ["llama", "bert", "gpt2", "opt"])
@pytest.mark.parametrize("form", ["svd", "tucker"])
def test_full_rank_factors_of_the_weights_compute_what_dense_does(family: str, form: str) -> None:
    config = FAMILIES[family]
    model, spec = build(config)
    for parameter in model.parameters():  # biases that are not 0, so that losing one would show
        if parameter.dim() == 1:
            parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(3)) * 0.1)
    full = [f"tensors={t.name} rank={min(t.out_features, t.in_features)} form={form}" for t in spec.tensors]
    work = workloads(spec)[-1]
    with torch.inference_mode():
        dense = make_pass(model, spec, Decomposition(), work, CPU)()
        with Replacement(model, spec, parse_decomposition(full, spec), WeightFactors()):
            factored = make_pass(model, spec, Decomposition(), work, CPU)()
        restored = make_pass(model, spec, Decomposition(), work, CPU)()
    assert torch.allclose(dense, factored, atol=1e-4)
    assert not torch.equal(dense, factored)
    assert torch.equal(dense, restored)


def test_restoring_leaves_nothing_behind() -> None:
    model, spec = build(FAMILIES["mixed"])
    before = {name: id(module) for name, module in model.named_modules()}
    numbers = [layer.self_attn.layer_idx for layer in model.model.layers]
    types = list(model.config.layer_types)
    with Replacement(model, spec, parse_decomposition(["rank=2", "layers=0 form=drop"], spec), RandomFactors(0)):
        assert model.config.num_hidden_layers == len(model.model.layers) == 2
        assert [layer.self_attn.layer_idx for layer in model.model.layers] == [0, 1]
        assert model.config.layer_types == types[1:]
        assert isinstance(model.model.layers[0].mlp.up_proj, FactoredLinear)
    assert {name: id(module) for name, module in model.named_modules()} == before
    assert [layer.self_attn.layer_idx for layer in model.model.layers] == numbers
    assert (model.config.num_hidden_layers, model.config.layer_types) == (3, types)


def test_a_failing_factorisation_leaves_the_model_whole() -> None:
    model, spec = build(LLAMA)
    model.model.layers[1].mlp.down_proj.weight[0, 0] = float("nan")
    before = {name: id(module) for name, module in model.named_modules()}
    with pytest.raises(MeasurementError, match="holds NaN"):
        Replacement(model, spec, parse_decomposition(["rank=2"], spec), WeightFactors())
    assert {name: id(module) for name, module in model.named_modules()} == before


def test_a_clone_shares_weights_but_not_modules() -> None:
    model, spec = build(GPT2)
    twin = clone(model)
    assert [id(p) for p in twin.parameters()] == [id(p) for p in model.parameters()]
    assert not {id(m) for m in twin.modules()} & {id(m) for m in model.modules()}
    assert twin.config is not model.config
    own = clone(model, torch.clone)
    assert not {p.data_ptr() for p in own.parameters()} & {p.data_ptr() for p in model.parameters()}
    assert own.lm_head.weight is own.transformer.wte.weight
    work = workloads(spec)[0]
    with torch.inference_mode():
        outputs = [make_pass(tree, spec, Decomposition(), work, CPU)() for tree in (model, twin, own)]
    assert torch.equal(outputs[0], outputs[1])
    assert torch.equal(outputs[0], outputs[2])


@pytest.mark.parametrize("config", [LLAMA, BERT, GPT2])
def test_random_weights_are_seeded_and_of_the_type_asked_for(config: dict[str, Any]) -> None:
    first, second, other = (build(config, DType.BF16, seed)[0] for seed in (1, 1, 2))
    assert {p.dtype for p in first.parameters()} == {torch.bfloat16}
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(first.parameters(), other.parameters(), strict=True))
    assert not any(buffer.is_meta for buffer in first.buffers())


def test_buffers_are_those_of_transformers_own_model() -> None:
    import transformers

    model, _ = build(LLAMA)
    settings = transformers.CONFIG_MAPPING["llama"].from_dict(LLAMA)
    theirs = dict(transformers.AutoModelForCausalLM.from_config(settings).named_buffers())
    assert {name: value.tolist() for name, value in model.named_buffers()} == {
        name: value.tolist() for name, value in theirs.items()
    }


def test_a_decode_step_computes_the_last_token_of_a_prefill() -> None:
    """The fixed cache against transformers' growing one, filled with the same keys and values."""
    model, spec = build(LLAMA)
    tokens = torch.randint(0, 128, (2, 9), generator=torch.Generator().manual_seed(5))
    with torch.inference_mode():
        whole = model(tokens, use_cache=True)
        past = model(tokens[:, :-1], use_cache=True).past_key_values
        from validate.models.passes import fixed_cache

        cache = fixed_cache(spec, Decomposition(), Workload.decode(9, batch=2, dtype=DType.FP32), CPU)
        for mine, theirs in zip(cache.layers, past.layers, strict=True):
            mine.keys[:, :, :-1], mine.values[:, :, :-1] = theirs.keys, theirs.values
        for _ in range(2):  # the second step does the same again
            step = model(tokens[:, -1:], past_key_values=cache, position_ids=torch.tensor([[8]]))
    assert torch.allclose(step.logits[:, 0], whole.logits[:, -1], atol=1e-5)


def test_logits_of_all_positions() -> None:
    model, spec = build(LLAMA)
    work = Workload.prefill(6, dtype=DType.FP32, lm_head=LmHead.ALL)
    with torch.inference_mode():
        assert make_pass(model, spec, Decomposition(), work, CPU)().shape == (1, 6, 128)
    counts = predictor().counts(spec, Decomposition(), work)
    require_equal(identities(model, spec, Decomposition(), work, counts))


def test_caches_of_windows_and_dropped_layers() -> None:
    spec = tiny_spec(FAMILIES["mixed"])
    work = Workload(phase=Phase.DECODE, q_len=1, kv_len=20, dtype=DType.FP32)
    row = 2 * 2 * 16 * 4  # keys and values of 2 heads of 16 in fp32
    assert cache_bytes(spec, Decomposition(), work) == row * (20 + 8 + 20)
    assert cache_bytes(spec, Decomposition(dropped=frozenset({0})), work) == row * (8 + 20)


def test_a_difference_is_named() -> None:
    with pytest.raises(MeasurementError, match=r"not the one priced: flops 1,234 instead of 1,235") as caught:
        require_equal([Identity(name="params", expected=1, found=1), Identity(name="flops", expected=1235, found=1234)])
    assert caught.value.kind == "identity"


def test_a_folder_without_weights_is_refused(tmp_path: Any) -> None:
    with pytest.raises(ModelError, match="folder without weights"):
        build_model(LLAMA, tiny_spec(LLAMA), dtype=DType.FP32, device=CPU, weights=tmp_path)


def test_weights_come_from_safetensors(tmp_path: Any) -> None:
    model, spec = build(LLAMA, seed=7)
    model.save_pretrained(tmp_path)
    loaded = build_model(LLAMA, spec, dtype=DType.FP32, device=CPU, weights=tmp_path)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), loaded.parameters(), strict=True))
    with pytest.raises(ModelError, match="lacks weights of the model"):
        build_model(LLAMA, tiny_spec({**LLAMA, "num_hidden_layers": 4}), dtype=DType.FP32, device=CPU, weights=tmp_path)
    shallow = build_model(
        LLAMA, tiny_spec({**LLAMA, "num_hidden_layers": 2}), dtype=DType.FP32, device=CPU, weights=tmp_path
    )
    assert torch.equal(shallow.model.layers[1].mlp.up_proj.weight, model.model.layers[1].mlp.up_proj.weight)
    (tmp_path / "model.safetensors").write_bytes(b"broken")
    with pytest.raises(ModelError, match="cannot read weights"):
        build_model(LLAMA, spec, dtype=DType.FP32, device=CPU, weights=tmp_path)


def test_a_masked_model_is_timed_though_it_is_stored_without_a_pooler(tmp_path: Any) -> None:
    from transformers import BertConfig, BertForMaskedLM

    stored = BertForMaskedLM(BertConfig.from_dict(BERT))
    stored.save_pretrained(tmp_path)
    loaded = build_model(BERT, tiny_spec(BERT), dtype=DType.FP32, device=CPU, weights=tmp_path)
    name = "encoder.layer.1.attention.self.query.weight"
    assert torch.equal(loaded.get_parameter(name), stored.bert.get_parameter(name))
    assert all(bool(parameter.isfinite().all()) for parameter in loaded.parameters())


def test_random_matrices_differ_from_each_other_and_can_be_made_again() -> None:
    """Of equal ones a runtime may keep one copy, which its caches then hold."""
    model, _ = build(LLAMA)
    matrices = [each for each in model.parameters() if each.dim() == 2]
    for place, one in enumerate(matrices):
        assert not any(one.shape == other.shape and torch.equal(one, other) for other in matrices[:place])
    remake = RandomMatrices(0, CPU, torch.float32)
    for place, parameter in enumerate(model.parameters()):
        assert parameter.dim() < 2 or torch.equal(remake(parameter.shape, place), parameter)
    large = remake(torch.Size((1500, 1500)), 3)  # beyond the pool
    assert abs(float(large.std()) - 0.02) < 1e-3
