"""Factored experts in transformers' own `from_pretrained`, `generate` and `save_pretrained`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from checkpoints import (  # noqa: E402
    change_manifest,
    dense_folder,
    factored_folder,
    in_memory,
    logits,
    of,
    random_tokens,
    sign,
)
from expert_configs import EXPERTS, experts  # noqa: E402
from safetensors.torch import load_file, save_file  # noqa: E402
from validating import predictor  # noqa: E402

import validate.hf  # noqa: E402, F401
from costmodel.cli import run  # noqa: E402
from costmodel.decomposition.factors import Decomposition  # noqa: E402
from costmodel.forward.workload import Workload  # noqa: E402
from costmodel.units import DType  # noqa: E402
from validate.checkpoint.makers import WhitenedMakers  # noqa: E402
from validate.checkpoint.manifest import FactorsRecord  # noqa: E402
from validate.cli import cli  # noqa: E402
from validate.factors.replace import WeightFactors  # noqa: E402
from validate.factors.whitening import make_factors  # noqa: E402
from validate.hf import FactoredCheckpointError, load_factored  # noqa: E402
from validate.hf.experts import expert_linear  # noqa: E402
from validate.hf.modules import Int8Linear, to_int8  # noqa: E402
from validate.models.headers import StoredTensors  # noqa: E402
from validate.models.pretrained import open_pretrained  # noqa: E402
from validate.models.stored import stored_weights  # noqa: E402
from validate.models.stream import LayerStream  # noqa: E402
from validate.models.weights import SourceWeights  # noqa: E402
from validate.plans.case import params_of  # noqa: E402

SPECS = [
    "layers=0,1 rank=3",
    "layers=2 tensors=experts.down_proj rank=4 form=tucker",
    "layers=2 tensors=experts.1.up_proj rank=2",
]
QUICK = ("mixtral", "gpt_oss", "deepseek_v3")
TYPES = [each if each in QUICK else pytest.param(each, marks=pytest.mark.slow) for each in EXPERTS]


def generated(model: Any) -> Any:
    tokens = random_tokens()
    return model.generate(
        tokens, attention_mask=torch.ones_like(tokens), max_new_tokens=8, do_sample=False, pad_token_id=0
    )


@pytest.mark.parametrize("model_type", TYPES)
def test_every_type_loads_generates_and_comes_back(model_type: str, tmp_path: Path) -> None:
    auto, tokens = transformers.AutoModelForCausalLM, random_tokens()
    dense = dense_folder(tmp_path / "dense", experts(model_type))
    written = factored_folder(dense, tmp_path / "out", SPECS, max_shard_bytes=60_000)
    pretrained, decomposition = open_pretrained(str(dense)), of(dense, SPECS)
    assert {site.relative_error > 0 for site in written.manifest.sites} == {True}
    make = WeightFactors(stored_weights(pretrained))
    expected = in_memory(pretrained, decomposition, make, lambda tree: logits(tree, tokens))
    wanted = in_memory(pretrained, decomposition, make, generated)
    model = auto.from_pretrained(tmp_path / "out")
    assert sum(each.numel() for each in model.parameters()) == params_of(pretrained.spec, decomposition)
    assert torch.equal(logits(model, tokens), expected)
    assert torch.equal(generated(model), wanted)
    model.save_pretrained(tmp_path / "again", max_shard_size="60KB")
    assert torch.equal(logits(load_factored(tmp_path / "again"), tokens), expected)
    model.dequantize()
    model.save_pretrained(tmp_path / "plain")
    plain = logits(auto.from_pretrained(tmp_path / "plain"), tokens)
    assert (plain - expected).abs().max() < 1e-4 * expected.abs().max()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_types(dtype: Any, tmp_path: Path) -> None:
    dense = dense_folder(tmp_path / "dense", experts("mixtral", initializer_range=0.05), dtype=dtype)
    factored_folder(dense, tmp_path / "out", SPECS)
    pretrained, tokens = open_pretrained(str(dense), dtype=dtype), random_tokens()
    make = WeightFactors(stored_weights(pretrained))
    expected = in_memory(pretrained, of(dense, SPECS), make, lambda tree: logits(tree, tokens))
    model = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    assert model.dtype is dtype
    assert torch.equal(logits(model, tokens), expected)


@pytest.mark.parametrize("model_type", ["mixtral", "gpt_oss"])
def test_merged_is_an_ordinary_checkpoint_and_whitened_factors_fit_each_expert(model_type: str, tmp_path: Path) -> None:
    dense = dense_folder(tmp_path / "dense", experts(model_type))
    options = [word for each in SPECS for word in ("--decompose", each)]
    assert run(cli, ["apply", "--model", str(dense), *options, "--merged", "--out", str(tmp_path / "out")]) == 0
    merged, tokens = open_pretrained(str(tmp_path / "out")), random_tokens()
    expected = in_memory(
        open_pretrained(str(dense)), of(dense, SPECS), WeightFactors(), lambda tree: logits(tree, tokens)
    )
    assert (logits(merged.model, tokens) - expected).abs().max() < 1e-4 * expected.abs().max()


INT8 = [
    pytest.param(each, specs, id=f"{each}-{name}", marks=() if each == quick else pytest.mark.slow)
    for name, specs, quick in (("factored", SPECS, "gpt_oss"), ("dense", [], "deepseek_v3"))
    for each in EXPERTS
]


@pytest.mark.parametrize(("model_type", "specs"), INT8)
def test_experts_in_int8_load_come_back_and_weigh_what_is_priced(
    model_type: str, specs: list[str], tmp_path: Path
) -> None:
    auto, tokens = transformers.AutoModelForCausalLM, random_tokens()
    dense = dense_folder(tmp_path / "dense", experts(model_type, initializer_range=0.05))
    factored_folder(dense, tmp_path / "out", specs, int8=True, max_shard_bytes=60_000)
    pretrained, decomposition = open_pretrained(str(dense)), of(dense, specs) if specs else Decomposition()
    model = auto.from_pretrained(tmp_path / "out")
    work = Workload.prefill(12, dtype=DType.FP32, weight_dtype=DType.INT8)
    priced = predictor().counts(pretrained.spec, decomposition, work)["weight_bytes"]
    assert sum(each.nbytes for each in model.parameters()) == priced

    def rounded(tree: Any) -> Any:
        """Logits of the floats, each of which was rounded for itself: every factor, every expert's linear."""
        for name, place in model.named_modules():
            if isinstance(place, Int8Linear):
                exact = weight_at(tree, name)
                assert torch.equal(place.dense(), (whole := to_int8(exact, exact.dtype))[0] * whole[1][:, None]), name
        return logits(tree, tokens)

    close = in_memory(pretrained, decomposition, WeightFactors(stored_weights(pretrained)), rounded)
    expected = logits(model, tokens)
    assert 0 < float((expected - close).norm() / close.norm()) < 0.1
    assert torch.equal(generated(model), generated(load_factored(tmp_path / "out")))
    model.save_pretrained(tmp_path / "again", max_shard_size="60KB")
    assert torch.equal(logits(auto.from_pretrained(tmp_path / "again"), tokens), expected)
    model.dequantize()
    assert not any(isinstance(place, Int8Linear) for place in model.modules())
    model.save_pretrained(tmp_path / "plain")
    ordinary, report = auto.from_pretrained(tmp_path / "plain", output_loading_info=True)
    assert not report["unexpected_keys"]
    assert (logits(ordinary, tokens) - expected).abs().max() < 1e-4 * expected.abs().max()


@pytest.mark.parametrize("model_type", ["mixtral", "gpt_oss"])
def test_factored_experts_are_one_graph(model_type: str, tmp_path: Path) -> None:
    """Without a code generator: any break of the graph is an error. An expert without rows, and rows of none."""
    pretrained = open_pretrained(str(dense_folder(tmp_path / "dense", experts(model_type))))
    hidden, weights = torch.randn(5, 24), torch.rand(5, 2)
    numbers = torch.tensor([[0, 2], [2, 1], [4, 0], [2, 4], [1, 2]])  # four experts: 4 is none of them
    specs = ["layers=0 tensors=experts.down_proj rank=4 form=tucker", "layers=0 tensors=experts.1.up_proj rank=2"]

    def compared(tree: Any) -> None:
        place = tree.model.layers[0].mlp.experts
        with torch.inference_mode():
            expected = place(hidden, numbers, weights)
            torch.compiler.reset()
            found = torch.compile(place, fullgraph=True, dynamic=False, backend="eager")(hidden, numbers, weights)
        assert (found - expected).abs().max() < 1e-5 * expected.abs().max()

    in_memory(pretrained, of(tmp_path / "dense", specs), WeightFactors(), compared)


def weight_at(tree: Any, name: str) -> Any:
    """The weight of a linear of a model, or of one of stacked experts, `mlp.experts.up_proj.3`."""
    stack, _, number = name.rpartition(".")
    owner, _, linear = stack.rpartition(".")
    if number.isdecimal() and isinstance(getattr(tree.get_submodule(owner), "down_proj", None), torch.Tensor):
        return expert_linear(tree.get_submodule(owner), linear, int(number)).weight
    return tree.get_submodule(name).weight


@pytest.mark.parametrize("dtype", [pytest.param("bf16", marks=pytest.mark.slow), "fp16"])
def test_scales_of_int8_are_of_the_type_asked_for(dtype: str, tmp_path: Path) -> None:
    dense = dense_folder(tmp_path / "dense", experts("deepseek_v3", initializer_range=0.05))
    factored_folder(dense, tmp_path / "out", SPECS, dtype=dtype, int8=True)
    model = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    kinds = {each.dtype for each in model.parameters()}
    assert kinds == {torch.int8, {"bf16": torch.bfloat16, "fp16": torch.float16}[dtype]}
    assert logits(model, random_tokens()).isfinite().all()


def test_experts_that_files_hold_apart_are_read_as_transformers_stacks_them(tmp_path: Path) -> None:
    dense = dense_folder(tmp_path / "dense", experts("mixtral"))
    path = dense / "model.safetensors"
    stored = load_file(path)
    assert "model.layers.0.block_sparse_moe.experts.0.w1.weight" in stored
    model: Any = open_pretrained(str(dense)).model
    weights = SourceWeights(StoredTensors(dense), model)
    for name, tensor in model.state_dict().items():
        assert torch.equal(weights.read(name, torch.float32), tensor), name
    first = "model.layers.0.block_sparse_moe.experts.0.w2.weight"
    save_file({name: each if name == first else each.bfloat16() for name, each in stored.items()}, path)
    weights = SourceWeights(StoredTensors(dense), model)
    assert weights.stored_types == "bf16, fp32"
    kinds = {name: weights.wide_type(name, torch.bfloat16) for name in weights.shapes if "experts.down_proj" in name}
    assert kinds.pop("model.layers.0.mlp.experts.down_proj") is torch.float32  # as its widest piece
    assert set(kinds.values()) == {torch.bfloat16}


def test_a_manifest_whose_experts_do_not_fit_is_refused(tmp_path: Path) -> None:
    dense = dense_folder(tmp_path / "dense", experts("mixtral"))
    factored_folder(dense, tmp_path / "out", ["layers=0 tensors=experts.2.down_proj rank=3"])
    for module in ("mlp.experts.4.down_proj", "mlp.experts.-1.down_proj", "mlp.experts.gate_up_proj", "mlp.experts"):
        change_manifest(tmp_path / "out", lambda data, module=module: data["sites"][0].update(module=module))  # type: ignore[misc]
        with pytest.raises(FactoredCheckpointError, match="site"):
            load_factored(tmp_path / "out")
    change_manifest(
        tmp_path / "out", lambda data: data["sites"][0].update(module="mlp.experts.2.down_proj", rank=[21, 21])
    )
    sign(tmp_path / "out")
    with pytest.raises(FactoredCheckpointError, match="rank of"):
        load_factored(tmp_path / "out")


@pytest.mark.parametrize("model_type", ["mixtral", "gpt_oss"])
def test_whitened_factors_of_experts_fit_what_each_reads(model_type: str, tmp_path: Path) -> None:
    """The same from a stream of layers and in memory, and nearer to the dense model than plain ones."""
    dense = dense_folder(tmp_path / "dense", experts(model_type))
    specs, blocks = ["layers=1 tensors=experts.down_proj rank=6"], random_tokens(5).repeat(4, 1)
    stream = LayerStream(str(dense))
    assert not stream.whole  # what files hold expert by expert is read layer by layer too
    makers = WhitenedMakers(stream, blocks, experts=True)
    factored_folder(dense, tmp_path / "out", specs, makers=makers, factors=FactorsRecord(kind="whitened"))
    pretrained, decomposition = open_pretrained(str(dense)), of(dense, specs)
    whitened = make_factors("whitened", pretrained, blocks)
    outputs = {
        name: in_memory(pretrained, decomposition, make, lambda tree: logits(tree, blocks))
        for name, make in (("plain", WeightFactors()), ("whitened", whitened))
    }
    exact = logits(pretrained.model, blocks)
    written = logits(load_factored(tmp_path / "out"), blocks)
    assert (written - outputs["whitened"]).abs().max() < 1e-3 * exact.abs().max()
    assert (outputs["whitened"] - exact).norm() < (outputs["plain"] - exact).norm()
