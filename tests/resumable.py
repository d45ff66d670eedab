"""Every command that can be resumed, as small as it gets, and what a resumed run has in common with others."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import killing
from quality_cases import OTHER_TEXT, TEXT, checkpoint
from safetensors.numpy import load_file

from validate.probes.records import OPS
from validate.quality.records import QUALITY
from validate.speed.records import read_samples

Argv = Callable[[Path, Path], list[str]]


@dataclass(frozen=True, kw_only=True)
class Command:
    """A command that can be resumed.

    Attributes:
        make: from a folder with inputs and the place for results to the arguments of `validate`.
        read: from that place to what an undisturbed run and a resumed one have in common.
        again: added to the arguments when the run is continued.
        prepare: called in the process before the command.
    """

    make: Argv
    read: Callable[[Path], Any]
    again: tuple[str, ...] = ("--resume",)
    prepare: Callable[[], None] | None = None


def samples(given: Path, out: Path) -> list[str]:
    words = "--samples 6 --phase prefill --batch 1 --seq-len 8 --budget 0.1 --precision 50 --threads 1 --device cpu"
    return ["--model", str(given / "model"), "--hw", "epyc-9654", "--out", str(out), *words.split()]


def read_times(out: Path) -> Any:
    assert (out / "report.html").exists()
    records = read_samples(out)
    return [(record.id, record.status, record.config, record.workload) for record in sorted(records, key=_id)]


def _id(record: Any) -> str:
    return str(record.id)


def probe(given: Path, out: Path) -> list[str]:
    words = "probe --plan ranks --passes 1 --threads 1 --device cpu --hw amd-epyc-2t"
    return [*words.split(), "--out", str(out)]


def read_turns(out: Path) -> Any:
    turns = [(record.id, record.shape, record.times_ns) for record in sorted(OPS.read(out), key=_id)]
    return turns, (out / "ranks.csv").read_bytes()


def sensitivity(given: Path, out: Path) -> list[str]:
    words = "sensitivity --blocks 4 --length 32 --fisher --device cpu"
    return [*words.split(), "--model", str(given / "model"), "--text", str(given / "text.txt"), "--out", str(out)]


def read_spectra(out: Path) -> Any:
    return {name: array.tobytes() for name, array in load_file(out).items()}


def quality(given: Path, out: Path) -> list[str]:
    words = "quality --samples 12 --blocks 4 --length 32 --threads 1 --device cpu --factors whitened"
    texts = ["--text", str(given / "text.txt"), "--calibration-text", str(given / "other.txt")]
    return [*words.split(), *texts, "--model", str(given / "model"), "--out", str(out)]


def read_quality(out: Path) -> Any:
    return [
        (record.id, record.status, record.config, record.text, record.params)
        for record in sorted(QUALITY.read(out), key=_id)
    ]


def apply(given: Path, out: Path) -> list[str]:
    words = "apply --factors whitened --blocks 4 --length 32 --device cpu --max-shard-size 100KB --decompose rank=20%"
    text = ["--calibration-text", str(given / "other.txt")]
    return [*words.split(), *text, "--model", str(given / "model"), "--out", str(out)]


def read_folder(out: Path) -> Any:
    assert not (out.parent / f".{out.name}.partial").exists()
    return {path.name: path.read_bytes() for path in out.iterdir()}


def choose(given: Path, out: Path) -> list[str]:
    texts = ["--text", str(given / "text.txt"), "--calibration-text", str(given / "other.txt")]
    return [
        *("choose", "--small", "--hw", "epyc-9654", "--threads", "1", *texts),
        *("--model", str(given / "model"), "--out", str(out)),
    ]


def read_choice(out: Path) -> Any:
    """Latencies are measured, so what they decide may differ: all before that may not."""
    assert json.loads((out / "verdict.json").read_text())["duels"]
    assert (out / "report.html").exists()
    searched = {record.id: (record.config, record.text) for record in QUALITY.read(out / "search")}
    first = [searched[record.id] for record in QUALITY.read(out / "search")[:44]]
    fitted = json.loads((out / "quality.json").read_text())
    for name in ("records", "sensitivity"):  # paths
        del fitted["provenance"][name]
    return first, fitted, (out / "search.txt").read_bytes()


COMMANDS = {
    "samples": Command(make=samples, read=read_times),
    "probe": Command(make=probe, read=read_turns, prepare=killing.known_times),
    "sensitivity": Command(make=sensitivity, read=read_spectra, again=()),
    "quality": Command(make=quality, read=read_quality),
    "apply": Command(make=apply, read=read_folder, again=()),
    "choose": Command(make=choose, read=read_choice, again=()),
}


def make_inputs(folder: Path) -> Path:
    """A checkpoint and two texts."""
    checkpoint(folder / "model")
    (folder / "text.txt").write_text(TEXT)
    (folder / "other.txt").write_text(OTHER_TEXT)
    return folder
