"""The calibration of a run is of the profile that its records name: the folder's own, or a built-in one."""

from __future__ import annotations

from pathlib import Path

import pytest
from validating import sample

from costmodel.errors import HardwareError
from costmodel.hardware.profile import load_hardware, profile_folder
from validate.calibration.whole.run_folder import fit_folder, profile_of
from validate.errors import FitError
from validate.store.journal import PROFILE


def test_the_folders_own_profile_is_taken_where_the_records_name_it(tmp_path: Path) -> None:
    named = [sample(["rank=3"], 0.8)]
    assert named[0].hardware == "epyc-9654"
    assert profile_of(tmp_path, named) == load_hardware("epyc-9654")
    text = (profile_folder() / "epyc-9654.toml").read_text()
    (tmp_path / PROFILE).write_text(text.replace('"epyc-9654"', '"mine"'))
    assert profile_of(tmp_path, named) == load_hardware("epyc-9654")  # not named in the records
    own = profile_of(tmp_path, [sample(["rank=3"], 0.8, hardware="mine")])
    assert own == load_hardware(str(tmp_path / PROFILE))
    assert own.name == "mine"


def test_without_records_or_a_profile_of_their_name_there_is_none(tmp_path: Path) -> None:
    with pytest.raises(FitError, match="no samples; allowed: at least"):
        profile_of(tmp_path, [])
    with pytest.raises(HardwareError, match="nowhere"):
        profile_of(tmp_path, [sample(["rank=3"], 0.8, hardware="nowhere")])


@pytest.mark.parametrize(
    ("hardware", "why"), [("nowhere", "unknown hardware: got 'nowhere'"), ("epyc-9654", "usable samples")]
)
def test_why_a_run_has_no_calibration_is_one_line(hardware: str, why: str, tmp_path: Path) -> None:
    fit, line = fit_folder(tmp_path, [sample(["rank=3"], 0.8, hardware=hardware)])
    assert fit is None
    assert line.startswith("no calibration.json: ")
    assert why in line
    assert "\n" not in line
