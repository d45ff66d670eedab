"""Sensitivity of a checkpoint: streamed it is what the whole model gives, and it survives being killed."""

from __future__ import annotations

import os
import re
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

import killing  # noqa: E402
from checkpoints import dense_folder  # noqa: E402
from safetensors.torch import load_file, save_file  # noqa: E402
from validating import FAMILIES, LLAMA  # noqa: E402

from costmodel.decomposition.factors import Site  # noqa: E402
from costmodel.errors import ModelError  # noqa: E402
from validate.errors import MeasurementError  # noqa: E402
from validate.factors.factorize import factorize_svd  # noqa: E402
from validate.factors.moments import LayerMoments, collect_moments  # noqa: E402
from validate.factors.whitening import factorize_whitened  # noqa: E402
from validate.models import stream as streams  # noqa: E402
from validate.models.blocks import IGNORED, hidden_tokens, next_tokens  # noqa: E402
from validate.models.pretrained import open_pretrained  # noqa: E402
from validate.models.stream import LayerStream  # noqa: E402
from validate.models.weights import dense_weight  # noqa: E402
from validate.sensitivity.run import SensitivityRunner  # noqa: E402
from validate.sensitivity.site import site_spectra  # noqa: E402
from validate.sensitivity.spectra import tails  # noqa: E402
from validate.store.steps import WorkFolder  # noqa: E402

BLOCKS = torch.randint(1, 128, (5, 12), generator=torch.Generator().manual_seed(3))
"""Not a multiple of the batch of 2."""


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A random checkpoint of each family, in several files."""
    top = tmp_path_factory.mktemp("dense")
    return {name: dense_folder(top / name, config, max_shard_size="60KB") for name, config in FAMILIES.items()}


def run(folder: Path, out: Path, *, targets: bool = False, **options: Any) -> dict[Site, Any]:
    stream = LayerStream(str(folder), batch=2, **options)
    wanted = None
    blocks = BLOCKS
    if targets:
        blocks, wanted = predictions(stream.spec)
    with WorkFolder(out, {}) as work:
        return SensitivityRunner(stream, blocks, wanted, work).run()


def predictions(spec: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """Inputs and targets of BLOCKS."""
    asked = hidden_tokens(BLOCKS, 0, 0) if spec.is_encoder else next_tokens(BLOCKS)
    return asked.inputs, asked.targets


@pytest.mark.parametrize("family", FAMILIES)
def test_streamed_moments_are_those_of_hooks_on_the_whole_model(family: str, folders: dict[str, Path]) -> None:
    stream, pretrained = LayerStream(str(folders[family]), batch=2), open_pretrained(str(folders[family]))
    whole = collect_moments(pretrained, BLOCKS, batch=2)
    assert stream.whole == ""
    hidden = stream.start(BLOCKS)
    for index in range(stream.spec.num_layers):
        with stream.layer(index) as layer, LayerMoments(layer, stream.spec.tensors) as moments:
            hidden = stream.run_all(index, layer, hidden)
        assert all(parameter.is_meta for parameter in stream.model.parameters())
        means = moments.means()
        for tensor in stream.spec.tensors:
            assert torch.equal(means[tensor.name], whole.of(Site(index, tensor.name)))
    last = pretrained.model.base_model(BLOCKS, output_hidden_states=True).hidden_states
    if family == "bert":  # no norm follows the last layer
        assert torch.allclose(hidden, last[-1], atol=1e-5)


@pytest.mark.parametrize("family", ["llama", "bert", "gpt2", "opt"])
def test_spectra_are_those_of_each_weight(family: str, folders: dict[str, Path], tmp_path: Path) -> None:
    found = run(folders[family], tmp_path / "out")
    pretrained = open_pretrained(str(folders[family]))
    spec, moments = pretrained.spec, collect_moments(pretrained, BLOCKS)
    assert set(found) == {Site(layer, each.name) for layer in range(spec.num_layers) for each in spec.tensors}
    for site, spectra in found.items():
        path = f"{spec.layer_prefix}.{site.layer}.{spec.tensor(site.tensor).path}"
        weight = dense_weight(pretrained.body.get_submodule(path)).double()
        moment = moments.of(site)
        full = factorize_svd(weight)
        for measure, left in (
            ("plain", full.left),
            ("plain_output", full.left),
            ("whitened", factorize_whitened(weight, moment, tucker=False).left),
        ):
            errors, relative = spectra.errors(measure), spectra.errors(measure, relative=True)
            assert relative[0] == 1
            assert errors[-1] == 0
            assert (np.diff(errors) <= 0).all()
            for rank in (0, 1, 5, 30):
                lost = weight - left[:, :rank] @ (left[:, :rank].T @ weight)
                direct = lost.square().sum() if measure == "plain" else (lost @ moment @ lost.T).trace()
                assert errors[rank] == pytest.approx(float(direct), rel=1e-6, abs=1e-9 * errors[0])
                assert relative[rank] == pytest.approx(errors[rank] / errors[0])
        assert (spectra.errors("whitened") <= spectra.errors("plain_output") * (1 + 1e-9) + 1e-12).all()


@pytest.mark.parametrize("family", ["llama", "bert", "gpt2", "opt", "mixed"])
def test_loss_terms_are_those_of_the_whole_models_gradients(
    family: str, folders: dict[str, Path], tmp_path: Path
) -> None:
    found = run(folders[family], tmp_path / "out", targets=True)
    pretrained = open_pretrained(str(folders[family]))
    spec, model = pretrained.spec, pretrained.model
    inputs, targets = predictions(spec)
    count = int((targets != IGNORED).sum())
    modules = {
        site: pretrained.body.get_submodule(f"{spec.layer_prefix}.{site.layer}.{spec.tensor(site.tensor).path}")
        for site in found
    }
    seen: dict[Site, tuple[torch.Tensor, torch.Tensor]] = {}
    for site, module in modules.items():
        module.weight.requires_grad_()
        module.register_forward_hook(lambda module, args, output, site=site: watch(seen, site, args[0], output))
    logits = model(input_ids=inputs).logits
    loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="sum")
    loss.backward()
    for site, module in modules.items():
        weight = dense_weight(module).double()
        gradient = (
            module.weight.grad if isinstance(module, torch.nn.Linear) else module.weight.grad.T
        ).double() / count
        x, g = (each.detach().reshape(-1, each.shape[-1]).double() for each in seen[site])
        moment, squares = x.T @ x / len(x), g.T @ g / count
        lefts = {"plain": factorize_svd(weight).left, "whitened": factorize_whitened(weight, moment, tucker=False).left}
        for factors, left in lefts.items():
            slope, curvature = found[site].loss_changes(factors)
            scale = float(tails(np.abs(found[site].loss.slope_plain))[0])
            for rank in (0, 3, 20):
                change = left[:, :rank] @ (left[:, :rank].T @ weight) - weight
                assert slope[rank] == pytest.approx(float((gradient * change).sum()), rel=1e-3, abs=1e-4 * scale)
                direct = float((squares * (change @ moment @ change.T)).sum()) / 2
                assert curvature[rank] == pytest.approx(direct, rel=1e-4)
        assert found[site].loss.gradient == pytest.approx(float(squares.trace()) / len(weight), rel=1e-4)


def watch(seen: dict[Site, Any], site: Site, x: torch.Tensor, output: torch.Tensor) -> None:
    output.register_hook(lambda g: seen.update({site: (x.detach(), g)}))


@pytest.mark.parametrize("targets", [False, True])
def test_a_run_killed_anywhere_continues_and_gives_the_same(
    targets: bool, folders: dict[str, Path], tmp_path: Path
) -> None:
    whole = run(folders["llama"], tmp_path / "whole", targets=targets)
    sites = len(whole)
    for deaths in ([0] if targets else []) + [10, 3, sites]:  # before going back; in the second layer reached; again
        assert killed(folders["llama"], tmp_path / "out", targets, deaths) == (deaths < sites)
    found = run(folders["llama"], tmp_path / "out", targets=targets)
    assert set(found) == set(whole)
    for site, spectra in found.items():
        for measure in ("plain", "plain_output", "whitened"):
            assert np.array_equal(spectra.energies(measure), whole[site].energies(measure))
        for factors in ("plain", "whitened") if targets else ():
            assert np.array_equal(spectra.loss_changes(factors), whole[site].loss_changes(factors))


def killed(folder: Path, out: Path, targets: bool, after: int) -> bool:
    """Run in a process that dies by SIGKILL once it has factorised so many sites; whether it died."""
    child = killing.forking().Process(target=run_and_die, args=(folder, out, targets, after))
    child.start()
    child.join()
    assert child.exitcode in (0, -signal.SIGKILL)
    return child.exitcode != 0


def run_and_die(folder: Path, out: Path, targets: bool, after: int) -> None:
    """What `killed` runs."""
    made = 0

    def die(*args: Any) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def advance(sites: int) -> None:
        nonlocal made
        made += sites == 1  # not those of an earlier part, which come at once
        if made >= after:
            die()

    stream = LayerStream(str(folder), batch=2)
    inputs, wanted = predictions(stream.spec)
    if not after:
        advance, stream.loss_gradient = (lambda sites: None), die  # type: ignore[assignment]
    with WorkFolder(out, {}) as work:
        SensitivityRunner(stream, inputs, wanted if targets else None, work, advance).run()


@pytest.mark.parametrize("targets", [False, True])
def test_finished_layers_are_not_made_again(
    targets: bool, folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from validate.sensitivity import run as runs

    made = []
    monkeypatch.setattr(runs, "site_spectra", lambda *args: made.append(args) or site_spectra(*args))
    assert killed(folders["gpt2"], tmp_path / "out", targets, 9)
    run(folders["gpt2"], tmp_path / "out", targets=targets)
    assert len(made) == 12 - 8  # 4 sites in each of 3 layers, two of which were finished


@pytest.mark.parametrize("family", ["llama", "bert"])
def test_only_one_layer_is_in_memory(family: str, folders: dict[str, Path]) -> None:
    stream = LayerStream(str(folders[family]), batch=2)
    hidden = stream.start(BLOCKS)
    for index in range(3):
        with stream.layer(index) as layer:
            real = {name for name, each in stream.model.named_parameters() if not each.is_meta}
            assert real
            assert all(f".{index}." in name for name in real)
            hidden = stream.run_all(index, layer, hidden)
        assert all(each.is_meta for each in stream.model.parameters())


def test_a_checkpoint_that_cannot_be_streamed_is_read_whole(
    folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    streamed = run(folders["bert"], tmp_path / "streamed", targets=True)

    def unknown(*args: Any) -> None:
        raise ModelError("folder lacks weights of the model", value="bert.odd")

    monkeypatch.setattr(streams, "SourceWeights", unknown)
    assert "bert.odd" in LayerStream(str(folders["bert"])).whole
    whole = run(folders["bert"], tmp_path / "whole", targets=True)
    for site, spectra in whole.items():
        assert np.array_equal(spectra.whitened, streamed[site].whitened)
        assert np.array_equal(spectra.loss.slope_plain, streamed[site].loss.slope_plain)


def test_weights_stored_in_bf16_are_widened_and_fp16_layers_are_possible(tmp_path: Path) -> None:
    folder = dense_folder(tmp_path / "dense", LLAMA, dtype=torch.bfloat16)
    found = run(folder, tmp_path / "fp32")
    weight = load_file(folder / "model.safetensors")["model.layers.1.mlp.up_proj.weight"]
    assert weight.dtype is torch.bfloat16
    values = torch.linalg.svdvals(weight.double())
    assert np.allclose(found[Site(1, "up_proj")].singular_values, values.numpy(), rtol=1e-9)
    half = run(folder, tmp_path / "bf16", dtype=torch.bfloat16)
    whitened = [each[Site(2, "down_proj")].whitened for each in (found, half)]
    assert whitened[1] == pytest.approx(whitened[0], rel=0.1, abs=0.02 * whitened[0][0])


def test_what_is_not_finite_stops_the_run(folders: dict[str, Path], tmp_path: Path) -> None:
    within = [f"layers.1.{part}" for part in ("self_attn.v_proj", "mlp.down_proj", "input_layernorm")]
    for name in ("lm_head", *(f"model.{part}" for part in ("embed_tokens", "norm", *within))):
        folder = dense_folder(tmp_path / name, LLAMA)
        weights = load_file(folder / "model.safetensors")
        weights[f"{name}.weight"].flatten()[-1] = float("nan")
        save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
        with pytest.raises(MeasurementError, match=rf"^{re.escape(name)}\.weight holds NaN or infinity$"):
            run(folder, tmp_path / f"{name}.out")
        assert not (tmp_path / f"{name}.out.partial").exists()  # the same command would meet it again
    with pytest.raises(MeasurementError, match="NaN or infinity"):
        site_spectra(torch.full((3, 4), float("inf")), torch.eye(4))
    with pytest.raises(MeasurementError, match="NaN or infinity"):
        site_spectra(torch.ones(3, 4), torch.full((4, 4), float("nan")))


def test_a_weight_of_zeros_and_moments_of_zeros_have_spectra() -> None:
    for weight, moment in ((torch.zeros(4, 6), torch.eye(6)), (torch.ones(6, 4), torch.zeros(4, 4))):
        spectra = site_spectra(weight, moment)
        assert spectra.errors("whitened", relative=True).tolist() == [0.0] * 5
    assert spectra.stable_rank == pytest.approx(1)
    assert site_spectra(torch.zeros(4, 6), torch.eye(6)).stable_rank == 0


def test_spectra_of_random_weights_of_any_shape_and_rank() -> None:
    generator = torch.Generator().manual_seed(0)
    for out, into, tokens in ((8, 20, 5), (20, 8, 5), (20, 8, 50), (7, 7, 3), (1, 9, 4), (9, 1, 4)):
        weight = torch.randn(out, into, generator=generator, dtype=torch.float64)
        inputs = torch.randn(tokens, into, generator=generator, dtype=torch.float64)
        found = site_spectra(weight, inputs.T @ inputs / tokens)
        assert np.allclose(found.singular_values, torch.linalg.svdvals(weight), rtol=1e-7)
        direct = torch.linalg.svdvals(weight @ inputs.T / tokens**0.5).square()
        direct = torch.nn.functional.pad(direct, (0, len(found.whitened) - len(direct)))
        assert np.allclose(found.whitened, direct, atol=1e-10)
        assert found.plain_output.sum() == pytest.approx(found.whitened.sum())
