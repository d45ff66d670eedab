"""`validate sensitivity` end to end: its file is read strictly, and `costmodel explore` takes what is made of it."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from checkpoints import dense_folder  # noqa: E402
from quality_cases import TEXT, checkpoint  # noqa: E402
from safetensors.numpy import save_file  # noqa: E402
from schemas import checker  # noqa: E402
from trained import Trained, trained_llama  # noqa: E402
from validating import BERT, LLAMA  # noqa: E402

from costmodel.cli import cli as costmodel_cli  # noqa: E402
from costmodel.cli import run  # noqa: E402
from costmodel.decomposition.factors import Decomposition, LowRank, Site  # noqa: E402
from costmodel.decomposition.text import Rank  # noqa: E402
from costmodel.explore.quality import load_quality  # noqa: E402
from costmodel.families.load import load_model  # noqa: E402
from costmodel.space.make import design_space  # noqa: E402
from validate.cli import cli  # noqa: E402
from validate.errors import RecordError  # noqa: E402
from validate.factors.replace import Replacement, WeightFactors  # noqa: E402
from validate.models.pretrained import open_pretrained  # noqa: E402
from validate.models.text import token_blocks  # noqa: E402
from validate.sensitivity.file import (  # noqa: E402
    FORMAT,
    Sensitivity,
    load_sensitivity,
    read_tensors,
    save_sensitivity,
)
from validate.sensitivity.quality_file import quality_file  # noqa: E402
from validate.store.digests import checkpoint_sha256  # noqa: E402
from validate.store.texts import read_text  # noqa: E402

SITES = 21


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Trained, Path]:
    """A trained Llama and its sensitivity file, with loss terms."""
    trained, file = trained_llama(), tmp_path_factory.mktemp("sensitivity") / "llama.sensitivity"
    assert run(cli, ["sensitivity", *arguments(trained, file), "--fisher"]) == 0
    return trained, file


def arguments(trained: Trained, file: Path) -> list[str]:
    return [
        "--model",
        str(trained.model),
        "--text",
        str(trained.calibration),
        "--out",
        str(file),
        "--blocks",
        "32",
        "--length",
        "64",
        "--device",
        "cpu",
    ]


def invoke(capsys: pytest.CaptureFixture[str], *words: str, group: Any = cli) -> tuple[int, str, str]:
    capsys.readouterr()
    code = run(group, list(words))
    out, err = capsys.readouterr()
    return code, out, err


def test_the_file_holds_every_site_and_what_it_is_of(made: tuple[Trained, Path]) -> None:
    trained, file = made
    found = load_sensitivity(file)
    assert (found.run.model, found.run.blocks, found.run.length) == (trained.model.name, 32, 64)
    assert (found.run.dtype, found.run.gradients, found.run.whole) == ("fp32", True, "")
    assert found.spec.num_params == load_model(trained.model).num_params
    assert found.run.checkpoint == checkpoint_sha256(trained.model)
    assert len(found.sites) == SITES
    pretrained = open_pretrained(str(trained.model))
    blocks = token_blocks(pretrained.tokenizer, read_text(trained.calibration), 64, 32)
    assert found.run.nll == pytest.approx(mean_nll(pretrained.model, blocks), abs=1e-5)
    assert not file.with_name(f"{file.name}.partial").exists()


def mean_nll(model: Any, blocks: torch.Tensor) -> float:
    with torch.no_grad():
        logits = model(blocks).logits[:, :-1]
    return float(torch.nn.functional.cross_entropy(logits.flatten(0, 1), blocks[:, 1:].flatten()))


def test_loss_terms_foretell_what_truncation_of_a_site_costs(made: tuple[Trained, Path]) -> None:
    trained, file = made
    found, pretrained = load_sensitivity(file), open_pretrained(str(trained.model))
    blocks = token_blocks(pretrained.tokenizer, read_text(trained.calibration), 64, 32)
    factors, dense = WeightFactors(), mean_nll(pretrained.model, blocks)
    measured, foretold = [], []
    for site, spectra in found.sites.items():
        slope, curvature = spectra.loss_changes("plain")
        with Replacement(pretrained.body, pretrained.spec, Decomposition({site: LowRank(16)}), factors):
            measured.append(mean_nll(pretrained.model, blocks) - dense)
        foretold.append(slope[16] + curvature[16])
    assert np.corrcoef(foretold, measured)[0, 1] > 0.7
    assert 0.5 < np.abs(foretold).mean() / np.abs(measured).mean() < 1.5


def test_a_finished_file_is_read_not_made_again(
    made: tuple[Trained, Path], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    trained, file = made
    before = file.read_bytes()
    code, out, err = invoke(capsys, "sensitivity", *arguments(trained, file), "--fisher", "--format", "json")
    assert (code, err) == (0, "")
    assert file.read_bytes() == before
    result = json.loads(out)
    checker("sensitivity").validate(result)
    assert (result["schema"], result["model"], result["tokens"]) == (1, trained.model.name, 2048)
    assert len(result["sites"]) == SITES
    row = result["sites"][0]
    assert row["site"] == "layers.0.q_proj"
    assert 0 < row["whitened_pct"] <= row["plain_output_pct"] < 100
    code, _, err = invoke(capsys, "sensitivity", *arguments(trained, file))
    assert code == 1
    assert err.startswith(f"error: {file} is of another gradients: got False; allowed: True; choose another --out")


def test_a_finished_file_of_another_config_is_not_taken(
    made: tuple[Trained, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One from before it said whose it is still is."""
    trained, file = made
    words = [*arguments(trained, file), "--fisher", "--format", "json"]
    model = tmp_path / trained.model.name
    shutil.copytree(trained.model, model)
    (model / "config.json").write_text((model / "config.json").read_text() + "\n")
    code, _, err = invoke(
        capsys, "sensitivity", *[str(model) if word == str(trained.model) else word for word in words]
    )
    assert (code, err) == (1, f"error: {file} is of another config.json; choose another --out\n")
    found, old = load_sensitivity(file), tmp_path / "old"
    unnamed = msgspec.structs.replace(found.run, checkpoint=None)
    save_sensitivity(old, Sensitivity(run=unnamed, spec=found.spec, sites=found.sites))
    assert invoke(capsys, "sensitivity", *words, "--out", str(old))[0] == 0
    assert load_sensitivity(old).run.checkpoint is None


def test_tables_and_csv(made: tuple[Trained, Path], capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = invoke(capsys, "sensitivity", "--from", str(made[1]))
    assert code == 0
    assert "layers.2.down_proj" in out
    code, out, _ = invoke(capsys, "sensitivity", "--from", str(made[1]), "--format", "csv")
    assert code == 0
    assert len(out.splitlines()) == 1 + SITES
    assert "loss_curvature_whitened" in out.splitlines()[0]


def test_explore_takes_the_quality_file(
    made: tuple[Trained, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trained, file = made
    copy = tmp_path / "a.sensitivity"
    shutil.copy(file, copy)
    code, _, _ = invoke(capsys, "sensitivity", "--from", str(copy), "--as-quality", "--ranks", "1,25%,50%")
    assert code == 0
    explore = [
        "explore",
        "--model",
        str(trained.model),
        "--hw",
        "epyc-9654",
        "--dtype",
        "fp32",
        "--phase",
        "prefill",
        "--ranks",
        "1,25%,50%",
        "--objectives",
        "params,quality",
        "--format",
        "json",
    ]
    for kind in ("homogeneous", "per-site"):
        words = [*explore, "--space", kind, "--quality", f"{copy}.quality.json"]
        code, out, err = invoke(capsys, *words, group=costmodel_cli)
        assert (code, err) == (0, "")
        assert len(json.loads(out)["frontier"]) > 1
    spec, found = load_model(trained.model), load_sensitivity(file)
    table = load_quality(f"{copy}.quality.json", design_space(spec, "per-site", ranks=[1]))
    assert (table.stand_in, table.metric.startswith("estimated increase of NLL in nats")) == (False, True)
    for site, spectra in found.sites.items():
        column = [tensor.name for tensor in spec.tensors].index(site.tensor)
        tick = table.value[site.layer, column, 1] * table.quantum
        assert tick == pytest.approx(spectra.loss_changes("plain")[1][1], rel=1e-9)


def test_values_of_the_quality_file(made: tuple[Trained, Path], tmp_path: Path) -> None:
    found = load_sensitivity(made[1])
    site, spectra = Site(1, "up_proj"), found.sites[Site(1, "up_proj")]

    def values(sensitivity: Sensitivity, **options: Any) -> dict[tuple[str, int], float]:
        content = quality_file(sensitivity, ranks=[Rank(number=8), Rank(number=64), Rank(number=65)], **options)
        assert (content["schema"], content["model"]) == (1, found.run.model)
        return {(entry["site"], entry["rank"]): entry["value"] for entry in content["entries"]}

    whitened = values(found, factors="whitened", form="tucker")
    assert whitened[str(site), 8] == spectra.loss_changes("whitened")[1][8]
    assert whitened[str(site), 64] == 0
    assert (str(site), 65) not in whitened  # min(96, 64) is the largest rank
    without = {
        key: type(each)(singular_values=each.singular_values, plain_output=each.plain_output, whitened=each.whitened)
        for key, each in found.sites.items()
    }
    bare = msgspec.structs.replace(found.run, gradients=False)
    plain = values(Sensitivity(run=bare, spec=found.spec, sites=without), factors="plain")
    assert plain[str(site), 8] == 100 * spectra.errors("plain_output", relative=True)[8] / SITES


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda arrays, meta: arrays.pop("layers.1.q_proj.whitened"), "missing array: got 'layers.1.q_proj.whitened'"),
        (lambda arrays, meta: arrays.pop("layers.1.q_proj.gradient"), "missing array: got 'layers.1.q_proj.gradient'"),
        (lambda arrays, meta: arrays.update({"layers.9.q_proj.whitened": np.ones(64)}), "unknown array: got 'layers.9"),
        (lambda arrays, meta: arrays.update({"layers.1.q_proj.whitened": np.ones(63)}), "of another type or shape"),
        (lambda arrays, meta: arrays.update({"layers.1.q_proj.whitened": np.ones(64, np.float32)}), "float32[64]"),
        (lambda arrays, meta: arrays.update({"layers.1.q_proj.whitened": -np.ones(64)}), "energies below 0"),
        (lambda arrays, meta: arrays.update({"layers.1.q_proj.slope_plain": np.full(64, np.nan)}), "NaN or infinity"),
        (lambda arrays, meta: meta.update(format="other"), f"not a sensitivity file: got 'other'; allowed: {FORMAT}"),
        (lambda arrays, meta: meta.update(schema="2"), "schema: got '2'; allowed: 1; written by another version"),
        (lambda arrays, meta: meta.update(run="{}"), "damaged header"),
        (lambda arrays, meta: meta.update(run=meta["run"].replace('"llama"', '"mamba"')), "damaged header"),
    ],
)
def test_a_changed_file_is_refused(
    change: Any, message: str, made: tuple[Trained, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    metadata, arrays = read_tensors(made[1])
    change(arrays, metadata)
    save_file(arrays, tmp_path / "file", metadata=metadata)
    with pytest.raises(RecordError) as error:
        load_sensitivity(tmp_path / "file")
    assert message in str(error.value)
    code, out, err = invoke(capsys, "sensitivity", "--from", str(tmp_path / "file"))
    assert (code, out, len(err.splitlines())) == (2, "", 1)
    assert err.startswith("error: ")


@pytest.mark.parametrize("content", [b"", b"x" * 40, b"\xff" * 8])
def test_what_is_no_safetensors_file_is_refused(
    content: bytes, tmp_path: Path, made: tuple[Trained, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_bytes(content)
    (tmp_path / "cut").write_bytes(made[1].read_bytes()[:-100])
    for name in ("file", "cut", "none", "."):
        code, out, err = invoke(capsys, "sensitivity", "--from", str(tmp_path / name))
        assert (code, out, len(err.splitlines())) == (2, "", 1)
        assert err.startswith("error: cannot read sensitivity file: got ")


def test_what_is_wrong_is_said_in_one_line(
    made: tuple[Trained, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trained, file = made
    model, text = ["--model", str(trained.model)], ["--text", str(trained.text)]
    out = ["--out", str(tmp_path / "out")]
    bare = dense_folder(tmp_path / "bare", LLAMA)
    weightless = tmp_path / "weightless"
    shutil.copytree(trained.model, weightless, ignore=shutil.ignore_patterns("*.safetensors"))
    (tmp_path / "short").write_text("a few words")
    cases = [
        ([], 2, "--model, --text and --out are needed; or --from FILE"),
        ([*model, *text], 2, "--model, --text and --out are needed"),
        (["--from", str(file), *model], 2, "--from reads a file, nothing is measured"),
        ([*model, *text, "--out", str(tmp_path / "no" / "out")], 2, "no such folder"),
        ([*model, "--text", str(tmp_path / "none"), *out], 2, "cannot read text"),
        ([*model, "--text", str(tmp_path / "short"), *out], 2, "text too short"),
        ([*model, *text, *out, "--length", "65"], 2, "--length: got 65; allowed: up to 64, the model's positions"),
        (["--model", str(bare), *text, *out], 2, "checkpoint without a tokenizer"),
        (["--model", str(weightless), *text, *out], 2, "folder without weights"),
        (["--from", str(file), "--as-quality", "--ranks", "x"], 2, "not a rank"),
        (["--from", str(file), "--as-quality", str(tmp_path / "no" / "q"), "--ranks", "1"], 2, "cannot write"),
        ([*model, *text, "--out", str(trained.text)], 2, "cannot read sensitivity file"),
    ]
    for words, code, message in cases:
        found, printed, err = invoke(capsys, "sensitivity", *words)
        assert (found, printed, len(err.splitlines())) == (code, "", 1), (words, err)
        assert message in err


def test_another_run_is_neither_continued_nor_disturbed(
    made: tuple[Trained, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from validate.store.steps import WorkFolder

    trained, out = made[0], tmp_path / "out"
    with WorkFolder(out, {"model": "another"}) as work:
        work.save("hidden", 1, {})
        code, _, err = invoke(capsys, "sensitivity", *arguments(trained, out))
        assert (code, "in use by another run" in err) == (1, True)
    code, _, err = invoke(capsys, "sensitivity", *arguments(trained, out))
    assert code == 1
    assert "cannot resume with another model: got 'llama'; allowed: 'another'; choose another --out" in err


def test_another_config_is_not_continued(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Weights say nothing of rope_theta: neither unfinished work nor an old file without a digest is taken for it."""
    from validate.sensitivity.run import SensitivityRunner

    model, text = checkpoint(tmp_path / "llama"), tmp_path / "text.txt"
    text.write_text(TEXT)
    words = ["sensitivity", "--model", str(model), "--text", str(text), "--blocks", "2", "--length", "16"]
    out, old = ["--out", str(tmp_path / "out")], tmp_path / "old"
    assert invoke(capsys, *words, "--out", str(old))[0] == 0
    found = load_sensitivity(old)
    save_sensitivity(old, replace(found, run=msgspec.structs.replace(found.run, checkpoint=None)))
    forward = SensitivityRunner._forward

    def one_layer(runner: Any, hidden: Any) -> None:
        runner._layers = 1
        forward(runner, hidden)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(SensitivityRunner, "_forward", one_layer)
        assert invoke(capsys, *words, *out)[0] == 130
    config = (model / "config.json").read_text()
    (model / "config.json").write_text(json.dumps({**json.loads(config), "rms_norm_eps": 0.25}))
    code, _, err = invoke(capsys, *words, *out)
    assert (code, err.startswith("error: cannot resume with another checkpoint: got ")) == (1, True)
    code, _, err = invoke(capsys, *words, "--out", str(old))
    assert (code, err) == (1, f"error: {old} is of another config.json; choose another --out\n")
    (model / "config.json").write_text(config)
    assert invoke(capsys, *words, *out)[0] == 0


def test_an_encoder_without_its_head_has_no_loss(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from transformers import AutoModel

    folder = dense_folder(tmp_path / "bert", BERT, AutoModel)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(trained_llama().model / name, folder)
    words = ["--model", str(folder), "--text", str(trained_llama().text), "--out", str(tmp_path / "out")]
    code, _, err = invoke(capsys, "sensitivity", *words, "--fisher", "--length", "16", "--blocks", "2")
    assert code == 2
    assert "no head that predicts text: got 'BertModel'; allowed: ...ForMaskedLM; leave --fisher out" in err
