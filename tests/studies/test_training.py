"""Training small models: the text and its split, the n-gram baselines, and runs that agree bit for bit."""

from __future__ import annotations

import functools
import hashlib
import itertools
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from cases import few_or_all

from costmodel.errors import InputError
from studies.models.batches import IGNORED, Batches, Masker
from studies.models.cloze import cloze
from studies.models.continuations import CHOICE, CONTEXT, continuations
from studies.models.corpus import Corpus, calibration_text, read_corpus
from studies.models.neighbours import Neighbours
from studies.models.ngram import KneserNey, contexts_of
from studies.models.product import Product
from studies.models.recipe import Recipe, small
from studies.models.scores import weights_digest
from studies.models.state import NAME as STATE
from studies.models.state import State
from studies.models.vocabulary import stream, token_bytes
from tests.trained import BERT, LLAMA, small_corpus, trained_bert, trained_llama
from validate.errors import RunError
from validate.models.pretrained import open_pretrained
from validate.models.text import token_blocks
from validate.store.texts import read_text

pytestmark = pytest.mark.slow

SHORT: dict[str, Recipe] = {recipe.family: replace(small(recipe, 8), layers=1) for recipe in (LLAMA, BERT)}


@pytest.fixture(params=few_or_all(["llama"], ["bert"]))
def recipe(request: pytest.FixtureRequest) -> Recipe:
    return SHORT[request.param]


@functools.cache
def short_corpus() -> Corpus:
    corpus = small_corpus()
    train, heldout = tuple(text[:20_000] for text in corpus.train[:6]), tuple(text[:5_000] for text in corpus.heldout)
    return replace(corpus, train=train, heldout=heldout, digest="short")


def made(recipe: Recipe, folder: Path, **options: Any) -> dict[str, Any]:
    return Product(recipe, short_corpus(), folder).make(**{"baseline": False, "items": 4, **options})


class Stop(Exception):
    """Stands for an interruption."""


def stop_after(step: int) -> Any:
    def watch(state: State) -> None:
        if state.step == step:
            raise Stop

    return watch


# The text


def test_no_file_is_in_both_parts() -> None:
    corpus = read_corpus()
    parts = [{hashlib.sha256(text.encode()).digest() for text in part} for part in (corpus.train, corpus.heldout)]
    assert not parts[0] & parts[1]
    assert len(parts[0]) == len(corpus.train)  # nothing twice
    assert len(corpus.train) > 5 * len(corpus.heldout) > 0


def test_split_and_digest_follow_from_content_alone(tmp_path: Path) -> None:
    texts = [f"value = {number}\n" for number in range(60)]
    for folder, order in (("a", texts), ("b", texts[::-1])):
        (tmp_path / folder / "deep").mkdir(parents=True)
        for number, text in enumerate(order):
            (tmp_path / folder / ("deep" if number % 2 else ".") / f"{number}.py").write_text(text)
    (tmp_path / "b" / "copy.py").write_text(texts[0])
    (tmp_path / "b" / "tests").mkdir()
    (tmp_path / "b" / "tests" / "left_out.py").write_text("x = 1\n")
    (tmp_path / "b" / "latin.py").write_bytes(b"# \xe9\n")
    first, second = read_corpus(tmp_path / "a"), read_corpus(tmp_path / "b")
    assert first.train == second.train
    assert first.heldout == second.heldout
    assert first.digest == second.digest
    (tmp_path / "b" / "more.py").write_text("more = 1\n")
    assert read_corpus(tmp_path / "b").digest != first.digest


def test_a_limit_keeps_the_shares_of_the_parts(tmp_path: Path) -> None:
    for number in range(100, 400):
        (tmp_path / f"{number}.py").write_text(f"value = {number}\n")
    whole = read_corpus(tmp_path)
    line = len("value = 100\n")
    for files in (2, 12, 24, 120):
        corpus = read_corpus(tmp_path, max_bytes=files * line)
        assert len(corpus.heldout) == max(1, files // 12)  # whatever the hashes are
        assert len(corpus.train) == max(1, files * 11 // 12)
        assert corpus.train == whole.train[: len(corpus.train)]  # the first of the whole
        assert corpus.heldout == whole.heldout[: len(corpus.heldout)]


def test_calibration_text_comes_from_training_files() -> None:
    corpus = small_corpus()
    text = calibration_text(corpus.train, pieces=5, characters=400)
    lines = {line for source in corpus.train[:5] for line in source.splitlines()}
    assert set(text.splitlines()) <= {*lines, ""}
    assert 1000 < len(text) < 5 * 401


@pytest.mark.parametrize("make", [trained_llama, trained_bert])
def test_saved_tokenizer_gives_text_back(make: Any) -> None:
    tokenizer = open_pretrained(str(make().model)).tokenizer
    text = "def f(x):\n    return x  # Größe \U0001f40d\n\n\n"
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    assert tokenizer.decode(ids) == text
    assert int(token_bytes(tokenizer)[ids].sum()) == len(text.encode())
    assert len(ids) < len(text)  # it merged something
    if tokenizer.mask_token:
        assert tokenizer("a")["input_ids"][0] == tokenizer.cls_token_id
        assert tokenizer("a[MASK]b")["input_ids"].count(tokenizer.mask_token_id) == 1
    assert stream(tokenizer, ["a", "b"]).tolist()[1] in (tokenizer.eos_token_id, tokenizer.sep_token_id)


def test_an_epoch_holds_each_block_once_and_epochs_differ() -> None:
    batches = Batches(tokens=torch.arange(1000), length=10, batch=3, seed=1)
    epoch = torch.cat([batches.at(step) for step in range(batches.steps_of_epoch)])
    assert epoch.shape == (99, 10)
    assert len(set(epoch.flatten().tolist())) == epoch.numel()
    assert torch.equal(batches.at(5), batches.at(5))
    assert not torch.equal(batches.at(0), batches.at(batches.steps_of_epoch))


def test_masks_ask_for_the_share_and_show_no_target_when_evaluating() -> None:
    masker = Masker(first=2, last=3, mask=4, vocab_size=100, share=0.4)
    blocks = torch.randint(5, 100, (200, 62), generator=torch.Generator().manual_seed(0))
    inputs, targets = masker.evaluate(blocks, seed=0)
    asked = targets != IGNORED
    assert asked.float().mean() == pytest.approx(0.15 * 62 / 64, abs=0.01)
    assert (inputs[asked] == 4).all()
    assert torch.equal(torch.where(asked, targets, inputs)[:, 1:-1], blocks)
    inputs, targets = masker.train(blocks, seed=0, step=7)
    asked = targets != IGNORED
    assert asked.float().mean() == pytest.approx(0.4 * 62 / 64, abs=0.01)
    assert (inputs[asked] == 4).float().mean() == pytest.approx(0.8, abs=0.03)
    assert (inputs[asked] == targets[asked]).float().mean() == pytest.approx(0.1, abs=0.03)
    assert torch.equal(inputs[~asked], masker.wrap(blocks)[~asked])


# Baselines


@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_kneser_ney_sums_to_one_after_every_context(order: int) -> None:
    tokens = np.random.default_rng(0).zipf(1.5, 3000) % 11
    model = KneserNey(tokens, order, 13)
    contexts = np.array(list(itertools.product(range(14), repeat=order - 1)), dtype=np.int64)
    contexts = contexts.reshape(14 ** (order - 1), order - 1)
    chances = model.distribution(contexts[:400])
    assert (chances > 0).all()  # also of tokens 11 and 12, which never came
    np.testing.assert_allclose(chances.sum(axis=1), 1, rtol=1e-12)


def test_kneser_ney_by_hand() -> None:
    # bigrams ab ba ac ca ab: counts ab 2, ba 1, ac 1, ca 1; one count of 1 three times, of 2 once
    model = KneserNey(np.array([0, 1, 0, 2, 0, 1]), 2, 3)
    share = 3 / (3 + 2 * 1)
    d1, d2 = 1 - 2 * share * 1 / 3, 2 - 3 * share * 1 / 1
    # unigrams by predecessors: a after b and c (2), b after a (1), c after a (1)
    share_low = 2 / (2 + 2 * 1)
    low1, low2 = 1 - 2 * share_low * 1 / 2, 2 - 3 * share_low * 1 / 1
    rest = (low2 + 2 * low1) / 4
    unigram = np.array([(2 - low2) / 4, (1 - low1) / 4, (1 - low1) / 4]) + rest / 3
    after_a = np.array([0, 2 - d2, 1 - d1]) / 3 + (d1 + d2) / 3 * unigram
    np.testing.assert_allclose(model.distribution(np.array([[0], [3]])), [after_a, unigram], rtol=1e-12)


def test_a_longer_context_predicts_a_pattern() -> None:
    tokens = np.tile([0, 1, 0, 2], 200)
    rows = tokens[:40].reshape(1, -1)
    losses = {}
    for order in (1, 2, 3):
        contexts = contexts_of(rows, order, 3)[0, 4:]
        losses[order] = KneserNey(tokens, order, 3).losses(contexts, rows[:, 4:].ravel()).mean()
    assert losses[3] < 0.05 < losses[2] < losses[1]


def test_neighbours_use_both_sides_and_sum_to_one() -> None:
    source = np.random.default_rng(0)
    left, right = source.integers(0, 4, (2, 2000))
    tokens = np.stack([left, 4 + (left + right) % 4, 8 + right], axis=1).ravel()  # the middle needs both sides
    model = Neighbours(tokens, 12)
    sides = np.array([[12, 0], [12, 3], [12, 12]]), np.array([[12, 9], [12, 11], [12, 12]])
    chances = model.distribution(*sides, order=3, weight=0.8)
    np.testing.assert_allclose(chances.sum(axis=1), 1, rtol=1e-12)
    assert chances[0, 5] > 0.9
    assert chances[1, 6] > 0.9
    rows = tokens[:300].reshape(-1, 30)
    hidden, where = rows.copy(), (np.repeat(np.arange(10), 5), np.tile(np.arange(4, 19, 3), 10))
    hidden[where] = 12
    assert min(model.losses(hidden, where, rows[where]).values()) < 0.2


# Runs


def test_same_seed_same_weights(recipe: Recipe, tmp_path: Path) -> None:
    first, second = (made(recipe, tmp_path / name) for name in "ab")
    assert first["weights_sha256"] == second["weights_sha256"]
    assert first["heldout"] == second["heldout"]
    timeless = [[{k: v for k, v in p.items() if k[-2:] != "_s"} for p in r["curve"]] for r in (first, second)]
    assert timeless[0] == timeless[1]
    for name in ("model.safetensors", "tokenizer.json", "heldout.txt"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    other = made(replace(recipe, seed=1), tmp_path / "c")
    assert other["weights_sha256"] != first["weights_sha256"]


def test_interrupted_and_continued_is_the_same_run(recipe: Recipe, tmp_path: Path, monkeypatch: Any) -> None:
    whole = made(recipe, tmp_path / "whole")
    monkeypatch.setattr("studies.models.loop.SAVE_S", 0.0)
    for step in (3, 6):
        with pytest.raises(Stop):
            made(recipe, tmp_path / "parts", watch=stop_after(step))
    seen: list[int] = []
    parts = made(recipe, tmp_path / "parts", watch=lambda state: seen.append(state.step))
    assert seen == [7, 8]
    assert parts["weights_sha256"] == whole["weights_sha256"]
    assert [point["loss"] for point in parts["curve"]] == [point["loss"] for point in whole["curve"]]
    assert not (tmp_path / "parts" / STATE).exists()


def test_state_of_another_recipe_or_damaged_is_refused(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr("studies.models.loop.SAVE_S", 0.0)
    with pytest.raises(Stop):
        made(SHORT["llama"], tmp_path, watch=stop_after(2))
    with pytest.raises(RunError, match="belongs to another recipe"):
        made(replace(SHORT["llama"], seed=5), tmp_path)
    content = (tmp_path / STATE).read_bytes()
    (tmp_path / STATE).write_bytes(content[: len(content) // 2])
    with pytest.raises(RunError, match=r"cannot continue from state.*delete it"):
        made(SHORT["llama"], tmp_path)


@pytest.mark.parametrize("make", [trained_llama, trained_bert])
def test_a_few_seconds_teach_more_than_frequencies(make: Any) -> None:
    trained = make()
    record = json.loads((trained.model / "training.json").read_text())
    model = open_pretrained(str(trained.model))
    assert weights_digest(model.model) == record["weights_sha256"]
    tokens = stream(model.tokenizer, small_corpus().train).numpy()
    blocks = token_blocks(model.tokenizer, read_text(trained.text), 62).numpy()
    alone = KneserNey(tokens, 1, len(model.tokenizer)).losses(
        np.zeros((blocks.size, 0), dtype=np.int64), blocks.ravel()
    )
    assert record["heldout"]["nats_per_token"] < alone.mean() - 0.05
    assert record["curve"][-1]["heldout"] < record["curve"][0]["heldout"]
    assert record["heldout"]["bits_per_byte"] < 8


def test_record_says_what_was_done(tmp_path: Path) -> None:
    record = made(SHORT["bert"], tmp_path, baseline=True)
    assert record == json.loads((tmp_path / "training.json").read_text())
    assert record["corpus"]["digest"] == "short"
    assert record["baseline"]["nats_per_token"] == min(record["baseline"]["by_setting"].values())
    assert 0 < record["baseline"]["nats_per_token"] < 6
    assert set(record["libraries"]) >= {"torch", "tokenizers", "python"}
    assert record["seconds"]["processor"] > 0
    record = made(SHORT["llama"], tmp_path / "llama", baseline=True)
    assert record["baseline"]["nats_per_token"] == min(record["baseline"]["by_order"].values())
    heldout = record["heldout"]
    assert 1 < heldout["bits_per_byte"] / heldout["nats_per_token"] * 3 < 4  # a token is one to two bytes here


# Tasks


@pytest.mark.parametrize("same_file", [False, True])
def test_continuations_are_real_alike_in_length_and_fair(same_file: bool) -> None:
    texts = read_corpus().heldout
    items = continuations(texts, 200, same_file=same_file)
    assert len(items) == 200
    assert items == continuations(texts, 200, same_file=same_file)
    for item in items:
        assert len({len(choice) for choice in item["choices"]}) == 1 == len({CHOICE, len(item["choices"][0])})
        assert len(set(item["choices"])) == 4
        assert 0 < len(item["context"]) <= CONTEXT
        right = item["choices"].pop(item["answer"])
        home = [text for text in texts if item["context"] + right in text]
        assert home
        assert not any(item["context"] + wrong in text for wrong in item["choices"] for text in texts)
        for wrong in item["choices"]:
            assert wrong in home[0] if same_file else any(wrong in text for text in texts if text is not home[0])
    answers = [item["answer"] for item in items]
    assert min(answers.count(each) for each in range(4)) > 25


@pytest.mark.parametrize("same_text", [False, True])
def test_a_blank_is_one_token_and_so_is_each_choice(same_text: bool) -> None:
    trained = trained_bert()
    tokenizer = open_pretrained(str(trained.model)).tokenizer
    blocks = token_blocks(tokenizer, read_text(trained.text), 62)
    items = cloze(tokenizer, blocks, 40, same_text=same_text)
    assert len(items) == 40
    originals = {tuple(block.tolist()) for block in blocks}
    for item in items:
        ids = tokenizer(item["context"], add_special_tokens=False)["input_ids"]
        choices = [tokenizer(choice, add_special_tokens=False)["input_ids"] for choice in item["choices"]]
        assert all(len(choice) == 1 for choice in choices)
        assert len({choice[0] for choice in choices}) == 4
        filled = [choices[item["answer"]][0] if each == tokenizer.mask_token_id else each for each in ids]
        assert tuple(filled) in originals
        if same_text:
            assert all(choice[0] in filled for choice in choices)


# Bad input


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"heads": 3}, "recipe: heads"),
        ({"vocab_size": 100}, "recipe: vocab_size.*at least 300"),
        ({"vocab_size": 500_000}, "text too short for the vocabulary.*at most"),
        ({"warmup": 8}, "recipe: warmup"),
        ({"batch": 0}, "recipe: batch"),
        ({"batch": 100_000}, "text too short to train on.*at least"),
    ],
)
def test_impossible_recipes_are_refused_in_one_line(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message) as refused:
        made(replace(SHORT["llama"], **change), tmp_path)
    assert "\n" not in str(refused.value)


def test_too_few_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "one.py").write_text("x = 1\n")
    with pytest.raises(InputError, match="too few files to train on: 1"):
        read_corpus(tmp_path)
