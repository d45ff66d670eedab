"""The weight files decide what a model is, where config.json says otherwise: heads, classes, shapes, values."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("safetensors")

import transformers  # noqa: E402
from checkpoints import dense_folder, factored_folder, random_tokens  # noqa: E402
from safetensors.torch import load_file, save_file  # noqa: E402
from validating import BERT, GPT2, OPT  # noqa: E402
from validating import LLAMA as GROUPED  # noqa: E402

from costmodel.errors import CostModelError, ModelError  # noqa: E402
from costmodel.families.load import load_model, read_config  # noqa: E402
from costmodel.units import DType  # noqa: E402
from validate.checkpoint.source import open_source  # noqa: E402
from validate.errors import MeasurementError  # noqa: E402
from validate.hf import load_factored  # noqa: E402
from validate.models.build import build_model  # noqa: E402
from validate.models.pretrained import open_pretrained  # noqa: E402
from validate.models.stream import LayerStream  # noqa: E402

LLAMA = GROUPED | {"num_key_value_heads": 4}
TIED = {"tie_word_embeddings": True}
ROBERTA = {**BERT, "model_type": "roberta", "pad_token_id": 1}
CAUSAL, MASKED = transformers.AutoModelForCausalLM, transformers.AutoModelForMaskedLM
ALL = ["layers=all rank=64"]
"""Factors that lose nothing: the written model gives the dense one's predictions but for rounding."""


def change(folder: Path, edit: Callable[[dict[str, Any]], None]) -> None:
    """Edit the tensors of a folder."""
    tensors = load_file(folder / "model.safetensors")
    edit(tensors)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def reconfigure(folder: Path, **fields: Any) -> None:
    """Set fields of config.json; None takes one away."""
    data = json.loads((folder / "config.json").read_text()) | fields
    (folder / "config.json").write_text(json.dumps({key: each for key, each in data.items() if each is not None}))


def adding(**tensors: Any) -> Callable[[dict[str, Any]], None]:
    return lambda held: held.update({name.replace("__", "."): tensor for name, tensor in tensors.items()})


def noise(*shape: int) -> Any:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(7))


def outputs(model: Any) -> list[Any]:
    """Every tensor that a pass gives."""
    with torch.inference_mode():
        found = model(random_tokens() % 96, use_cache=False) if model.can_generate() else model(random_tokens() % 96)
    return [each for each in found.to_tuple() if isinstance(each, torch.Tensor)]


def same(ours: Any, theirs: Any) -> bool:
    found, expected = outputs(ours), outputs(theirs)
    return len(found) == len(expected) and all(
        torch.allclose(one, other, atol=2e-4, rtol=1e-3) for one, other in zip(found, expected, strict=True)
    )


OWN_HEADS = {
    "llama": (LLAMA | TIED, CAUSAL, {"lm_head.weight": (128, 64)}),
    "gpt2": (GPT2, CAUSAL, {"lm_head.weight": (128, 64)}),
    "opt": (OPT, CAUSAL, {"lm_head.weight": (128, 64)}),
    "bert": (BERT, MASKED, {"cls.predictions.decoder.weight": (128, 64), "cls.predictions.decoder.bias": (128,)}),
    "bert-bias": (BERT, MASKED, {"cls.predictions.decoder.bias": (128,)}),
    "bert-weight": (BERT, MASKED, {"cls.predictions.decoder.weight": (128, 64)}),
    "roberta": (ROBERTA, MASKED, {"lm_head.decoder.weight": (128, 64), "lm_head.decoder.bias": (128,)}),
}


@pytest.mark.parametrize("name", OWN_HEADS)
def test_a_head_of_its_own_is_kept_whatever_config_json_says(name: str, tmp_path: Path) -> None:
    config, auto, heads = OWN_HEADS[name]
    dense = dense_folder(tmp_path / "dense", config, auto)
    change(dense, lambda held: held.update({key: noise(*shape) for key, shape in heads.items()}))
    assert json.loads((dense / "config.json").read_text())["tie_word_embeddings"] is True
    truth = auto.from_pretrained(dense, attn_implementation="sdpa").eval()
    assert same(open_pretrained(str(dense)).model, truth)
    written = factored_folder(dense, tmp_path / "out", ALL)
    loaded = load_factored(tmp_path / "out")
    assert same(loaded, truth)
    assert written.manifest.dense_params == sum(each.numel() for each in truth.parameters())
    assert sum(each.numel() for each in loaded.parameters()) == written.manifest.params
    held = load_file(tmp_path / "out" / "factored.safetensors")
    assert heads.keys() <= held.keys()
    tied = json.loads((tmp_path / "out" / "config.json").read_text())["tie_word_embeddings"]
    assert tied is (name in ("bert-bias", "bert-weight"))  # false where nothing is tied any more
    stream = LayerStream(str(dense))
    assert stream.whole == ""
    targets = torch.full((2, 12), 3)
    hidden = stream.start(random_tokens() % 96)
    for index in range(3):
        with stream.layer(index) as layer:
            hidden = stream.run_all(index, layer, hidden)
    total, _ = stream.loss_gradient(random_tokens() % 96, targets, hidden)
    logits = outputs(truth)[0].flatten(0, 1)
    assert total == pytest.approx(float(torch.nn.functional.cross_entropy(logits, targets.flatten()) * 24), rel=1e-4)


def test_a_layer_that_runs_several_times_is_not_streamed(tmp_path: Path) -> None:
    config = {key: BERT[key] for key in ("hidden_size", "intermediate_size", "num_attention_heads", "vocab_size")}
    albert = {**config, "model_type": "albert", "embedding_size": 8, "num_hidden_layers": 3}
    dense = dense_folder(tmp_path, albert, transformers.AutoModelForMaskedLM)
    with pytest.raises(ModelError, match=r"several times is not streamed: got 3.*plain factors"):
        LayerStream(str(dense))


@pytest.mark.parametrize("name", ["llama", "gpt2", "opt"])
def test_the_structure_of_a_folder_has_the_head_that_its_file_has(name: str, tmp_path: Path) -> None:
    config, auto, heads = OWN_HEADS[name]
    dense = dense_folder(tmp_path, config, auto)
    tied = load_model(dense)
    assert tied.tie_embeddings
    equal = load_file(dense / "model.safetensors")
    embedding = next(each for each in equal if each.endswith(("embed_tokens.weight", "wte.weight")))
    change(dense, lambda held: held.update({"lm_head.weight": held[embedding].clone()}))
    assert load_model(dense).tie_embeddings  # stored twice is tied all the same, as in transformers
    assert read_config(dense)["tie_word_embeddings"] is True
    assert open_source(str(dense)).weights.shapes.keys() == equal.keys()
    change(dense, lambda held: held.update({"lm_head.weight": noise(*heads["lm_head.weight"])}))
    spec = load_model(dense)
    assert spec.num_params == tied.num_params + 128 * 64
    assert load_model(dense / "config.json").num_params == spec.num_params
    assert read_config(dense)["tie_word_embeddings"] is False
    model = build_model(read_config(dense), spec, dtype=DType.FP32, device=torch.device("cpu"), weights=dense)
    assert sum(each.numel() for each in model.parameters()) == spec.num_params
    assert same(model, auto.from_pretrained(dense).eval())


_BODY = {key: BERT[key] for key in ("hidden_size", "intermediate_size", "num_attention_heads", "vocab_size")}
MASKED_HEADS: dict[str, tuple[dict[str, Any], str]] = {
    "bert": (BERT, "cls.predictions.decoder.weight"),
    "roberta": (ROBERTA, "lm_head.decoder.weight"),
    "electra": ({**_BODY, "model_type": "electra", "embedding_size": 64}, "generator_lm_head.weight"),
    "deberta-v2": ({**_BODY, "model_type": "deberta-v2"}, "cls.predictions.decoder.weight"),
    "distilbert": (
        {"model_type": "distilbert", "dim": 64, "hidden_dim": 96, "n_heads": 4, "vocab_size": 128},
        "vocab_projector.weight",
    ),
    "modernbert": ({**_BODY, "model_type": "modernbert", "pad_token_id": 0}, "decoder.weight"),
}


@pytest.mark.parametrize("name", MASKED_HEADS)
def test_the_structure_of_a_masked_lm_has_the_weight_that_its_file_has(name: str, tmp_path: Path) -> None:
    config, head = MASKED_HEADS[name]
    layers = {"n_layers": 2} if name == "distilbert" else {"num_hidden_layers": 2}
    dense = dense_folder(tmp_path, {**config, **layers, "tie_word_embeddings": True}, MASKED, max_shard_size="30KB")
    tied = load_model(dense)
    assert tied.num_params == sum(each.numel() for each in MASKED.from_pretrained(dense).parameters())
    model = MASKED.from_pretrained(dense)
    model.save_pretrained(dense)  # in one file, beside the index of several
    for path in dense.glob("model-*"):
        path.unlink()
    change(dense, lambda held: held.update({head: model.get_input_embeddings().weight.detach().clone()}))
    assert load_model(dense).num_params == tied.num_params  # stored twice is tied all the same
    change(dense, lambda held: held.update({head: noise(128, 64)}))
    own = sum(each.numel() for each in MASKED.from_pretrained(dense).parameters())
    assert load_model(dense).num_params == own == tied.num_params + 128 * 64
    assert load_model(dense) is load_model(dense)
    reconfigure(dense, architectures=[type(model.base_model).__name__])
    assert load_model(dense).num_params < own  # the body alone has no use for it


@pytest.mark.parametrize("name", ["bert", "roberta", "deberta-v2"])
@pytest.mark.parametrize("own_weight", [False, True])
def test_a_masked_lm_has_the_second_bias_that_its_file_has(name: str, own_weight: bool, tmp_path: Path) -> None:
    config, head = MASKED_HEADS[name]
    layers = {"num_hidden_layers": 2, "tie_word_embeddings": True}
    dense = dense_folder(tmp_path, {**config, **layers}, MASKED)
    tied, last = load_model(dense).num_params, head.removesuffix(".weight")
    other = f"{last.rpartition('.')[0]}.bias"
    if own_weight:
        change(dense, lambda held: held.update({head: noise(128, 64)}))
    for bias, more in ((lambda held: held[other].clone(), 0), (lambda held: held[other] + 1, 128)):
        change(dense, lambda held, bias=bias: held.update({f"{last}.bias": bias(held)}))  # type: ignore[misc]
        real = sum(each.numel() for each in MASKED.from_pretrained(dense).parameters())
        assert load_model(dense).num_params == real == tied + own_weight * 128 * 64 + more


def test_a_head_in_another_file_counts_too(tmp_path: Path) -> None:
    dense = dense_folder(tmp_path, LLAMA | {"tie_word_embeddings": False}, max_shard_size="100KB")
    assert not (dense / "model.safetensors").exists()
    reconfigure(dense, tie_word_embeddings=True)
    assert not load_model(dense).tie_embeddings
    assert open_source(str(dense)).config["tie_word_embeddings"] is False


def test_a_head_alone_is_the_embedding_too(tmp_path: Path) -> None:
    """transformers ties to the one that is there."""
    dense = dense_folder(tmp_path / "dense", LLAMA | TIED)
    change(dense, lambda held: held.update({"lm_head.weight": held.pop("model.embed_tokens.weight")}))
    factored_folder(dense, tmp_path / "out", ALL)
    assert same(load_factored(tmp_path / "out"), CAUSAL.from_pretrained(dense).eval())


AS_MASKED = {"architectures": ["BertForMaskedLM"]}
PRETRAINING = transformers.AutoModelForPreTraining
SEQUENCES = transformers.AutoModelForSequenceClassification
KEPT = {
    "bert pre-training": (BERT, PRETRAINING, "BertForPreTraining", {}),
    "bert pre-training called masked": (BERT, PRETRAINING, "BertForPreTraining", AS_MASKED),
    "bert pre-training without a class": (BERT, PRETRAINING, "BertForPreTraining", {"architectures": None}),
    "masked without a class": (BERT, MASKED, "BertForMaskedLM", {"architectures": None}),
    "masked called headless": (BERT, MASKED, "BertForMaskedLM", {"architectures": ["BertModel"]}),
    "encoder": (BERT, transformers.AutoModel, "BertModel", {}),
    "labels of texts": (BERT, SEQUENCES, "BertForSequenceClassification", {"architectures": None}),
    "labels of tokens": (BERT, transformers.AutoModelForTokenClassification, "BertForTokenClassification", {}),
    "answers": (BERT, transformers.AutoModelForQuestionAnswering, "BertForQuestionAnswering", {"architectures": None}),
    "roberta labels": (ROBERTA, SEQUENCES, "RobertaForSequenceClassification", {}),
    "llama reward": (LLAMA, SEQUENCES, "LlamaForSequenceClassification", {}),
    "gpt2 labels, tied": (GPT2, SEQUENCES, "GPT2ForSequenceClassification", {}),
    "gpt2 labels without a class": (GPT2, SEQUENCES, "GPT2ForSequenceClassification", {"architectures": None}),
    "opt labels": (OPT, SEQUENCES, "OPTForSequenceClassification", {"architectures": None}),
    "llama body": (LLAMA, transformers.AutoModel, "LlamaModel", {}),
    "opt body": (OPT | {"tie_word_embeddings": False}, transformers.AutoModel, "OPTModel", {}),
    "llama without a class": (LLAMA, CAUSAL, "LlamaForCausalLM", {"architectures": None}),
}


@pytest.mark.parametrize("name", KEPT)
def test_weights_keep_the_class_that_they_belong_to(name: str, tmp_path: Path) -> None:
    config, auto, kind, fields = KEPT[name]
    labels = {"num_labels": 1, "pad_token_id": 0} if name == "llama reward" else {"pad_token_id": 1}
    dense = dense_folder(tmp_path / "dense", config | labels, auto)
    reconfigure(dense, **fields)
    truth = getattr(transformers, kind).from_pretrained(dense, attn_implementation="sdpa").eval()
    written = factored_folder(dense, tmp_path / "out", ALL)
    assert written.manifest.architecture == kind
    assert written.manifest.dense_params == sum(each.numel() for each in truth.parameters())
    loaded = load_factored(tmp_path / "out")
    assert type(loaded).__name__ == kind
    assert same(loaded, truth)
    measured = open_pretrained(str(dense)).model
    if "pre-training" in name:
        assert type(measured).__name__ == "BertForMaskedLM"  # whose predictions are measured
        assert torch.equal(outputs(measured)[0], outputs(truth)[0])
    else:
        assert same(measured, truth)
    with LayerStream(str(dense)).layer(0) as layer:
        assert all(not each.is_meta for each in layer.parameters())


@pytest.mark.parametrize("config", [BERT, ROBERTA])
def test_a_pooler_beside_a_masked_head_is_kept(config: dict[str, Any], tmp_path: Path) -> None:
    """As in the first RoBERTa checkpoints: no class of transformers has both."""
    prefix = config["model_type"]
    dense = dense_folder(tmp_path / "dense", config, MASKED)
    pooler = {f"{prefix}.pooler.dense.weight": noise(64, 64), f"{prefix}.pooler.dense.bias": noise(64)}
    change(dense, lambda held: held.update(pooler))
    factored_folder(dense, tmp_path / "out", ALL)
    held = load_file(tmp_path / "out" / "factored.safetensors")
    assert all(torch.equal(held[name], tensor) for name, tensor in pooler.items())
    loaded: Any = load_factored(tmp_path / "out")
    assert same(loaded, MASKED.from_pretrained(dense).eval())
    assert torch.equal(loaded.base_model.pooler.dense.bias, pooler[f"{prefix}.pooler.dense.bias"])
    assert same(open_pretrained(str(dense)).model, MASKED.from_pretrained(dense).eval())


def opening(folder: Path) -> dict[str, Callable[[], Any]]:
    """What each command does with a checkpoint first."""
    spec = load_model(folder)
    cpu = torch.device("cpu")
    return {
        "apply": lambda: factored_folder(folder, folder.parent / "out", ALL),
        "quality": lambda: open_pretrained(str(folder)),
        "sensitivity": lambda: read_all(LayerStream(str(folder))),
        "samples": lambda: build_model(read_config(folder), spec, dtype=DType.FP32, device=cpu, weights=folder),
    }


def read_all(stream: LayerStream) -> None:
    hidden = stream.start(random_tokens() % 96)
    for index in range(stream.spec.num_layers):
        with stream.layer(index) as layer:
            hidden = stream.run_all(index, layer, hidden)
    stream.loss_gradient(random_tokens() % 96, torch.full((2, 12), 3), hidden)


COMMANDS = ("apply", "quality", "sensitivity", "samples")


def refusal(command: str, folder: Path, kind: type[CostModelError]) -> str:
    with pytest.raises(kind) as caught:
        opening(folder)[command]()
    text = str(caught.value)
    assert "\n" not in text
    return text


@pytest.mark.parametrize("command", COMMANDS)
def test_a_tensor_without_a_place_is_named(command: str, tmp_path: Path) -> None:
    dense = dense_folder(tmp_path / "dense", LLAMA)
    change(dense, adding(v_head__summary__weight=noise(1, 64)))
    assert "no place in the model: got 'v_head.summary.weight'" in refusal(command, dense, ModelError)


def test_a_head_for_labels_is_not_measured_as_a_language_model(tmp_path: Path) -> None:
    dense = dense_folder(tmp_path / "dense", GPT2, SEQUENCES)
    assert "got 'score.weight'" in refusal("samples", dense, ModelError)


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("config", [GPT2], ids=["gpt2"])
def test_a_vocabulary_at_odds_with_the_weights_is_named_with_both_shapes(
    config: dict[str, Any], command: str, tmp_path: Path
) -> None:
    dense = dense_folder(tmp_path / "dense", config)
    reconfigure(dense, vocab_size=100)
    text = refusal(command, dense, ModelError)
    assert any(name in text for name in ("embed_tokens.weight", "wte.weight", "lm_head.weight"))
    assert "[128, 64]; allowed: shape [100, 64]" in text


@pytest.mark.parametrize("command", COMMANDS)
def test_a_tensor_in_two_files_is_refused_by_name(command: str, tmp_path: Path) -> None:
    dense = dense_folder(tmp_path / "dense", LLAMA, max_shard_size="100KB")
    first, second = sorted(dense.glob("*.safetensors"))[:2]
    tensors, more = load_file(first), load_file(second)
    name = next(iter(tensors))
    save_file({**more, name: tensors[name] + 1}, second, metadata={"format": "pt"})
    text = refusal(command, dense, ModelError)
    assert name in text
    assert first.name in text
    assert second.name in text


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("norm.weight", float("inf")),
        ("layers.1.mlp.up_proj.weight", float("nan")),
    ],
)
def test_a_weight_that_is_not_finite_is_named_by_every_command(
    name: str, value: float, command: str, tmp_path: Path
) -> None:
    dense = dense_folder(tmp_path / "dense", LLAMA)
    change(dense, lambda held: held[f"model.{name}"].view(-1)[-1:].fill_(value))
    assert refusal(command, dense, MeasurementError) == f"model.{name} holds NaN or infinity"


@pytest.mark.parametrize("command", ["quality", "sensitivity"])
def test_only_a_value_that_another_type_holds_is_advised_to_take_it(command: str, tmp_path: Path) -> None:
    dense = dense_folder(tmp_path / "dense", LLAMA)
    change(dense, lambda held: held["model.norm.weight"].view(-1)[:1].fill_(1e6))
    read = {
        "quality": lambda: open_pretrained(str(dense), dtype=torch.float16),
        "sensitivity": lambda: read_all(LayerStream(str(dense), dtype=torch.float16)),
    }
    with pytest.raises(MeasurementError, match=r"norm\.weight does not fit fp16; choose --dtype fp32 or bf16"):
        read[command]()


def test_a_loaded_folder_with_a_weight_that_is_not_finite_is_refused(tmp_path: Path) -> None:
    dense = dense_folder(tmp_path / "dense", LLAMA)
    factored_folder(dense, tmp_path / "out", ALL)
    tensors = load_file(tmp_path / "out" / "factored.safetensors")
    tensors["model.norm.weight"][0] = float("nan")
    save_file(tensors, tmp_path / "out" / "factored.safetensors", metadata={"format": "factored-checkpoint"})
    with pytest.raises(ValueError, match=r"model\.norm\.weight holds NaN or infinity"):
        load_factored(tmp_path / "out", verify=False)
