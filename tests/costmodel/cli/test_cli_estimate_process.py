"""`costmodel estimate` in a process of its own: streams, terminals, names and interrupts of a real shell."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[3]
GPT2 = json.loads((ROOT / "costmodel" / "families" / "configs" / "gpt2.json").read_text())


def shell(command: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """A command line in a real shell; `costmodel` is this interpreter's."""
    program = f"{sys.executable} -m costmodel"
    return subprocess.run(
        ["bash", "-c", command.replace("costmodel", program, 1)], capture_output=True, text=True, cwd=ROOT, **options
    )


@pytest.mark.parametrize(
    "command",
    [
        "costmodel estimate --model lama2-7b --hw l4",
        "costmodel estimate --model gpt2 --hw l4 --decompose rank=0",
        "costmodel nonsense",
    ],
)
def test_in_a_process_of_its_own(command: str) -> None:
    done = shell(command)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("fmt", ["table", "json", "csv"])
@pytest.mark.parametrize(("target", "reason"), [("> /dev/full", "No space left"), (">&-", "standard output is closed")])
@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="this system has no /dev/full")
def test_unwritable_output(fmt: str, target: str, reason: str) -> None:
    done = shell(f"costmodel estimate --model gpt2 --hw l4 --format {fmt} {target}")
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    assert reason in done.stderr


@pytest.mark.parametrize("fmt", ["table", "json"])
def test_a_reader_that_leaves_early_is_no_failure(fmt: str) -> None:
    done = shell(f"set -o pipefail; costmodel estimate --model gpt2 --hw l4 --format {fmt} | head -n 1")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count("\n") == 1


def test_a_terminal_that_knows_ascii_only() -> None:
    done = shell("costmodel estimate --model gpt2 --hw l4", env={**os.environ, "PYTHONIOENCODING": "ascii"})
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.isascii()


def test_a_model_folder_whose_name_is_no_text(tmp_path: Path) -> None:
    folder = os.fsencode(tmp_path) + b"/\xff\xfe"
    os.mkdir(folder)
    Path(os.fsdecode(folder), "config.json").write_text(json.dumps(GPT2))
    for fmt in ("table", "json", "csv"):
        done = subprocess.run(
            [sys.executable, "-m", "costmodel", "estimate", "--model", folder, "--hw", "l4", "--format", fmt],
            capture_output=True,
            cwd=ROOT,
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, b"")
        shown = {"table": rb"\xff\xfe on l4", "json": rb'"model": "\\xff\\xfe"', "csv": b"\n" + rb"\xff\xfe,l4,dense"}[
            fmt
        ]
        assert shown in done.stdout


def test_ctrl_c_is_one_line() -> None:
    code = textwrap.dedent("""
        import sys
        from costmodel import cli
        import costmodel.cli.estimate as target
        def interrupted(*args, **kwargs): raise KeyboardInterrupt
        target.estimate = interrupted
        sys.exit(cli.run(cli.cli, ["estimate", "--model", "gpt2", "--hw", "l4"]))
    """)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False)
    assert (done.returncode, done.stdout, done.stderr.strip()) == (130, "", "error: interrupted")
