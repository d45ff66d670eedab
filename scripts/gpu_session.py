"""Everything worth measuring on a CUDA machine, in calls of under ten minutes that continue where the last one ended.

    python scripts/gpu_session.py --out gpu-results            # call it again until it says "all done"
    python scripts/gpu_session.py --out gpu-results --list     # what there is to do, and what is done

Needs a CUDA build of torch and this project installed with its extra `validate`; nvidia-ml-py adds clocks and energy.
Each stage is a `validate` run in a folder of its own, resumable by itself; the folders (JSON lines, a page) are small
enough to commit. A stage that fails is reported, and the next one goes on.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SLACK_S = 40
"""Kept free at the end of a call for a sample under way and its report."""


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One command.

    Attributes:
        name: of its folder.
        samples: records that make it whole; None for other commands.
        product: the file that a resumable command writes when it is whole; None for a command that is run once.
        arguments: of `validate`, or of python for a command that is run once.
    """

    name: str
    samples: int | None = None
    product: str | None = None
    arguments: tuple[str, ...]


def sampled(name: str, samples: int, model: str, *more: str) -> Stage:
    options = ("--model", model, "--samples", str(samples), "--device", "cuda", "--budget", "4", "--precision", "1")
    return Stage(name=name, samples=samples, arguments=(*options, *more))


def probe(name: str, product: str, *more: str) -> Stage:
    return Stage(name=name, product=product, arguments=("probe", "--device", "cuda", *more))


STAGES = (
    Stage(name="tests", arguments=("-m", "pytest", "-q", "-m", "gpu", "-p", "no:cacheprovider", "tests")),
    sampled("llama2-7b", 80, "llama2-7b"),
    probe("ranks", "ranks.svg", "--plan", "ranks"),
    probe("probe", "calibration.json", "--points", "1500"),
    Stage(
        name="honesty",
        arguments=(
            "benchmarks/timing_honesty.py",
            "--device",
            "cuda",
            "--repeats",
            "50",
            "--out",
            "{out}/honesty.json",
        ),
    ),
    sampled("llama3-8b", 24, "llama3-8b"),
    sampled("bert-large", 20, "bert-large"),
    sampled("gpt2-xl", 20, "gpt2-xl"),
    sampled("tinyllama-1.1b", 24, "tinyllama-1.1b"),
)


def records(folder: Path) -> int:
    """Whole lines of the stage's records."""
    file = folder / "samples.jsonl"
    return file.read_bytes().count(b"\n") if file.exists() else 0


def is_done(stage: Stage, folder: Path) -> bool:
    """Whether nothing is left to do."""
    if stage.samples is not None:
        return records(folder) >= stage.samples
    return (folder / (stage.product or "done.json")).exists()


def run(stage: Stage, folder: Path, seconds: float) -> int:
    """Do as much of a stage as fits; its exit code, 124 when time ran out."""
    folder.mkdir(parents=True, exist_ok=True)
    once = stage.samples is None and stage.product is None
    if once:
        command = [sys.executable, *(part.format(out=folder) for part in stage.arguments)]
    else:
        limits = ["--stop-after", str(max(1, int(seconds))), "--out", str(folder), "--resume"]
        command = [sys.executable, "-m", "validate", *stage.arguments, *limits]
    started = time.monotonic()
    try:
        code = subprocess.run(command, cwd=ROOT, timeout=seconds + SLACK_S, check=False).returncode
    except subprocess.TimeoutExpired:
        return 124
    if once:
        result = {"code": code, "seconds": round(time.monotonic() - started, 1), "command": stage.arguments}
        (folder / "done.json").write_text(json.dumps(result) + "\n")
    return code


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--out", type=Path, required=True, help="where results go; give the same folder to continue")
    parser.add_argument("--minutes", type=float, default=9.0, help="device time of this call (default 9)")
    parser.add_argument("--only", action="append", help="do this stage only; repeatable")
    parser.add_argument("--list", action="store_true", help="say what is done, and stop")
    options = parser.parse_args()
    out, end = options.out.resolve(), time.monotonic() + 60 * options.minutes
    stages = [stage for stage in STAGES if not options.only or stage.name in options.only]
    failed = []
    for stage in stages:
        folder = out / stage.name
        if options.list or is_done(stage, folder):
            whole = "done" if is_done(stage, folder) else "to do"
            count = "" if stage.samples is None else f", {records(folder)} of {stage.samples} samples"
            print(f"{stage.name}: {whole}{count}")
            continue
        left = end - time.monotonic() - SLACK_S
        if left < SLACK_S:
            break
        print(f"{stage.name}: up to {left:.0f} s", flush=True)
        code = run(stage, folder, left)
        if code not in (0, 124):
            failed.append(f"{stage.name} (exit code {code})")
    waiting = [stage.name for stage in stages if not is_done(stage, out / stage.name)]
    print(f"left to do: {', '.join(waiting)}" if waiting else "all done")
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
