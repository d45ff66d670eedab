"""`--hw auto`: this machine's profile where one was probed, else how to make one."""

from __future__ import annotations

from pathlib import Path

import pytest

from costmodel.errors import HardwareError
from costmodel.hardware.here import CORRECTIONS, FILE, TURNS, VARIABLE
from costmodel.hardware.profile import load_hardware, profile_folder
from costmodel.pricing.setup import WorkloadSettings


@pytest.fixture(name="folder")
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(VARIABLE, raising=False)
    return tmp_path


def probed(folder: Path, name: str = "my-machine") -> Path:
    """A folder as `validate probe` leaves it, of a device of another name than any that ships."""
    folder.mkdir(exist_ok=True)
    for source, target in (("amd-epyc-2t.toml", FILE), ("calibrations/amd-epyc-2t.json", CORRECTIONS)):
        text = (profile_folder() / source).read_text(encoding="utf-8")
        (folder / target).write_text(text.replace('"amd-epyc-2t"', f'"{name}"'), encoding="utf-8")
    return folder / FILE


def test_a_machine_that_was_not_probed_is_told_how(folder: Path) -> None:
    assert folder.is_dir()
    with pytest.raises(HardwareError, match="validate probe --out"):
        load_hardware("auto")


def test_the_profile_is_found_here_below_or_by_the_environment(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    probed(folder / "device", "below")
    assert load_hardware("auto").name == "below"
    probed(folder, "here")
    assert load_hardware("auto").name == "here"
    path = probed(folder / "other", "named")
    monkeypatch.setenv(VARIABLE, str(path))
    assert load_hardware("auto").name == "named"


def test_the_calibration_beside_it_is_its_own(folder: Path) -> None:
    probed(folder / "device")
    setup = WorkloadSettings(model="gpt2", hw="auto", phase="decode", dtype="fp32").setup()
    assert setup.calibration is not None
    assert setup.calibration.level == "samples"
    other = WorkloadSettings(model="gpt2", hw="l4", phase="decode").setup()
    assert other.calibration is not None
    assert other.calibration.hardware == "l4"


@pytest.mark.parametrize("place", [".", "my device"])
def test_a_probe_that_was_not_finished_is_no_profile_and_is_told_how_to_finish(folder: Path, place: str) -> None:
    path = probed(folder / place, "stopped")
    (path.parent / CORRECTIONS).unlink()
    assert load_hardware("auto").name == "stopped"  # a profile of one's own
    (path.parent / TURNS).write_text("")
    with pytest.raises(HardwareError, match=r"is not finished: .*validate probe --out .* --resume"):
        load_hardware("auto")
    probed(folder / "done", "done")
    assert load_hardware("auto").name == "done"
