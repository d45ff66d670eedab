"""Training on another device than the processor: every tensor follows the model, and the large recipes fit."""

from __future__ import annotations

import contextlib
import functools
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from test_training import SHORT, made, short_corpus

from costmodel.errors import InputError
from studies.models.place import open_place, place_of
from studies.models.product import Product
from studies.models.recipe import RECIPES, build_model
from studies.models.scores import chosen
from studies.models.sizes import LARGE, SIZES
from studies.models.state import load_state
from validate.errors import RunError

pytestmark = pytest.mark.slow

FAMILIES = ("llama", "bert")


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> torch.device:
    """A second device that every build of torch has, which refuses the processor's tensors as a GPU does. It knows
    neither autocast nor fused updates."""
    backend = pytest.importorskip("torch._lazy.ts_backend")
    with contextlib.suppress(RuntimeError):  # once in a process
        backend.init()
    monkeypatch.setattr("torch.autocast", _record)
    monkeypatch.setattr("torch.optim.AdamW", functools.partial(_unfused, torch.optim.AdamW))
    _cast.clear()
    return torch.device("lazy")


def _record(kind: str, dtype: torch.dtype, *, enabled: bool) -> contextlib.nullcontext[None]:
    _cast.append((kind, dtype, enabled))
    return contextlib.nullcontext()


_cast: list[tuple[str, torch.dtype, bool]] = []


def _unfused(kind: Any, groups: Any, *, fused: bool, **options: Any) -> torch.optim.Optimizer:
    made: torch.optim.Optimizer = kind(groups, **options)
    return made


@pytest.mark.parametrize(("family", "mixed"), [("llama", True), ("bert", False)])
def test_a_training_follows_its_device(
    family: str, mixed: bool, elsewhere: torch.device, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = replace(SHORT[family], steps=2, warmup=0, batch=2, mixed=mixed)
    monkeypatch.setattr("studies.models.product.CHECKED", 2)
    monkeypatch.setattr(Product, "_write", lambda self, model, state, *_: {"model": model, "state": state})
    there, here = (
        Product(recipe, short_corpus(), tmp_path / name, place)
        for name, place in (("there", elsewhere), ("here", torch.device("cpu")))
    )
    first, second = (product.make(points=1, items=0) for product in (there, here))
    assert set(_cast) == {("lazy", torch.bfloat16, mixed), ("cpu", torch.bfloat16, mixed)}
    assert (place_of(first["model"]).type, place_of(second["model"]).type) == ("lazy", "cpu")
    assert first["state"].curve[-1].heldout == pytest.approx(second["state"].curve[-1].heldout, rel=1e-3)
    assert here.key != there.key  # a state is not continued on another device
    with pytest.raises(RunError, match="another recipe, text, device"):
        load_state(tmp_path / "there", here.key)
    found = load_state(tmp_path / "there", there.key)
    assert found is not None
    for name, parameter in second["model"].named_parameters():
        if parameter.ndim == 2:  # biases begin at 0, where Adam's first steps turn roundings into signs
            assert (found[1][name] - parameter).norm() < 0.1 * parameter.norm()


def test_the_processors_key_is_what_it_was(tmp_path: Path) -> None:
    """Finished models and states of earlier versions are found by it."""
    import hashlib
    from importlib.metadata import version

    product = Product(SHORT["llama"], short_corpus(), tmp_path)
    parts = [SHORT["llama"].digest, "short", str(torch.__version__), version("transformers")]
    assert product.key == hashlib.sha256("\n".join(parts).encode()).hexdigest()
    fields = {
        "family",
        "vocab_size",
        "layers",
        "hidden",
        "intermediate",
        "heads",
        "kv_heads",
        "length",
        "batch",
        "steps",
        "warmup",
        "matrix_rate",
        "rate",
        "weight_decay",
        "clip",
        "masked_share",
        "max_bytes",
        "seed",
        "threads",
    }
    assert set(RECIPES["llama"].to_json()) == fields  # one more, or less, and the digest of every recipe changes


@pytest.mark.parametrize("family", FAMILIES)
def test_choices_are_scored_where_the_model_is(family: str, elsewhere: torch.device, tmp_path: Path) -> None:
    product = Product(SHORT[family], short_corpus(), tmp_path)
    *_, items = product.tasks(2).values()  # of one text, which has places enough
    assert len(items) == 2
    model = build_model(product.recipe, product.tokenizer).eval()
    here = chosen(model, product.tokenizer, items)
    assert chosen(model.to(elsewhere), product.tokenizer, items) == here
    assert place_of(model).type == "lazy"


def test_cuda_is_refused_or_made_repeatable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(InputError, match=r"no CUDA device: got 'cuda'; use --device cpu"):
        open_place("cuda")
    assert open_place("auto").type == open_place("cpu").type == "cpu"
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    assert open_place("cpu").type == "cpu"
    assert "CUBLAS_WORKSPACE_CONFIG" not in os.environ
    assert open_place("auto").type == open_place("cuda").type == "cuda"
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":16:8")
    open_place("cuda")
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":16:8"  # the user's
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG")


@pytest.mark.parametrize("family", FAMILIES)
def test_large_recipes_are_larger_and_train(family: str, tmp_path: Path) -> None:
    large, small = LARGE[family].check(), RECIPES[family]
    assert SIZES == {"small": RECIPES, "large": LARGE}
    assert (large.layers, large.hidden) == (16, 768)
    assert large.family == small.family
    assert large.matrix_rate < small.matrix_rate
    assert large.hidden // large.heads == 64  # a size that attention kernels of GPUs know
    reduced = replace(
        large, vocab_size=384, layers=2, hidden=48, intermediate=64, length=32, batch=2, steps=4, warmup=1, threads=1
    )
    record = made(reduced, tmp_path)
    assert record["recipe"]["heads"] == 12
    assert record["curve"]
