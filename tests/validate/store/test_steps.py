"""What a killed run left is held to names, shapes and values before it is gone on from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from validate.errors import MeasurementError, RunError  # noqa: E402
from validate.store.new_folder import new_folder, workplace_path  # noqa: E402
from validate.store.steps import WorkFolder  # noqa: E402

SHAPES = {"hidden": (2, 3), "nll": ()}
GOOD = {"hidden": torch.ones(2, 3), "nll": torch.tensor(1.5)}


def test_what_was_saved_is_there_again(tmp_path: Path) -> None:
    with WorkFolder(tmp_path / "out", {}) as work:
        work.save("hidden", 1, GOOD)
    with WorkFolder(tmp_path / "out", {}) as work:
        assert work.steps("hidden") == [1]
        assert torch.equal(work.load("hidden", 1, SHAPES)["hidden"], GOOD["hidden"])


@pytest.mark.parametrize(
    ("odd", "said"),
    [
        ({"nll": torch.tensor(1.5)}, r"hidden is missing, where \[2, 3\] belongs"),
        ({**GOOD, "hidden": torch.ones(3, 2)}, r"hidden is of shape \[3, 2\]"),
        ({**GOOD, "hidden": torch.tensor(1.0)}, r"hidden is of shape \[\]"),
        ({**GOOD, "nll": torch.ones(1)}, r"nll is of shape \[1\]"),
        ({**GOOD, "nll": torch.tensor(float("nan"))}, "nll holds NaN or infinity"),
        ({**GOOD, "hidden": torch.full((2, 3), float("inf"))}, "hidden holds NaN or infinity"),
    ],
)
def test_tensors_that_are_not_those_of_a_step_are_refused(odd: dict[str, Any], said: str, tmp_path: Path) -> None:
    with WorkFolder(tmp_path / "out", {}) as work:
        work.save("hidden", 1, odd)
        with pytest.raises(RunError, match=f"partial results are damaged: .*{said}.*remove .* to begin again"):
            work.load("hidden", 1, SHAPES)


def stopped(out: Path, error: BaseException, *, saved: bool) -> None:
    with WorkFolder(out, {}) as work:
        if saved:
            work.save("hidden", 1, GOOD)
        raise error


def test_a_folder_without_a_finished_step_goes(tmp_path: Path) -> None:
    out, partial = tmp_path / "out", tmp_path / "out.partial"
    with pytest.raises(KeyboardInterrupt):
        stopped(out, KeyboardInterrupt(), saved=False)
    assert not partial.exists()
    with pytest.raises(KeyboardInterrupt):
        stopped(out, KeyboardInterrupt(), saved=True)
    assert (partial / "hidden-0001.safetensors").exists()
    with pytest.raises(MeasurementError):
        stopped(out, MeasurementError("non-finite", "x holds NaN or infinity"), saved=True)
    assert not partial.exists()  # the same command would meet it again


@pytest.mark.parametrize("note", [b"\xff\xfe\x00", b"", b"{}", b"null"])
def test_unfinished_work_of_an_unreadable_job_is_in_the_way(note: bytes, tmp_path: Path) -> None:
    place = workplace_path(tmp_path / "out")
    (place / "finished").mkdir(parents=True)
    (place / "job.json").write_bytes(note)
    with (
        pytest.raises(Exception, match=r"unfinished work of another .* in the way"),
        new_folder(tmp_path / "out", {"a": 1}),
    ):
        pass
    assert not (tmp_path / "out").exists()
