"""Timing, scoring and analysing what `validate apply` wrote, as it is."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from checkpoints import dense_folder, factored_folder  # noqa: E402
from expert_configs import experts as experts_of  # noqa: E402
from schemas import checker  # noqa: E402
from tokenizers import Tokenizer, models, pre_tokenizers  # noqa: E402
from validating import BERT, GPT2, LLAMA  # noqa: E402

from costmodel.cli import run  # noqa: E402
from costmodel.errors import ModelError  # noqa: E402
from costmodel.families.registry import spec_from_config  # noqa: E402
from validate.cli import cli  # noqa: E402
from validate.models.kept import kept_fields, kept_model  # noqa: E402
from validate.quality.records import QUALITY  # noqa: E402
from validate.sensitivity.file import load_sensitivity  # noqa: E402
from validate.speed.records import read_samples  # noqa: E402

MIXED = ["layers=0 rank=7", "layers=2 tensors=mlp rank=9 form=tucker", "layers=1 form=drop"]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`dense` and `out`, made of it, with a tokenizer of bytes, and a text."""
    root = tmp_path_factory.mktemp("artefact")
    dense = dense_folder(root / "dense", LLAMA)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())[:128]
    tokenizer = Tokenizer(models.BPE(vocab={byte: index for index, byte in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer).save_pretrained(dense)
    factored_folder(dense, root / "out", MIXED)
    (root / "text.txt").write_text("".join(f"x{index} = {index * index}\n" for index in range(200)))
    return root


@pytest.mark.parametrize("config", [LLAMA, GPT2, BERT])
def test_the_structure_is_that_of_the_layers_kept(config: dict[str, object], tmp_path: Path) -> None:
    dense = dense_folder(tmp_path / "dense", config)
    factored_folder(dense, tmp_path / "out", MIXED)
    assert kept_model(tmp_path / "out")[0].num_layers == 2
    assert kept_model(dense)[0].num_layers == 3


@pytest.mark.slow
def test_a_factored_folder_is_timed_beside_its_dense_model(root: Path, tmp_path: Path) -> None:
    few = ["--batch", "1", "--seq-len", "8", "--kv-len", "16", "--budget", "0.1", "--precision", "50"]
    arguments = ["--model", str(root / "out"), *few, "--out", str(tmp_path / "run"), "--format", "json"]
    assert run(cli, arguments) == 0
    samples = read_samples(tmp_path / "run")
    assert [sample.status for sample in samples] == ["ok"] * 4
    assert [bool(sample.config["ranks"]) for sample in samples] == [False, True, False, True]
    assert all(check.expected == check.found for sample in samples for check in sample.identity)
    assert run(cli, [*arguments[:-4], "--configs", "x.json", "--out", str(tmp_path / "no")]) == 2


def test_its_quality_is_that_of_the_configuration_in_the_dense_model_beside_which_it_is_measured(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    few = ["--text", str(root / "text.txt"), "--blocks", "4", "--length", "16"]
    config = ["--config", str(root / "out" / "decomposition.json")]
    assert run(cli, ["quality", "--model", str(root / "out"), *few, "--out", str(tmp_path / "ours")]) == 0
    assert "compared with" in capsys.readouterr().err
    assert run(cli, ["quality", "--model", str(root / "dense"), *few, *config, "--out", str(tmp_path / "theirs")]) == 0
    dense, ours = QUALITY.read(tmp_path / "ours")
    other, theirs = QUALITY.read(tmp_path / "theirs")
    assert dense.text == other.text
    assert ours.text is not None
    assert theirs.text is not None
    assert ours.text.nll == pytest.approx(theirs.text.nll, abs=1e-4)
    assert ours.text.kl == pytest.approx(theirs.text.kl, abs=1e-4)
    assert (ours.config, ours.params) == (theirs.config, theirs.params)
    assert ours.artefact is not None
    assert ours.artefact.name == "out"
    again = ["quality", "--model", str(root / "out"), *few, "--decompose", "layers=0 rank=1", "--out", str(tmp_path)]
    assert run(cli, again) == 2


def test_a_folder_without_its_dense_checkpoint_is_said_to_be_compared_with_nothing(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(root / "out", tmp_path / "far")
    few = ["--text", str(root / "text.txt"), "--blocks", "4", "--length", "16"]
    asked = ["quality", "--model", str(tmp_path / "far"), *few]
    assert run(cli, [*asked, "--out", str(tmp_path / "alone")]) == 0
    printed = capsys.readouterr()
    assert run(cli, [*asked, "--out", str(tmp_path / "alone"), "--resume", "--format", "json"]) == 0
    checker("measured").validate(json.loads(capsys.readouterr().out))
    line = (tmp_path / "alone" / "quality.jsonl").read_text().splitlines()[0]
    checker("records").validate(json.loads(line))
    assert "compared with nothing" in printed.err
    assert "--dense" in printed.err
    assert "against dense" not in printed.out
    assert len(QUALITY.read(tmp_path / "alone")) == 1
    for wrong in (root / "out", tmp_path / "nowhere"):
        assert run(cli, [*asked, "--dense", str(wrong), "--out", str(tmp_path / "no")]) == 2
    assert run(cli, ["quality", "--model", str(root / "dense"), "--dense", str(root / "dense"), *few]) == 2
    assert capsys.readouterr().err.count("error: --dense") == 3


def test_its_sensitivity_is_that_of_the_products(root: Path, tmp_path: Path) -> None:
    few = ["--text", str(root / "text.txt"), "--blocks", "4", "--length", "16"]
    file = tmp_path / "out.sensitivity"
    assert run(cli, ["sensitivity", "--model", str(root / "out"), *few, "--out", str(file)]) == 0
    found = load_sensitivity(file)
    assert {site.layer for site in found.sites} == {0, 1}
    values = next(spectra for site, spectra in found.sites.items() if site.layer == 0).singular_values
    assert sum(values > 1e-4 * values[0]) == 7  # the rank that it was factored to


def test_a_folder_in_int8_is_scored_and_not_timed(root: Path, tmp_path: Path) -> None:
    out = tmp_path / "int8"
    assert run(cli, ["apply", "--model", str(root / "dense"), "--weight-dtype", "int8", "--out", str(out)]) == 0
    few = ["--text", str(root / "text.txt"), "--blocks", "4", "--length", "16"]
    dense = ["--dense", str(root / "dense")]
    assert run(cli, ["quality", "--model", str(out), *dense, *few, "--out", str(tmp_path / "quality")]) == 0
    _, rounded = QUALITY.read(tmp_path / "quality")
    assert rounded.text is not None
    assert max(rounded.text.kl) > 0  # weights in int8 are not the dense ones, though nothing is factored
    assert run(cli, ["--model", str(out), "--out", str(tmp_path / "no")]) == 2
    assert json.loads((out / "config.json").read_text())["quantization_config"]["weight_dtype"] == "int8"


@pytest.mark.parametrize(
    ("dropped", "first", "experts"),
    [(0, 1, [False, True]), (2, 2, [False, False]), (1, 1, [False, True])],
)
def test_a_dense_first_layer_counts_only_where_it_is_kept(dropped: int, first: int, experts: list[bool]) -> None:
    config = {**experts_of("deepseek_v3"), "num_hidden_layers": 3, "first_k_dense_replace": 2}
    spec = spec_from_config(config, name="tiny", source="tiny")
    fields = kept_fields(config, spec, [dropped])
    assert fields == {"num_hidden_layers": 2, "first_k_dense_replace": first}
    left = spec_from_config({**config, **fields}, name="tiny", source="tiny")
    assert [left.kind_of(layer).experts is not None for layer in range(2)] == experts


def test_kinds_told_by_their_place_are_not_shifted() -> None:
    config = {**experts_of("qwen3_moe"), "num_hidden_layers": 4, "decoder_sparse_step": 2}
    spec = spec_from_config(config, name="tiny", source="tiny")
    assert kept_fields(config, spec, [0, 1])["num_hidden_layers"] == 2
    with pytest.raises(ModelError, match="which layers are left"):
        kept_fields(config, spec, [0])
