"""Every `costmodel` command runs where torch and its company cannot be imported."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from test_help import ALL

ROOT = Path(__file__).resolve().parents[1]
BLOCKED = ("torch", "transformers", "tensorly", "scipy", "matplotlib", "pandas", "pyarrow", "safetensors", "psutil")
RUN = f"""
import sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {BLOCKED!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Absent())
import shlex
from costmodel.cli import cli, run
for line in sys.stdin.read().splitlines():
    code = run(cli, shlex.split(line))
    assert code == 0, f"{{line}}: exit code {{code}}"
assert not set({BLOCKED!r}) & set(sys.modules)
"""
SPEC = "'layers=2,17,31 rank=1 form=tucker'"
LINES = {
    ("estimate",): [
        f"estimate --model llama2-7b --hw a100-sxm-80gb --decompose {SPEC} --new-tokens 3 --format {fmt}"
        for fmt in ("table", "json", "csv")
    ],
    ("space",): ["space --model llama2-7b", "space --model bert-base --ranks 1,8 --format json"],
    ("explore",): ["explore --model bert-base --hw l4 --ranks 1,8 --top 2 --format json"],
    ("recommend",): ["recommend --model gpt2 --hw l4 --smaller 10% --preset uniform-50 --format json"],
    ("price",): ["price shapes.csv --hw l4"],
    ("roofline",): ["roofline --model gpt2 --hw l4 -o roofline.html"],
    ("graph",): ["graph --model gpt2 --hw l4 -o graph.svg"],
    ("objectives",): ["objectives", "objectives --format json"],
    ("hw", "list"): ["hw list", "hw list --format json"],
    ("hw", "show"): ["hw show a100-sxm-80gb"],
    ("hw", "check"): ["hw check"],
    ("stacks", "list"): ["stacks list", "stacks list --format json"],
    ("stacks", "show"): ["stacks show vllm"],
    ("stacks", "check"): ["stacks check my-stack.toml"],
    ("models", "list"): ["models list", "models list --format csv"],
    ("models", "show"): ["models show llama2-7b", "models show opt-350m --format json"],
}
"""What is run of each command; a new command needs its entry."""


def test_every_command_has_its_lines() -> None:
    leaves = {words for words in ALL if not any(other[: len(words)] == words for other in ALL if other != words)}
    assert leaves <= set(LINES)


def test_every_command_runs_without_torch(tmp_path: Path) -> None:
    (tmp_path / "shapes.csv").write_text("m,n,k\n1,4096,4096\n512,4096,11008\n")
    (tmp_path / "my-stack.toml").write_text((ROOT / "hw_profiles" / "stacks" / "vllm.toml").read_text())
    words = [words for words in LINES if words in ALL]
    lines = [line for each in words for line in (*LINES[each], " ".join([*each, "--help"]))]
    done = subprocess.run(
        [sys.executable, "-c", RUN], input="\n".join(lines), capture_output=True, text=True, cwd=tmp_path, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count("Usage: ") == len(words)


def test_the_block_blocks() -> None:
    tries = "".join(f"\ntry:\n    import {name}\nexcept ImportError as error:\n    print(error)" for name in BLOCKED)
    code = RUN.replace("import shlex", tries.lstrip() + "\nimport shlex")
    done = subprocess.run([sys.executable, "-c", code], input="", capture_output=True, text=True, check=False)
    assert done.stdout.splitlines() == [f"No module named '{name}'" for name in BLOCKED]
