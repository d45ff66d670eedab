"""A family that the project does not know, added by one row: priced, explored, built, factored, saved and loaded.

The toy is a decoder with norms after each block and gate and up in one product.
"""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from costmodel.decomposition.text import parse_decomposition
from costmodel.errors import ModelError
from costmodel.explore.explore import explore
from costmodel.explore.settings import ExploreSettings
from costmodel.families import registry
from costmodel.families.fields import Fields
from costmodel.families.llama import LLAMA
from costmodel.families.load import load_model
from costmodel.families.row import FamilyRow
from costmodel.families.rows import Rows
from costmodel.forward.attention import add_attention
from costmodel.forward.frame import INPUT
from costmodel.forward.ops import Builder
from costmodel.forward.workload import Attention, Workload
from costmodel.hardware.profile import load_hardware
from costmodel.model import ModelSpec
from costmodel.pricing.estimate import estimate
from costmodel.space.make import design_space
from costmodel.tensors import WeightTensor, attention_weight, mlp_weight

A100 = load_hardware("a100-sxm-80gb")
CONFIG: dict[str, Any] = {
    "model_type": "toy",
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "vocab_size": 128,
    "max_position_embeddings": 128,
    "tie_word_embeddings": False,
}
SPECS = ["tensors=attn rank=7", "layers=1 tensors=gate_up_proj rank=5 form=tucker"]


def read(fields: Fields, row: FamilyRow) -> ModelSpec:
    hidden, heads, layers = (
        fields.count("hidden_size"),
        fields.count("num_attention_heads"),
        fields.layers("num_hidden_layers"),
    )
    return ModelSpec(
        name=fields.name,
        family=row,
        model_type=fields.model_type,
        num_layers=layers,
        hidden_size=hidden,
        intermediate_size=fields.count("intermediate_size"),
        num_heads=heads,
        num_kv_heads=heads,
        head_dim=fields.head_dim("num_attention_heads", "hidden_size"),
        vocab_size=fields.count("vocab_size"),
        max_positions=fields.count("max_position_embeddings"),
        embed_dim=hidden,
        activation="silu",
        gated_mlp=True,
        qkv_bias=False,
        attn_out_bias=False,
        mlp_bias=False,
        tie_embeddings=False,
        pre_norm=False,
        final_norm=True,
        sliding_windows=(None,) * layers,
    )


def tensors(spec: ModelSpec) -> tuple[WeightTensor, ...]:
    hidden, inner = spec.hidden_size, spec.intermediate_size
    names = ("q_proj", "k_proj", "v_proj", "o_proj")
    return (
        *(attention_weight(name, f"self_attn.{name}", hidden, hidden, bias=False) for name in names),
        mlp_weight("gate_up_proj", "mlp.gate_up_proj", 2 * inner, hidden, bias=False),
        mlp_weight("down_proj", "mlp.down_proj", hidden, inner, bias=False),
    )


def layer(b: Builder, window: int | None) -> None:
    hidden, inner = b.model.hidden_size, b.model.intermediate_size
    q, k, v, o, gate_up, down = b.model.tensors
    query, key = (b.pointwise(f"self_attn.rotary_{t.name}", "rotate", [b.site(t, INPUT)], hidden) for t in (q, k))
    attended = add_attention(b, "self_attn", query, [key, b.site(v, INPUT)], window)
    normed = b.norm("post_attention_layernorm", b.site(o, attended.output))
    residual = b.pointwise("add_attention", "add", [INPUT, normed], hidden)
    packed = b.site(gate_up, residual)
    product = b.pointwise("mlp.mul", "mul", [b.activation("mlp.act_fn", packed, inner), packed], inner)
    normed = b.norm("post_feedforward_layernorm", b.site(down, product))
    b.pointwise("add_mlp", "add", [residual, normed], hidden)


TOY = dataclasses.replace(
    LLAMA, name="toy", classes={"toy": "Toy"}, read=read, tensors=tensors, layer=layer, verified=False
)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the toy's config.json, while its row is in the registry."""
    monkeypatch.setattr(registry, "FAMILIES", Rows({**registry.FAMILIES.lines, f"{__name__}:TOY": "toy"}))
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    return tmp_path


def test_without_its_row_the_model_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    with pytest.raises(ModelError, match="architecture not supported: got 'toy'; allowed: llama, mistral"):
        load_model(tmp_path)


SECOND = dataclasses.replace(LLAMA, classes={"second": "Second"})


def test_a_model_type_or_a_name_belongs_to_one_row() -> None:
    with pytest.raises(ValueError, match=r"\.llama:LLAMA and other:ROW both read model_type llama"):
        Rows({".llama:LLAMA": "llama mistral", "other:ROW": "toy llama"})
    with pytest.raises(ValueError, match="two families of one name: llama, llama"):
        Rows({".llama:LLAMA": registry.FAMILIES.lines[".llama:LLAMA"], f"{__name__}:SECOND": "second"}).all()


def test_a_line_names_the_types_that_its_row_reads() -> None:
    assert [row.name for row in registry.FAMILIES.all()][:2] == ["llama", "bert"]
    with pytest.raises(ValueError, match=r"no row of the model_types toy more"):
        Rows({f"{__name__}:TOY": "toy more"})["toy"]


def test_a_model_loads_the_file_of_its_own_family_alone() -> None:
    code = "import sys; from costmodel.families.load import load_model; load_model('llama2-7b'); print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(run.stdout.split())
    assert "costmodel.families.llama" in loaded
    assert not {"costmodel.families.bert", "costmodel.families.moe", "costmodel.families.deepseek"} & loaded


def test_it_is_priced(folder: Path) -> None:
    model, work = load_model(folder), Workload.prefill(16, batch=2)
    priced = estimate(model, A100, parse_decomposition(SPECS, model), [work]).to_json()
    dense, factored = (priced["phases"][0][name] for name in ("dense", "decomposed"))
    layer_weights = 4 * 64 * 64 + 3 * 96 * 64
    assert dense["params"] == 3 * (layer_weights + 2 * 64) + 2 * 128 * 64 + 64
    assert dense["flops"] == 2 * 32 * (3 * layer_weights + 2 * 16 * 64 * 3) + 2 * 2 * 128 * 64
    assert factored["params"] < dense["params"]
    assert any("unverified" in text and "toy" in text for text in priced["assumptions"])
    assert {row["name"] for row in priced["phases"][0]["ops"]} >= {
        "model.layers.1.mlp.gate_up_proj.core",
        "model.layers.2.self_attn.q_proj.in",
        "model.layers.2.post_feedforward_layernorm",
    }


@pytest.mark.parametrize("kind", ["homogeneous", "per-layer", "per-site"])
def test_it_is_explored(folder: Path, kind: Any) -> None:
    space = design_space(load_model(folder), kind, ranks=[2, 5])
    found = explore(space, A100, [Workload.decode(17)], ExploreSettings(objectives="params", top=1)).to_json()
    counts = {"homogeneous": 7 * 63 * 2 + 1, "per-layer": (2**18 - 1) * 2 + 1, "per-site": 3**18}
    assert found["configurations"] == counts[kind]
    assert found["top"][0]["config"]["ranks"]["layers.0.gate_up_proj"] == 2


@pytest.fixture
def registered(folder: Path) -> Iterator[Path]:
    """The folder, while transformers knows the toy, whose modules are Llama's but for norms and MLP."""
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    from transformers.models.llama import modeling_llama as llama

    class ToyConfig(transformers.LlamaConfig):  # type: ignore[misc, name-defined]
        model_type = "toy"

    class ToyMLP(torch.nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self, config: Any) -> None:
            super().__init__()
            self.gate_up_proj = torch.nn.Linear(config.hidden_size, 2 * config.intermediate_size, bias=False)
            self.down_proj = torch.nn.Linear(config.intermediate_size, config.hidden_size, bias=False)

        def forward(self, hidden: Any) -> Any:
            gate, up = self.gate_up_proj(hidden).chunk(2, dim=-1)
            return self.down_proj(torch.nn.functional.silu(gate) * up)

    class ToyLayer(llama.LlamaDecoderLayer):  # type: ignore[misc]
        def __init__(self, config: Any, layer_idx: int) -> None:
            super().__init__(config, layer_idx)
            self.mlp, self.post_feedforward_layernorm = ToyMLP(config), self.input_layernorm
            del self.input_layernorm

        def forward(self, hidden_states: Any, **options: Any) -> Any:
            attended, _ = self.self_attn(hidden_states=hidden_states, **options)
            hidden_states = hidden_states + self.post_attention_layernorm(attended)
            return hidden_states + self.post_feedforward_layernorm(self.mlp(hidden_states))

    class ToyModel(llama.LlamaModel):  # type: ignore[misc]
        config_class = ToyConfig

        def __init__(self, config: Any) -> None:
            super().__init__(config)
            self.layers = torch.nn.ModuleList(ToyLayer(config, index) for index in range(config.num_hidden_layers))

    class ToyForCausalLM(llama.LlamaForCausalLM):  # type: ignore[misc]
        config_class = ToyConfig

        def __init__(self, config: Any) -> None:
            super().__init__(config)
            self.model = ToyModel(config)

    transformers.AutoConfig.register("toy", ToyConfig)
    autos = {transformers.AutoModel: ToyModel, transformers.AutoModelForCausalLM: ToyForCausalLM}
    for auto, kind in autos.items():
        auto.register(ToyConfig, kind)
    yield folder
    for auto in autos:
        del auto._model_mapping._extra_content[ToyConfig]
    del transformers.CONFIG_MAPPING._extra_content["toy"]


@pytest.mark.parametrize("attention", list(Attention))
@pytest.mark.parametrize("specs", [[], SPECS, ["layers=1 form=drop"]], ids=["dense", "factored", "dropped"])
def test_it_is_built_and_factored_and_is_what_was_priced(
    registered: Path, attention: Attention, specs: list[str]
) -> None:
    import torch
    from validating import predictor, workloads

    from validate.factors.replace import RandomFactors, Replacement
    from validate.models.build import build_model
    from validate.speed.identity import identities, require_equal

    model = load_model(registered)
    decomposition = parse_decomposition(specs, model)
    for work in workloads(model, attention=attention):
        real = build_model(CONFIG, model, dtype=work.dtype, device=torch.device("cpu"))
        Replacement(real, model, decomposition, RandomFactors(0))
        counts = predictor().counts(model, decomposition, work)
        require_equal(identities(real, model, decomposition, work, counts))


def test_its_factored_checkpoint_is_written_and_loaded(registered: Path) -> None:
    import torch
    from checkpoints import dense_folder, factored_folder, logits, of, random_tokens

    from validate.factors.replace import Replacement, WeightFactors
    from validate.hf import load_factored
    from validate.models.pretrained import open_pretrained

    dense = dense_folder(registered / "dense", CONFIG)
    factored_folder(dense, registered / "factored", SPECS)
    loaded, pretrained = load_factored(registered / "factored"), open_pretrained(str(dense))
    with Replacement(pretrained.body, pretrained.spec, of(dense, SPECS), WeightFactors()):
        expected = logits(pretrained.model, random_tokens())
    assert type(loaded).__name__ == "ToyForCausalLM"
    assert torch.equal(logits(loaded, random_tokens()), expected)
