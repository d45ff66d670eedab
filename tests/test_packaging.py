"""The wheel carries its data, and the commands find it there, far from any checkout."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """The wheel of the tree, built without a network."""
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    build = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert build.returncode == 0, build.stdout + build.stderr
    (path,) = folder.glob("costmodel-*-py3-none-any.whl")
    return zipfile.ZipFile(path)


@pytest.fixture(scope="module")
def installed(wheel: zipfile.ZipFile, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that holds what the wheel installs."""
    folder = tmp_path_factory.mktemp("site")
    wheel.extractall(folder)
    return folder


def python(installed: Path, cwd: Path, *arguments: str) -> str:
    """Standard output of python that has the unpacked wheel first on its path, and not the current folder."""
    environment = {**os.environ, "PYTHONPATH": str(installed), "PYTHONSAFEPATH": "1"}
    command = [sys.executable, "-P", *arguments]
    run = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
    return run.stdout


@pytest.mark.parametrize(
    ("folder", "suffix"),
    [("hw_profiles", ".toml"), ("hw_profiles/calibrations", ".json"), ("costmodel/families/configs", ".json")],
)
def test_wheel_carries_data(wheel: zipfile.ZipFile, folder: str, suffix: str) -> None:
    """`hw_profiles` lies at the top of the tree and ships inside `costmodel`."""
    inside = folder if folder.startswith("costmodel") else f"costmodel/{folder}"
    expected = {f"{inside}/{path.name}" for path in (ROOT / folder).glob(f"*{suffix}")}
    assert expected
    assert expected <= set(wheel.namelist())


def test_wheel_carries_nothing_else(wheel: zipfile.ZipFile) -> None:
    top = {name.partition("/")[0] for name in wheel.namelist()}
    version = wheel.filename.rpartition("/")[2].split("-")[1] if wheel.filename else ""
    assert top <= {"costmodel", "validate", f"costmodel-{version}.dist-info"}
    assert not [name for name in wheel.namelist() if "__pycache__" in name or name.endswith(".pyc")]


def test_wheel_declares_its_commands(wheel: zipfile.ZipFile) -> None:
    (entry_points,) = [name for name in wheel.namelist() if name.endswith("entry_points.txt")]
    assert "costmodel = costmodel.__main__:main" in wheel.read(entry_points).decode()


def test_data_is_read_from_the_wheel(installed: Path, tmp_path: Path) -> None:
    code = (
        "import costmodel; from costmodel.hardware.profile import profile_folder\n"
        "print(costmodel.__file__, profile_folder(), sep='\\n')"
    )
    for line in python(installed, tmp_path, "-c", code).splitlines()[:2]:
        assert Path(line).is_relative_to(installed)


@pytest.mark.parametrize(("group", "expected"), [("hw", "a100-sxm-80gb"), ("models", "llama2-7b")])
def test_lists_work_from_the_wheel(installed: Path, tmp_path: Path, group: str, expected: str) -> None:
    assert expected in python(installed, tmp_path, "-m", "costmodel", group, "list", "--format", "json")


CONFIGOBJ = {
    "configobj/__init__.py": "",
    "configobj/validate.py": '__all__ = ("Validator", "is_text")\nclass Validator: ...\ndef is_text(value): ...\n',
    "validate/__init__.py": "from configobj.validate import *\n",
}
"""The layout of configobj 5.0.9, whose names live on in a package that is called as ours."""


@pytest.mark.parametrize("order", ["ours first", "theirs first"])
def test_lives_beside_configobj(wheel: zipfile.ZipFile, tmp_path: Path, order: str) -> None:
    """Both write `validate/__init__.py`: whichever came last, our commands work and their class is found."""
    site = tmp_path / "site"
    for who in order.split()[0], "theirs" if order.startswith("ours") else "ours":
        if who == "ours":
            wheel.extractall(site)
            continue
        for name, text in CONFIGOBJ.items():
            (site / name).parent.mkdir(parents=True, exist_ok=True)
            (site / name).write_text(text)
    assert "--samples" in python(site, tmp_path, "-m", "validate", "--help")
    code = "from validate import Validator; from validate.errors import RunError; print(Validator.__module__)"
    assert python(site, tmp_path, "-c", code).strip() == "configobj.validate"
    assert python(site, tmp_path, "-c", "from validate import *; print(is_text.__module__)").strip()


def test_alone_has_no_names_of_configobj(monkeypatch: pytest.MonkeyPatch) -> None:
    import validate

    monkeypatch.setitem(sys.modules, "configobj", None)
    monkeypatch.setitem(sys.modules, "configobj.validate", None)
    with pytest.raises(AttributeError, match="no attribute 'Validator'"):
        validate.Validator  # noqa: B018 - reading the attribute is the test
