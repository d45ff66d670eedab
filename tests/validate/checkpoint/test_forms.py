"""What `validate apply` writes beside plain factors: products under dense names, int8, a verified choice."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from checkpoints import dense_folder, in_memory, logits, of, random_tokens  # noqa: E402
from safetensors.torch import load_file  # noqa: E402
from validating import FAMILIES, LLAMA  # noqa: E402

from costmodel.cli import run  # noqa: E402
from costmodel.families.load import load_model  # noqa: E402
from validate.checkpoint.choice import Choice, Chosen, ChosenText  # noqa: E402
from validate.cli import cli  # noqa: E402
from validate.factors.replace import WeightFactors  # noqa: E402
from validate.hf import load_factored  # noqa: E402
from validate.hf.modules import Int8Linear, to_int8  # noqa: E402
from validate.models.pretrained import open_pretrained  # noqa: E402
from validate.store.digests import checkpoint_sha256, sha256_of  # noqa: E402

MIXED = ["layers=0 rank=7", "layers=2 tensors=mlp rank=9 form=tucker", "layers=1 form=drop"]
OPTIONS = [word for each in MIXED for word in ("--decompose", each)]


def apply(dense: Path, out: Path, *options: str) -> None:
    assert run(cli, ["apply", "--model", str(dense), *options, "--out", str(out)]) == 0


def auto_of(family: str) -> Any:
    return transformers.AutoModelForMaskedLM if family == "bert" else transformers.AutoModelForCausalLM


@pytest.mark.parametrize("family", ["llama", "gpt2", "bert", "mixed"])
def test_merged_is_an_ordinary_checkpoint_of_the_products(family: str, tmp_path: Path) -> None:
    dense = dense_folder(tmp_path / "dense", FAMILIES[family])
    apply(dense, tmp_path / "out", *OPTIONS, "--merged", "--max-shard-size", "100KB")
    assert not (tmp_path / "out" / "factored.json").exists()
    model, report = auto_of(family).from_pretrained(tmp_path / "out", output_loading_info=True)
    assert not report["unexpected_keys"]
    assert not report["missing_keys"] - {"lm_head.weight", "cls.predictions.decoder.weight"}
    tokens = random_tokens()
    expected = in_memory(
        open_pretrained(str(dense)), of(dense, MIXED), WeightFactors(), lambda tree: logits(tree, tokens)
    )
    assert torch.allclose(logits(model, tokens), expected, atol=1e-4)
    assert load_model(tmp_path / "out").num_layers == 2
    assert open_pretrained(str(tmp_path / "out")).spec.num_layers == 2


@pytest.mark.parametrize("family", ["llama", "gpt2", "bert"])
def test_int8_of_factors_and_of_the_rest_of_the_layers(family: str, tmp_path: Path) -> None:
    dense = dense_folder(tmp_path / "dense", FAMILIES[family])
    apply(dense, tmp_path / "out", *OPTIONS, "--weight-dtype", "int8")
    apply(dense, tmp_path / "wide", *OPTIONS)
    model, tokens = auto_of(family).from_pretrained(tmp_path / "out"), random_tokens()
    wide, expected = load_factored(tmp_path / "wide"), logits(load_factored(tmp_path / "wide"), tokens)
    assert not model.hf_quantizer.is_trainable
    stored = load_file(tmp_path / "out" / "factored.safetensors")
    whole = {name for name, tensor in stored.items() if tensor.dtype is torch.int8}
    assert {f"{name}_scale" for name in whole} < stored.keys()
    for name in whole:  # within half a step of the factor, or of the dense weight
        place: Any = wide.get_submodule(name.removesuffix(".weight"))
        exact = place.weight if type(place).__name__ == "Linear" else place.weight.T
        found = stored[name] * stored[f"{name}_scale"][:, None]
        assert ((found - exact).abs() <= 0.5001 * stored[f"{name}_scale"][:, None]).all()
    layers = {name for name, module in model.named_modules() if isinstance(module, Int8Linear)}
    assert layers == {name.removesuffix(".weight") for name in whole}
    size = sum(tensor.nbytes for name, tensor in stored.items() if name in whole)
    assert size == sum(place.numel() for name, place in wide.named_parameters() if name in whole)
    close = logits(model, tokens)
    assert 0 < float((close - expected).norm() / expected.norm()) < 0.1
    model.save_pretrained(tmp_path / "again")
    assert torch.equal(logits(auto_of(family).from_pretrained(tmp_path / "again"), tokens), close)
    assert logits(auto_of(family).from_pretrained(tmp_path / "out", dtype=torch.bfloat16), tokens).isfinite().all()


def test_int8_of_the_dense_model(tmp_path: Path) -> None:
    dense = dense_folder(tmp_path / "dense", LLAMA)
    apply(dense, tmp_path / "out", "--weight-dtype", "int8")
    model, tokens = load_factored(tmp_path / "out"), random_tokens()
    expected = logits(open_pretrained(str(dense)).model, tokens)
    assert 0 < float((logits(model, tokens) - expected).norm() / expected.norm()) < 0.1
    assert run(cli, ["apply", "--model", str(dense), "--weight-dtype", "int8", "--merged", "--out", "x"]) == 2


def test_int8_of_rows_that_are_zero_or_tiny() -> None:
    weight = torch.tensor([[0.0, 0.0], [1.0, -2.0], [1e-30, 0.0]])
    whole, scale = to_int8(weight, torch.float32)
    assert whole.tolist() == [[0, 0], [64, -127], [127, 0]]
    assert torch.allclose(whole * scale[:, None], weight, atol=1e-2)
    assert to_int8(weight, torch.float16)[1].isfinite().all()


def choice_of(dense: Path, text: Path | None) -> dict[str, Any]:
    calibration = None if text is None else ChosenText(name=text.name, sha256=sha256_of(text), blocks=9, length=16)
    chosen = Chosen(
        model="dense",
        checkpoint=checkpoint_sha256(dense),
        factors="plain" if text is None else "whitened",
        calibration=calibration,
        measured={"accept": 0.05},
    )
    return Choice(config=of(dense, MIXED).to_json(), chosen=chosen).to_json()


def test_a_choice_is_applied_exactly_as_it_was_verified(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers

    dense, text, file = dense_folder(tmp_path / "dense", LLAMA), tmp_path / "text.txt", tmp_path / "choice.json"
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())[:128]
    tokenizer = Tokenizer(models.BPE(vocab={byte: index for index, byte in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer).save_pretrained(dense)
    text.write_text("".join(f"x{index} = {index * index}\n" for index in range(99)))
    file.write_text(json.dumps(choice_of(dense, text)))
    given = ["--choice", str(file), "--calibration-text", str(text)]
    whitened = ["--factors", "whitened", "--calibration-text", str(text), "--blocks", "9", "--length", "16"]
    apply(dense, tmp_path / "chosen", *given)
    apply(dense, tmp_path / "by-hand", *OPTIONS, *whitened)
    ours, theirs = (load_file(tmp_path / name / "factored.safetensors") for name in ("chosen", "by-hand"))
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    apply(dense, tmp_path / "plain", "--config", str(file))  # the file is a configuration too

    def refused(*options: str, model: Path = dense) -> str:
        capsys.readouterr()
        assert run(cli, ["apply", "--model", str(model), *options, "--out", str(tmp_path / "no")]) == 2
        err = capsys.readouterr().err
        assert err.startswith("error: ")
        assert not (tmp_path / "no").exists()
        return err

    other = tmp_path / "other.txt"
    other.write_text(text.read_text() + "more\n")
    assert "not the text that was verified" in refused("--choice", str(file), "--calibration-text", str(other))
    assert "--calibration-text is missing; give text.txt" in refused("--choice", str(file))
    assert "not the checkpoint that was verified" in refused(
        *given, model=dense_folder(tmp_path / "else", LLAMA, seed=1)
    )
    assert "--blocks with --choice: got 10; allowed: 9" in refused(*given, "--blocks", "10")
    assert "--blocks with --choice: got 64; allowed: 9" in refused(
        *given, "--blocks", "64"
    )  # the default, but asked for
    assert "--factors with --choice: got 'plain'; allowed: whitened" in refused(*given, "--factors", "plain")
    assert "give one of them" in refused(*given, "--decompose", "layers=0 rank=3")
    file.write_text(json.dumps(of(dense, MIXED).to_json()))
    assert "a plain configuration is applied with --config" in refused(*given)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *(("blocks", count) for count in (0, -1, 10**30, 2.5, True, None)),
        *(("length", count) for count in (0, 1, -7, 10**9, "16")),
        ("calibration", None),
        ("factors", "plain"),
    ],
)
def test_a_choice_whose_parts_do_not_go_together_is_refused(
    key: str, value: object, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dense, text, file = dense_folder(tmp_path / "dense", LLAMA), tmp_path / "text.txt", tmp_path / "choice.json"
    text.write_text("x = 1\n" * 99)
    made = choice_of(dense, text)
    (made["chosen"]["calibration"] if key in ("blocks", "length") else made["chosen"])[key] = value
    file.write_text(json.dumps(made))
    words = [] if key == "calibration" else ["--calibration-text", str(text)]
    capsys.readouterr()
    assert run(cli, ["apply", "--model", str(dense), "--choice", str(file), *words, "--out", str(tmp_path / "no")]) == 2
    assert "--choice is damaged" in capsys.readouterr().err
    assert not (tmp_path / "no").exists()


def test_what_is_no_gguf_is_refused_and_nothing_is_written(tmp_path: Path) -> None:
    pytest.importorskip("gguf")
    (tmp_path / "broken.gguf").write_bytes(b"GGUF" + bytes(99))
    for name in ("missing.gguf", "broken.gguf"):
        assert run(cli, ["import", "gguf", str(tmp_path / name), "--out", str(tmp_path / "out")]) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["broken.gguf"]
