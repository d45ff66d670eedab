"""A Llama and a BERT trained in a few seconds, with tokenizer, texts and tasks: for tests that need weights which mean
something. Each is trained once, also where several workers run the tests."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path

from made_once import copied, made_once

from studies.models.corpus import Corpus, read_corpus
from studies.models.product import Product
from studies.models.recipe import Family, Recipe

LLAMA = Recipe(
    family=Family.LLAMA,
    vocab_size=384,
    layers=3,
    hidden=64,
    intermediate=96,
    heads=4,
    kv_heads=2,
    length=64,
    batch=8,
    steps=80,
    warmup=6,
    rate=2e-2,
    matrix_rate=1e-2,
    max_bytes=1_000_000,
    threads=1,
    mixed=False,
)
BERT = Recipe(
    family=Family.BERT,
    vocab_size=384,
    layers=3,
    hidden=64,
    intermediate=96,
    heads=4,
    kv_heads=4,
    length=64,
    batch=16,
    steps=160,
    warmup=6,
    rate=5e-3,
    matrix_rate=2e-2,
    masked_share=0.3,
    max_bytes=1_000_000,
    threads=1,
    mixed=False,
)


@dataclass(frozen=True, kw_only=True)
class Trained:
    """A checkpoint and what to measure it on.

    Attributes:
        model: folder with config.json, model.safetensors and a tokenizer.
        text: held-out text.
        calibration: text of the training part.
        tasks: JSON lines of multiple-choice items by task; see `studies.models.continuations` and `cloze`.
    """

    model: Path
    text: Path
    calibration: Path
    tasks: dict[str, Path]


def trained_llama(folder: Path | None = None) -> Trained:
    """A causal model; in `folder`, if given, a copy of its own that a test may spoil."""
    return _trained(LLAMA, folder)


def trained_bert(folder: Path | None = None) -> Trained:
    """A masked model; in `folder`, if given, a copy of its own that a test may spoil."""
    return _trained(BERT, folder)


@functools.cache
def small_corpus() -> Corpus:
    return read_corpus(max_bytes=LLAMA.max_bytes)


def _trained(recipe: Recipe, folder: Path | None) -> Trained:
    made = made_once(recipe.family, repr(recipe), lambda part: _make(recipe, part))
    if folder is not None:
        made = copied(made, folder)
    tasks = {path.stem: path for path in sorted((made / "tasks").glob("*.jsonl"))}
    return Trained(model=made, text=made / "heldout.txt", calibration=made / "calibration.txt", tasks=tasks)


def _make(recipe: Recipe, folder: Path) -> None:
    Product(recipe, small_corpus(), folder).make(baseline=False, items=60, points=4)
