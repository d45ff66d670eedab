"""What the training script leaves alone, refuses and trains anew, and the intervals of what it reports."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from test_training import SHORT, Stop, made, short_corpus, stop_after

from costmodel.cli import run
from costmodel.errors import InputError
from studies.models import train as train_script
from studies.models.batches import IGNORED, Masker
from studies.models.corpus import Corpus
from studies.models.product import Product
from studies.models.record import NAME, read_record
from studies.models.scores import accuracy, mean_loss, weights_digest
from studies.models.sizes import SIZES
from studies.models.state import NAME as STATE
from validate.errors import RunError

pytestmark = pytest.mark.slow


@pytest.fixture
def train(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """The script on a tiny Llama: arguments to exit code, output and errors."""
    monkeypatch.setitem(SIZES["small"], "llama", SHORT["llama"])
    monkeypatch.setattr("studies.models.corpus.read_corpus", _read)
    plain = Product.make
    monkeypatch.setattr(Product, "make", lambda self, **options: plain(self, **{"items": 4, **options}))

    def start(*arguments: str) -> tuple[int, str, str]:
        code = run(train_script.command, ["--out", str(tmp_path), "--only", "llama", "--device", "cpu", *arguments])
        return code, *capsys.readouterr()

    return start


def _read(root: Path | None, *, max_bytes: int | None) -> Corpus:
    assert root is None
    assert max_bytes in (SHORT["llama"].max_bytes, SIZES["large"]["llama"].max_bytes)  # what the recipe says
    return short_corpus()


def stop(_: object) -> str:
    raise Stop


def weights_of(folder: Path) -> str:
    from validate.models.pretrained import open_pretrained

    return weights_digest(open_pretrained(str(folder)).model)


def test_a_finished_model_is_left_alone_or_refused(train: Any, tmp_path: Path) -> None:
    code, out, _ = train()
    record = read_record(tmp_path / "llama")
    assert code == 0
    assert record is not None
    assert "nats per token" in out
    low, high = record["heldout"]["interval"]
    assert f"[{low:.3f}, {high:.3f}] nats per token" in out
    assert low < record["heldout"]["nats_per_token"] < high
    low, high = record["tasks"]["continuation_same_file"]["interval"]
    assert 0 <= low <= record["tasks"]["continuation_same_file"]["accuracy"] <= high <= 1
    assert record["machine"]["device"] == "cpu"
    code, out, errors = train()
    assert (code, errors) == (0, "")
    assert "trained before, left as it is" in out
    for arguments, said in (
        (("--seed", "1"), "got 'seed 0'; allowed: seed 1"),
        (("--steps", "6"), "steps 8"),
        (("--size", "large"), "layers 1"),
    ):
        code, out, errors = train(*arguments)
        assert (code, out) == (2, "")
        assert errors.startswith(f"error: {tmp_path / 'llama'} holds a model of another recipe")
        assert said in errors
        assert "--again to replace it" in errors
        assert errors.count("\n") == 1
    assert read_record(tmp_path / "llama") == record


def test_another_text_is_refused(train: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    assert train()[0] == 0
    other = replace(short_corpus(), digest="other")
    monkeypatch.setattr("studies.models.corpus.read_corpus", lambda *_, **__: other)
    code, _, errors = train()
    assert code == 2
    assert "got 'another text'" in errors


def test_an_old_record_is_read_and_a_damaged_one_named(train: Any, tmp_path: Path) -> None:
    """Records of earlier versions lack intervals, the device, and fields of the recipe that came later."""
    assert train()[0] == 0
    path = tmp_path / "llama" / NAME
    record = json.loads(path.read_text())
    del record["heldout"]["interval"], record["machine"]["device"], record["recipe"]["masked_share"]
    path.write_text(json.dumps(record))
    assert train()[0] == 0
    path.write_text("{}")
    code, _, errors = train()
    assert code == 1
    assert errors.startswith(f"error: cannot read record: got '{path}'")


def test_a_killed_retraining_is_no_finished_model(train: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever `--again --seed 1` stops, the folder never says that another seed's weights are there, and the same
    command without --again goes on."""
    monkeypatch.setattr("studies.models.loop.SAVE_S", 0.0)
    folder = tmp_path / "llama"
    assert train()[0] == 0
    first = weights_of(folder)
    other = replace(SHORT["llama"], seed=1)
    with pytest.raises(Stop):
        made(other, folder, watch=stop_after(3))
    assert read_record(folder) is None
    assert train()[0] == 1  # the state is seed 1's
    with monkeypatch.context() as patch:
        patch.setattr("studies.models.product.weights_digest", stop)  # between weights and record
        with pytest.raises(Stop):
            made(other, folder)
    assert weights_of(folder) != first
    assert read_record(folder) is None
    assert (folder / STATE).exists()
    code, out, _ = train("--seed", "1")
    assert code == 0
    record = read_record(folder)
    assert record is not None
    assert record["recipe"]["seed"] == 1
    assert record["weights_sha256"] == weights_of(folder) != first
    assert record["weights_sha256"] in out


def test_a_state_of_another_recipe_costs_no_finished_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record = made(SHORT["llama"], tmp_path)
    monkeypatch.setattr("studies.models.loop.SAVE_S", 0.0)
    with pytest.raises(Stop):
        made(replace(SHORT["llama"], seed=1), tmp_path / "other", watch=stop_after(2))
    (tmp_path / "other" / STATE).rename(tmp_path / STATE)
    for seed, said in ((2, "belongs to another recipe"), (0, "belongs to another recipe")):
        with pytest.raises(RunError, match=said):
            made(replace(SHORT["llama"], seed=seed), tmp_path)
    (tmp_path / STATE).write_bytes(b"damaged")
    with pytest.raises(RunError, match="delete it"):
        made(SHORT["llama"], tmp_path)
    assert read_record(tmp_path) == record


def test_a_text_beyond_the_recipe_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"text longer than the recipe's max_bytes: got \d+; allowed: up to 1000"):
        made(replace(SHORT["llama"], max_bytes=1000), tmp_path)


def test_interval_of_held_out_loss_is_over_blocks() -> None:
    source = np.random.default_rng(0)
    blocks = source.normal(3, 0.5, (40, 1)) + source.normal(0, 1, (40, 63))  # tokens of a block are alike
    found = mean_loss(torch.tensor(blocks), torch.full((40,), 63))
    assert found.value == pytest.approx(blocks.mean())
    assert found.low is not None
    assert found.high is not None
    width = 1.96 * blocks.mean(axis=1).std(ddof=1) / np.sqrt(40)
    assert (found.high - found.low) / 2 == pytest.approx(width, rel=0.25)  # over tokens it would be a third of that
    masker = Masker(first=2, last=3, mask=4, vocab_size=100, share=0.15)
    targets = masker.evaluate(torch.full((30, 62), 7), seed=0)[1]
    counts = (targets != IGNORED).sum(1)
    assert len(set(counts.tolist())) > 3  # unlike numbers of predictions
    found = mean_loss(torch.ones(int(counts.sum())), torch.cat([counts, torch.zeros(1, dtype=torch.int64)]))
    assert (found.value, found.low) == (1.0, None)  # blocks that are all alike


def test_accuracy_has_wilsons_interval() -> None:
    items = [{"answer": 0}] * 50
    found = accuracy([0] * 20 + [1] * 30, items)
    assert found.value == 0.4
    assert found.low == pytest.approx(0.276, abs=1e-3)
    assert found.high == pytest.approx(0.538, abs=1e-3)
