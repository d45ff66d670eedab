"""FLOPs, parameters, kernels, caches and live memory against transformers models that really are factored."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from cases import MODEL_TYPES, few_or_all, random_config, random_decomposition, random_workload, spec_of  # noqa: E402
from dispatch import Kernels, LiveBytes  # noqa: E402
from factored import TORCH_DTYPES, build, filled_cache, run, tokens_of  # noqa: E402
from liveness import build_graph, peak_live_bytes  # noqa: E402
from torch.utils.flop_counter import FlopCounterMode  # noqa: E402
from transformers.activations import ACT2FN  # noqa: E402

from costmodel.decomposition.factors import Decomposition, LowRank, Site, Tucker  # noqa: E402
from costmodel.families.load import load_model  # noqa: E402
from costmodel.forward.cost import ACTIVATIONS, activation_program, elementwise  # noqa: E402
from costmodel.forward.frame import epilogue_ops, layer_ops, prologue  # noqa: E402
from costmodel.forward.ops import Op, live_bytes  # noqa: E402
from costmodel.forward.passes import forward_ops  # noqa: E402
from costmodel.forward.work import keys_held  # noqa: E402
from costmodel.forward.workload import Attention, LmHead, Workload  # noqa: E402
from costmodel.hardware.profile import load_hardware  # noqa: E402
from costmodel.model import ModelSpec  # noqa: E402
from costmodel.pricing.estimate import estimate  # noqa: E402
from costmodel.pricing.pricer import window_kv_bytes  # noqa: E402
from costmodel.units import DType  # noqa: E402

DENSE = Decomposition()


def case(model_type: str, seed: int) -> tuple[dict[str, Any], Decomposition, Workload]:
    rng = random.Random(f"{model_type} {seed}")
    config = random_config(rng, model_type)
    model = spec_of(config)
    return config, random_decomposition(rng, model).check(model), random_workload(rng, model)


# --- FLOPs and parameters -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seeds", few_or_all([range(6)], [range(6, 30)]), ids=str)
@pytest.mark.parametrize("model_type", MODEL_TYPES)
def test_flops_and_params(model_type: str, seeds: range, tmp_path: Path) -> None:
    """8 x 30 random cases, 6 of each by default; torch's counter on unfused attention, which it sees on the CPU."""
    hardware = load_hardware("a100-sxm-80gb")
    for seed in seeds:
        config, decomposition, work = case(model_type, seed)
        path = tmp_path / f"{seed}.json"
        path.write_text(json.dumps(config))
        spec = load_model(path)
        real = build(config, decomposition)
        cache, tokens = filled_cache(real, spec, work), tokens_of(work)
        with FlopCounterMode(display=False) as counter:
            run(real, spec, work, tokens, cache=cache)
        for attention in Attention:
            phase = estimate(spec, hardware, decomposition, [replace(work, attention=attention)]).phases[0]
            assert phase.decomposed.flops == counter.get_total_flops(), (config, decomposition, work)
            assert phase.decomposed.params == sum(parameter.numel() for parameter in real.parameters())
            assert sum(row["flops"] for row in phase.op_rows()) == phase.decomposed.flops


@pytest.mark.parametrize("seeds", few_or_all([range(100, 102)], [range(102, 110)]), ids=str)
@pytest.mark.parametrize("model_type", MODEL_TYPES)
def test_flops_of_fused_attention(model_type: str, seeds: range) -> None:
    """On the meta device the counter sees scaled_dot_product_attention too."""
    for seed in seeds:
        config, decomposition, work = case(model_type, seed)
        spec = spec_of(config)
        real = build(config, decomposition, attention="sdpa", device="meta")
        cache, tokens = filled_cache(real, spec, work), tokens_of(work, "meta")
        with FlopCounterMode(display=False) as counter:
            run(real, spec, work, tokens, cache=cache)
        assert sum(op.cost.flops for op in forward_ops(spec, decomposition, work)) == counter.get_total_flops()


def test_static_cache_has_the_same_flops() -> None:
    """A cache of exactly kv_len positions; one with room to spare would compute scores for the empty places as well."""
    for seed in range(4):
        config, decomposition, work = case("llama", seed)
        spec = spec_of(config)
        real = build(config, decomposition)
        cache, tokens = filled_cache(real, spec, work, static=True), tokens_of(work)
        with FlopCounterMode(display=False) as counter:
            run(real, spec, work, tokens, cache=cache)
        assert sum(op.cost.flops for op in forward_ops(spec, decomposition, work)) == counter.get_total_flops()


@pytest.mark.parametrize("past", [0, 1, 5, 6, 7, 20])
@pytest.mark.parametrize("q_len", [1, 3, 9])
def test_sliding_window_keys(past: int, q_len: int) -> None:
    """Keys that attention gets and the cache keeps, from transformers' own sliding caches of 7 positions."""
    window = 7
    config = transformers.MistralConfig(
        hidden_size=8, num_hidden_layers=1, num_attention_heads=2, num_key_value_heads=1, sliding_window=window
    )
    new = torch.zeros(2, 1, q_len, 4)
    work = Workload.decode(past + 1) if q_len == 1 else Workload.prefill(past + q_len)
    kept = window_kv_bytes(_spec(window), work, window) // (2 * work.act_bytes * 4)
    dynamic = transformers.DynamicCache(config=config)
    dynamic.update(torch.zeros(2, 1, past, 4), torch.zeros(2, 1, past, 4), 0)
    keys, _ = dynamic.update(new, new, 0)
    assert keys.shape[2] == keys_held(q_len, past + q_len, window)
    assert dynamic.layers[0].keys.shape[2] == min(kept, window - 1)  # one less than a static cache: the next comes in
    static = transformers.StaticCache(config=config, max_cache_len=past + q_len)
    if past:
        static.update(torch.zeros(2, 1, past, 4), torch.zeros(2, 1, past, 4), 0)
    static.update(new, new, 0)
    assert static.layers[0].keys.shape[2] == kept


def _spec(window: int) -> ModelSpec:
    return spec_of(
        {
            "model_type": "mistral",
            "vocab_size": 5,
            "hidden_size": 8,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "num_key_value_heads": 1,
            "intermediate_size": 8,
            "sliding_window": window,
        }
    )


# --- Kernels --------------------------------------------------------------------------------------------------------

STATIC_CACHE_KERNELS = 3
"""StaticCache numbers the new positions (arange, add) and counts them (add_) in every layer; costmodel has the two
copies only, which DynamicCache launches as two concatenations."""
SDPA_MASK_KERNELS = 3
"""A decode step into a StaticCache hands sdpa a boolean mask, which it turns into numbers in every layer."""
CPU_SOFTMAX_CAST = 1
"""On a CPU fp16 scores are cast before the softmax as bf16 ones are; a GPU's kernel reads them as they are."""

VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("llama", {}),
    "llama-gqa": ("llama", {"num_key_value_heads": 2, "attention_bias": True, "mlp_bias": True}),
    "mistral-window": ("mistral", {"num_key_value_heads": 2, "sliding_window": 6}),
    "qwen2-two-windows": ("qwen2", {"use_sliding_window": True, "sliding_window": 6, "max_window_layers": 1}),
    "qwen3": ("qwen3", {"num_key_value_heads": 2, "head_dim": 32, "tie_word_embeddings": True}),
    "bert": ("bert", {}),
    "roberta": ("roberta", {"hidden_act": "gelu_new"}),
    "gpt2": ("gpt2", {}),
    "gpt2-relu": ("gpt2", {"activation_function": "relu"}),
    "opt": ("opt", {}),
    "opt-post-norm": ("opt", {"do_layer_norm_before": False, "word_embed_proj_dim": 40}),
}


def variant(name: str, layers: int, vocab: int = 160) -> dict[str, Any]:
    """A model of width 128 with 8 heads."""
    model_type, own = VARIANTS[name]
    config: dict[str, Any] = {"model_type": model_type, "vocab_size": vocab, "bos_token_id": 0, "eos_token_id": 0}
    if model_type == "gpt2":
        return config | {"n_embd": 128, "n_layer": layers, "n_head": 8, "n_positions": 256} | own
    config |= {
        "hidden_size": 128,
        "num_hidden_layers": layers,
        "num_attention_heads": 8,
        "max_position_embeddings": 256,
        "pad_token_id": 1,
    }
    if model_type == "opt":
        return config | {"ffn_dim": 384, "word_embed_proj_dim": 128} | own
    config["intermediate_size"] = 384
    if model_type in ("llama", "mistral", "qwen2", "qwen3"):
        config["num_key_value_heads"] = 8
    return config | own


def kernels(name: str, layers: int, work: Workload, *, static: bool = False) -> tuple[int, ModelSpec]:
    config = variant(name, layers)
    spec = spec_of(config)
    attention = "sdpa" if work.attention is Attention.FUSED else "eager"
    real = build(config, DENSE, attention=attention, dtype=TORCH_DTYPES[work.dtype.value])
    cache, tokens = filled_cache(real, spec, work, static=static), tokens_of(work)
    with Kernels() as counter:
        run(real, spec, work, tokens, cache=cache)
    return sum(counter.counts.values()), spec


@pytest.mark.parametrize(
    "how",
    few_or_all(
        [(Attention.FUSED, DType.FP32, 1), (Attention.UNFUSED, DType.BF16, 2)],
        [(Attention.FUSED, DType.BF16, 2), (Attention.UNFUSED, DType.FP32, 1)],
    ),
    ids=str,
)
@pytest.mark.parametrize("prefill", [True, False])
@pytest.mark.parametrize("name", VARIANTS)
def test_kernels(name: str, prefill: bool, how: tuple[Attention, DType, int]) -> None:
    """Of a layer (three layers less two) and of everything outside the layers, with a DynamicCache: equal."""
    if not prefill and spec_of(variant(name, 1)).is_encoder:
        pytest.skip("an encoder has no decode phase")
    attention, dtype, batch = how
    work = (Workload.prefill if prefill else Workload.decode)(5, batch=batch, attention=attention, dtype=dtype)
    three, spec = kernels(name, 3, work)
    two, smaller = kernels(name, 2, work)
    layer = layer_ops(spec, work, spec.sliding_windows[-1])
    assert three - two == sum(op.cost.kernels for op in layer)
    assert two == sum(op.cost.kernels for op in forward_ops(smaller, DENSE, work))
    assert 3 * two - 2 * three == sum(
        op.cost.kernels for op in (*prologue(smaller, work).ops, *epilogue_ops(smaller, work))
    )


@pytest.mark.parametrize("attention", Attention)
@pytest.mark.parametrize("prefill", [True, False])
@pytest.mark.parametrize("name", ["llama", "gpt2", "opt"])
def test_kernels_of_a_static_cache(name: str, prefill: bool, attention: Attention) -> None:
    """What costmodel leaves out on purpose, exactly."""
    work = (Workload.prefill if prefill else Workload.decode)(7, attention=attention, dtype=DType.FP32)
    three, spec = kernels(name, 3, work, static=True)
    two, _ = kernels(name, 2, work, static=True)
    masked = SDPA_MASK_KERNELS if attention is Attention.FUSED and not prefill else 0
    modelled = sum(op.cost.kernels for op in layer_ops(spec, work, None))
    assert three - two - modelled == STATIC_CACHE_KERNELS + masked


def test_kernels_of_fp16_softmax() -> None:
    work = Workload.prefill(7, attention=Attention.UNFUSED, dtype=DType.FP16)
    three, spec = kernels("llama", 3, work)
    two, _ = kernels("llama", 2, work)
    assert three - two == sum(op.cost.kernels for op in layer_ops(spec, work, None)) + CPU_SOFTMAX_CAST
    assert _gpu_softmax_kernels(torch.float16) == 2
    assert _gpu_softmax_kernels(torch.bfloat16) == 3


def _gpu_softmax_kernels(dtype: Any) -> int:
    """Kernels of softmax in fp32 and the cast back as PyTorch dispatches them for a GPU; needs none."""
    from torch._subclasses.fake_tensor import FakeTensorMode

    with FakeTensorMode():
        scores = torch.empty(2, 3, 4, 4, dtype=dtype, device="cuda")
        with Kernels() as counter, torch.no_grad():
            torch.softmax(scores, -1, dtype=torch.float32).to(dtype)
    return sum(count for name, count in counter.counts.items() if name.startswith("aten."))


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations(name: str) -> None:
    """Every activation that a config.json may name: its kernels, and what is alive beside its input."""
    function, values = ACT2FN[name], torch.ones(8, 64)
    with Kernels() as counter, torch.no_grad():
        function(values)
    with LiveBytes() as tracked, torch.no_grad():
        function(values)
    assert elementwise(activation_program(name), 8, 64, act_bytes=4).kernels == sum(counter.counts.values())
    mask = 8 * 64 + 4 if name == "xielu" else 0  # a byte for each and a number, which are not counted
    assert (1 + ACTIVATIONS[name]) * 8 * 64 * 4 + mask == tracked.peak


PLAIN = {"hidden_size": 128, "num_hidden_layers": 2, "num_attention_heads": 8, "intermediate_size": 96}
CLIPPED = {
    "olmo": (PLAIN, {"clip_qkv": 6.0}, 6),
    "mpt": ({"d_model": 128, "n_layers": 2, "n_heads": 8}, {"attn_config": {"clip_qkv": 6.0}}, 2),
    "olmoe": ({**PLAIN, "num_experts": 4, "num_experts_per_tok": 2}, {"clip_qkv": 6.0}, 6),
}
"""model_type -> fields, those of clamped q, k and v, and the kernels that these are in two layers."""


@pytest.mark.parametrize("model_type", CLIPPED)
def test_clamped_queries_keys_and_values_are_kernels(model_type: str) -> None:
    """As many as transformers launches beyond those of the same model without the field."""
    fields, clip, more = CLIPPED[model_type]
    work = Workload.prefill(7, attention=Attention.UNFUSED, dtype=DType.FP32)
    real, modelled = list[int](), list[int]()
    for own in ({}, clip):
        config = {"model_type": model_type, "vocab_size": 160, "bos_token_id": 0, "eos_token_id": 0, **fields, **own}
        spec, tokens = spec_of(config), tokens_of(work)
        with Kernels() as counter:
            run(build(config, DENSE), spec, work, tokens)
        real.append(sum(counter.counts.values()))
        modelled.append(sum(op.cost.kernels for op in forward_ops(spec, DENSE, work)))
    assert real[1] - real[0] == modelled[1] - modelled[0] == more


def test_factors_launch_a_kernel_each() -> None:
    config = variant("bert", 2)
    spec = spec_of(config)
    work = Workload.prefill(7, attention=Attention.UNFUSED, dtype=DType.FP32)
    factors = {Site(0, "query"): LowRank(3), Site(1, "output"): Tucker(4, 5), Site(1, "intermediate"): LowRank(2)}
    for decomposition in (Decomposition(factors), Decomposition({}, frozenset([0]))):
        real, tokens = build(config, decomposition), tokens_of(work)
        with Kernels() as counter:
            run(real, spec, work, tokens)
        assert sum(counter.counts.values()) == sum(op.cost.kernels for op in forward_ops(spec, decomposition, work))


# --- Peak live activations ------------------------------------------------------------------------------------------

PEAK_TOLERANCE = 0.01
"""Left out: temporaries of position numbers, of masks and of a StaticCache's bookkeeping."""

SIZES = (
    (1, 96, 384, 160, LmHead.LAST),
    (2, 40, 40, 160, LmHead.ALL),
    (2, 24, 384, 3000, LmHead.ALL),
    (3, 1, 384, 160, LmHead.ALL),
)
"""batch, q_len (1: a decode step), width of the MLP, vocabulary, head: peaks in attention, around a narrow MLP, in a
wide one, and in the logits."""


def factors(model: ModelSpec, kind: str) -> Decomposition:
    chosen = {"dense": None, "svd": LowRank(9), "tucker": Tucker(20, 100), "above": LowRank(125)}[kind]
    if chosen is None:
        return DENSE
    if kind == "svd":  # the first layer only, and another one is gone
        return Decomposition({Site(0, tensor.name): chosen for tensor in model.tensors}, frozenset([1]))
    return Decomposition({Site(layer, t.name): chosen for layer in range(model.num_layers) for t in model.tensors})


def maskless(module: Any, query: Any, key: Any, value: Any, mask: Any, scaling: float, **_: Any) -> tuple[Any, None]:
    """Fused attention as `costmodel` means it: grouped K and V as they are, and no mask even for a window, which this
    kernel ignores: its result is wrong and its storage right."""
    assert mask is None
    grouped = query.shape[1] != key.shape[1]
    result = torch.nn.functional.scaled_dot_product_attention(
        query, key, value, scale=scaling, is_causal=query.shape[2] > 1, enable_gqa=grouped
    )
    return result.transpose(1, 2).contiguous(), None


@pytest.fixture(scope="module", autouse=True)
def _register_maskless() -> None:
    transformers.AttentionInterface.register("maskless", maskless)
    transformers.AttentionMaskInterface.register("maskless", lambda *_, **__: None)


FEW = [
    ("llama-gqa", "dense"),
    ("llama-gqa", "svd"),
    ("llama-gqa", "tucker"),
    ("mistral-window", "svd"),
    ("qwen2-two-windows", "tucker"),
    ("qwen3", "above"),
    ("bert", "dense"),
    ("roberta", "svd"),
    ("gpt2", "tucker"),
    ("gpt2-relu", "above"),
    ("opt", "tucker"),
    ("opt-post-norm", "dense"),
]
"""Each variant and each kind of factors by default; all pairs among the slow tests."""
KINDS = ("dense", "svd", "tucker", "above")


PAIRS = [(name, kind) for name in VARIANTS for kind in KINDS]


@pytest.mark.parametrize("pair", few_or_all(FEW, [pair for pair in PAIRS if pair not in FEW]), ids="-".join)
def test_peak_live_bytes(pair: tuple[str, str]) -> None:
    """Storages alive during a real pass on the CPU, beside the DAG's peak. Of decode steps with a window only the
    course: a static sliding cache that is full shifts itself in copies, which costmodel leaves out."""
    name, kind = pair
    windowed = "window" in name
    for batch, q_len, inner, vocab, head in SIZES:
        config = variant(name, 3, vocab)
        config[{"gpt2": "n_inner", "opt": "ffn_dim"}.get(config["model_type"], "intermediate_size")] = inner
        spec = spec_of(config)
        decomposition = factors(spec, kind)
        for attention in Attention:
            for dtype in (DType.FP32, DType.BF16)[: 2 if kind == "dense" else 1]:
                options = {"batch": batch, "attention": attention, "dtype": dtype, "lm_head": head}
                decode = q_len == 1 and not spec.is_encoder
                work = Workload.decode(60, **options) if decode else Workload.prefill(q_len, **options)
                fused = "maskless" if windowed else "sdpa"
                implementation = fused if attention is Attention.FUSED else "eager"
                real = build(config, decomposition, attention=implementation, dtype=TORCH_DTYPES[dtype.value])
                cache, tokens = filled_cache(real, spec, work, static=True), tokens_of(work)
                with LiveBytes() as tracked:
                    run(real, spec, work, tokens, cache=cache)
                modelled = peak_live_bytes(build_graph(spec, decomposition, work))
                if not (windowed and decode):
                    assert modelled == pytest.approx(tracked.peak, rel=PEAK_TOLERANCE), (work, kind)
                assert_same_course(tracked, forward_ops(spec, decomposition, work))


def assert_same_course(tracked: LiveBytes, ops: list[Op]) -> None:
    """Live bytes at every matrix product and LayerNorm of a pass, not only at its peak."""
    kinds = {
        "aten.mm.default": "gemm",
        "aten.addmm.default": "gemm",
        "aten.bmm.default": "bmm",
        "aten.native_layer_norm.default": "LayerNorm",
    }
    real = [(kinds[name], live) for live, name in tracked.log if name in kinds]
    rms_norm = "LayerNorm" not in {each for each, _ in real}

    def kind(op: Op) -> str | None:
        if op.name.endswith((".scores", ".context")):
            return "bmm"
        if op.kind == "norm" and not rms_norm:
            return "LayerNorm"
        return "gemm" if op.gemm else None

    modelled = [(op, live) for op, live in zip(ops, live_bytes(ops), strict=True) if kind(op)]
    assert [kind(op) for op, _ in modelled] == [each for each, _ in real]
    for (op, expected), (_, live) in zip(modelled, real, strict=True):
        assert expected == pytest.approx(live, abs=PEAK_TOLERANCE * tracked.peak), op.name
