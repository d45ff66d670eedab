"""`import validate.hf`: transformers' own `from_pretrained` and `save_pretrained` of factored folders."""

from __future__ import annotations

import ast
import copy
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from checkpoints import change_json, dense_folder, factored_folder, in_memory, logits, of, random_tokens  # noqa: E402
from validating import BERT, FAMILIES, LLAMA  # noqa: E402

import validate.hf  # noqa: E402
from validate.factors.replace import WeightFactors  # noqa: E402
from validate.hf import FactoredCheckpointError, LowRankConfig, load_factored  # noqa: E402
from validate.models.pretrained import open_pretrained  # noqa: E402
from validate.models.stored import stored_weights  # noqa: E402

ROOM = Path(validate.hf.__file__).parent
MIXED = ["layers=0 rank=7", "layers=2 tensors=mlp rank=9 form=tucker", "layers=1 form=drop"]


def auto_of(family: str) -> Any:
    return transformers.AutoModelForMaskedLM if family == "bert" else transformers.AutoModelForCausalLM


def generated(model: Any) -> Any:
    tokens = random_tokens()
    return model.generate(
        tokens, attention_mask=torch.ones_like(tokens), max_new_tokens=8, do_sample=False, pad_token_id=0
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("hf")
    factored_folder(dense_folder(root / "dense", LLAMA), root / "out", MIXED)
    return root / "out"


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_loads_generates_and_comes_back(family: str, tmp_path: Path) -> None:
    dense = dense_folder(tmp_path / "dense", FAMILIES[family])
    factored_folder(dense, tmp_path / "out", MIXED)
    pretrained, tokens, auto = open_pretrained(str(dense)), random_tokens(), auto_of(family)
    model = auto.from_pretrained(tmp_path / "out")
    expected = in_memory(pretrained, of(dense, MIXED), WeightFactors(), lambda tree: logits(tree, tokens))
    assert torch.equal(logits(model, tokens), expected)
    assert torch.equal(logits(load_factored(tmp_path / "out"), tokens), expected)
    if model.can_generate():
        wanted = in_memory(pretrained, of(dense, MIXED), WeightFactors(), generated)
        assert torch.equal(generated(model), wanted)
    model.save_pretrained(tmp_path / "again", max_shard_size="60KB")
    again = auto.from_pretrained(tmp_path / "again")
    assert torch.equal(logits(again, tokens), expected)
    assert again.config.num_hidden_layers == model.config.num_hidden_layers == 2
    assert len(list((tmp_path / "again").glob("*.safetensors"))) > 1
    for name in ("decomposition.json", "factored.json"):
        assert (tmp_path / "again" / name).exists()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
def test_types(dtype: Any, folder: Path) -> None:
    model, tokens = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=dtype), random_tokens()
    assert {each.dtype for each in model.parameters()} == {dtype}
    assert torch.equal(logits(model, tokens), logits(load_factored(folder, dtype=dtype), tokens))
    dense = folder.parent / "dense"
    if dtype is torch.float64:  # factored in fp32, then widened
        assert torch.allclose(logits(model, tokens), logits(load_factored(folder), tokens).double(), atol=1e-4)
        return
    pretrained = open_pretrained(str(dense), dtype=dtype)
    make = WeightFactors(stored_weights(pretrained))
    assert torch.equal(
        logits(model, tokens), in_memory(pretrained, of(dense, MIXED), make, lambda tree: logits(tree, tokens))
    )


def test_a_device_map(folder: Path) -> None:
    pytest.importorskip("accelerate")
    tokens, expected = random_tokens(), logits(load_factored(folder), random_tokens())
    for device_map in ("auto", {"": "cpu"}):
        model = transformers.AutoModelForCausalLM.from_pretrained(folder, device_map=device_map)
        assert torch.equal(logits(model, tokens), expected)


def test_factors_are_trained_and_saved(folder: Path, tmp_path: Path) -> None:
    model, tokens = transformers.AutoModelForCausalLM.from_pretrained(folder), random_tokens()
    assert model.hf_quantizer.is_trainable
    model.train()
    model(tokens, labels=tokens).loss.backward()
    factors = dict(model.get_submodule("model.layers.0.self_attn.q_proj").named_parameters())
    assert factors.keys() == {"in.weight", "out.weight"}
    assert all(each.grad is not None and each.grad.abs().sum() > 0 for each in factors.values())
    torch.optim.SGD(model.parameters(), lr=0.1).step()
    model.eval().save_pretrained(tmp_path / "trained")
    again = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "trained")
    assert torch.equal(logits(again, tokens), logits(model, tokens))
    assert not torch.equal(logits(again, tokens), logits(load_factored(folder), tokens))


def test_a_folder_that_is_saved_over_holds_only_the_last_model(folder: Path, tmp_path: Path) -> None:
    model = transformers.AutoModelForCausalLM.from_pretrained(folder)
    (tmp_path / "optimizer.state").write_text("kept")
    model.save_pretrained(tmp_path, max_shard_size="60KB")
    copy.deepcopy(model).bfloat16().save_pretrained(tmp_path)
    assert [path.name for path in tmp_path.glob("*.safetensors")] == ["factored.safetensors"]
    assert (tmp_path / "optimizer.state").exists()
    assert transformers.AutoModelForCausalLM.from_pretrained(tmp_path).dtype is torch.bfloat16


def test_transformers_own_way_of_saving_is_refused(folder: Path, tmp_path: Path) -> None:
    """It would write model.safetensors, which loads without factors where the quantizer is not known."""
    model = transformers.AutoModelForCausalLM.from_pretrained(folder)
    with pytest.raises(ValueError, match="not serializable"):
        transformers.PreTrainedModel.save_pretrained(model, tmp_path / "own")
    with pytest.raises(FactoredCheckpointError, match="push_to_hub"):
        model.save_pretrained(tmp_path / "own", push_to_hub=True)
    with pytest.raises(FactoredCheckpointError, match="types of the weights"):
        model.double().save_pretrained(tmp_path / "own")
    assert not (tmp_path / "own").exists()


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_dequantize_gives_the_dense_model_of_the_products(family: str, tmp_path: Path) -> None:
    dense = dense_folder(tmp_path / "dense", FAMILIES[family])
    factored_folder(dense, tmp_path / "out", MIXED)
    model = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    expected = logits(model, random_tokens())
    model.dequantize()
    assert not any(isinstance(each, validate.hf.modules.FactoredLinear) for each in model.modules())
    assert torch.allclose(logits(model, random_tokens()), expected, atol=1e-4)
    model.save_pretrained(tmp_path / "plain")
    plain = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "plain")
    assert torch.equal(logits(plain, random_tokens()), logits(model, random_tokens()))


def test_the_body_alone_and_a_head_for_another_task(tmp_path: Path) -> None:
    factored_folder(dense_folder(tmp_path / "dense", BERT), tmp_path / "out", MIXED)
    body = transformers.AutoModel.from_pretrained(tmp_path / "out", add_pooling_layer=False)
    whole = load_factored(tmp_path / "out")
    with torch.inference_mode():
        assert torch.equal(body(random_tokens())[0], whole.bert(random_tokens())[0])  # type: ignore[operator, union-attr]


def test_the_body_alone_is_saved_and_read(folder: Path, tmp_path: Path) -> None:
    body = transformers.AutoModel.from_pretrained(folder)
    body.save_pretrained(tmp_path / "body")
    again = load_factored(tmp_path / "body")
    assert type(again) is transformers.LlamaModel
    with torch.inference_mode():
        assert torch.equal(body(random_tokens())[0], again(random_tokens())[0])


def test_the_room_alone_makes_transformers_read_both_folders(folder: Path, tmp_path: Path) -> None:
    """What `apply` and what `save_pretrained` wrote: refused before its import, which needs no other part of the
    project; never read with random matrices."""
    names = set()
    for path in ROOM.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                names |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                parts = str(node.module).split(".")
                names.add(".".join(parts[:2]) if parts[0] == "validate" else parts[0])
    foreign = names - set(sys.stdlib_module_names)
    assert foreign == {"torch", "transformers", "safetensors", "huggingface_hub", "validate.hf"}
    shutil.copytree(ROOM, tmp_path / "validate" / "hf", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "validate" / "__init__.py").touch()
    transformers.AutoModelForCausalLM.from_pretrained(folder).save_pretrained(tmp_path / "saved")
    code = (
        "import gc, sys\n"
        "gc.disable()\n"
        "import torch, transformers\n"
        "for folder in sys.argv[1:]:\n"
        "    try:\n"
        "        transformers.AutoModelForCausalLM.from_pretrained(folder)\n"
        "    except OSError as error:\n"
        "        assert str(error).startswith('Error no file named model.safetensors'), error\n"
        "    else:\n"
        "        raise AssertionError(folder)\n"
        "import validate.hf\n"
        "model = transformers.AutoModelForCausalLM.from_pretrained(sys.argv[1])\n"
        "tokens = torch.tensor([[3, 4, 5]])\n"
        "found = model.generate(tokens, attention_mask=torch.ones(1, 3), max_new_tokens=4, do_sample=False,"
        " pad_token_id=0)\n"
        "assert 'costmodel' not in sys.modules and validate.hf.__file__.startswith(sys.path[0])\n"
        "print(found.tolist())\n"
    )
    run = subprocess.run(
        [
            sys.executable,
            "-c",
            f"import sys; sys.path[:] = [{str(tmp_path)!r}, *sys.path[1:]]\n{code}",
            str(folder),
            str(tmp_path / "saved"),
        ],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    model: Any = load_factored(folder)
    tokens = torch.tensor([[3, 4, 5]])
    expected = model.generate(
        tokens, attention_mask=torch.ones(1, 3), max_new_tokens=4, do_sample=False, pad_token_id=0
    )
    assert json.loads(run.stdout) == expected.tolist()


def test_the_entry_of_the_configuration_is_strict() -> None:
    good: dict[str, Any] = {"layers": "model.layers", "num_layers": 3, "modules": {}}
    assert LowRankConfig.from_dict(good).to_dict()["drop"] == []
    wrong: list[dict[str, Any]] = [
        {"layers": 3},
        {"num_layers": True},
        {"modules": {"0.a": {"form": "cp", "rank": [1, 1]}}},
        {"modules": {"a.0": {"form": "svd", "rank": [1, 1]}}},
        {"modules": {"0.a": {"form": "svd", "rank": [1.0, 1]}}},
        {"drop": [True]},
        {"weight_dtype": "int4"},
        {"int8": ["a"]},
        {"shards": "2"},
        {"code": "x"},
    ]
    for change in wrong:
        with pytest.raises(FactoredCheckpointError, match=r"^quantization_config of low_rank: [^\n]*$"):
            LowRankConfig.from_dict({**good, **change})
    for name in good:
        with pytest.raises(FactoredCheckpointError, match=name):
            LowRankConfig.from_dict({key: value for key, value in good.items() if key != name})


def test_an_entry_that_asks_for_other_weights_or_another_folder(folder: Path, tmp_path: Path) -> None:
    copied = Path(shutil.copytree(folder, tmp_path / "copy"))
    change_json(copied, "config.json", lambda data: data.update(transformers_weights="../dense/model.safetensors"))
    model = transformers.AutoModelForCausalLM.from_pretrained(copied)
    assert torch.equal(logits(model, random_tokens()), logits(load_factored(folder), random_tokens()))
    config = transformers.AutoConfig.from_pretrained(folder)
    factored_folder(folder.parent / "dense", tmp_path / "other", ["layers=0 rank=3"])
    with pytest.raises(FactoredCheckpointError, match="other: the configuration given is not the folder's"):
        transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "other", config=config)
