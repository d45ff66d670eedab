"""`validate` without a command: measure samples and report."""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from costmodel.errors import InputError
from costmodel.families.load import load_model, read_config
from costmodel.forward.workload import Attention, Phase, Runtime
from costmodel.model import ModelSpec
from costmodel.units import DType
from validate.cli.progress import RunProgress
from validate.cli.reporting import finish
from validate.cli.starting import note_repaired, pin_and_warn
from validate.plans.case import Case
from validate.plans.configs_file import configs_sha256, load_configs
from validate.plans.sampling import WorkloadChoice, given_cases, sample_cases
from validate.speed.records import SAMPLES, Sample, read_samples
from validate.store.digests import checkpoint_sha256
from validate.store.journal import Journal
from validate.store.settings import load_settings, require_same, save_settings

_CPU = {"batch": (1, 2, 4, 8), "seq_len": (16, 32, 64, 128), "kv_len": (64, 128, 256, 512), "max_tokens": 256}
_CUDA = {
    "batch": (1, 4, 16, 64),
    "seq_len": (128, 512, 1024, 2048),
    "kv_len": (128, 512, 1024, 2048),
    "max_tokens": 8192,
}
"""Levels that samples are drawn from, small enough for a pass to take well under a second."""
_REMEMBERED = (
    "samples",
    "model",
    "num_layers",
    "weights",
    "device",
    "threads",
    "hw",
    "calibration",
    "phase",
    "batch",
    "seq_len",
    "kv_len",
    "dtype",
    "runtime",
    "attention",
    "seed",
    "configs",
    "precision",
    "budget",
)


def measure(options: Mapping[str, Any], given: set[str]) -> int:
    """Run, report, and return the exit code; options not given take the resumed run's values."""
    folder = Path(options["out"])
    deadline = time.monotonic() + (options["stop_after"] or math.inf)
    settings = {name: options[name] for name in _REMEMBERED}
    earlier = load_settings(folder) if options["resume"] else None
    if earlier is not None:
        settings |= {name: value for name, value in earlier["options"].items() if name not in given}
    spec = _spec(settings)
    threads = pin_and_warn(settings["threads"], settings["device"])
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with Journal(folder, SAMPLES, resume=options["resume"]) as journal:
        note_repaired(journal)
        interrupted = _run(settings, spec, folder, journal, earlier, deadline, threads)
        samples = read_samples(folder)  # from the file: an interrupt may fall between writing and remembering
        if interrupted and not samples:
            raise click.Abort
        code = finish(folder, samples, fmt=options["fmt"], fail_above=options["fail_above"])
    if interrupted:
        raise click.Abort
    return code


def _run(
    settings: Mapping[str, Any],
    spec: ModelSpec,
    folder: Path,
    journal: Journal[Sample],
    earlier: Mapping[str, Any] | None,
    deadline: float,
    threads: int,
) -> bool:
    """Measure what has no record yet; True when interrupted."""
    try:
        with RunProgress() as progress:
            progress.status("loading torch and transformers")
            from transformers.utils import logging

            from validate.devices.hardware_match import hardware_for
            from validate.devices.opening import open_device
            from validate.speed.predictions import Predictor, calibrations_for
            from validate.speed.runner import Runner
            from validate.speed.subject import Subject
            from validate.speed.timing import TimingPlan

            logging.set_verbosity_error()
            logging.disable_progress_bar()
            device = open_device(settings["device"], threads)
            progress.status("reading the hardware profile")
            hardware = hardware_for(settings["hw"], device, folder)
            dtype = _dtype(settings["dtype"], device.kind)
            choice = _choice(settings, spec, device, dtype)
            cases = _cases(settings, spec, choice)
            weights = _weights(settings)
            runtimes = {Runtime(option["runtime"]) for option in choice.options}
            calibrations, notes = calibrations_for(settings["calibration"], hardware, dtype, runtimes)
            for note in notes:
                progress.note(f"note: {note}")
            predictor = Predictor(hardware=hardware, calibrations=calibrations)
            for case in {case.work.runtime: case for case in cases}.values():
                predictor.predictions(
                    spec, case.decomposition, case.work
                )  # what cannot be priced fails before building
            fixed = {
                "model": spec.name,
                "num_layers": spec.num_layers,
                "weights": str(weights) if weights else "random",
                "dtype": dtype.value,
                "device": device.kind,
                "device_name": device.name,
                "threads": getattr(device, "threads", None),
                "hardware": hardware.name,
                "seed": settings["seed"],
                "configs": settings["configs"],
                "attention": settings["attention"],
                "weights_sha256": checkpoint_sha256(weights) if weights else None,
                "configs_sha256": configs_sha256(settings["configs"]) if settings["configs"] else None,
            }
            if earlier is not None:
                require_same(dict(earlier), fixed, list(fixed))
            save_settings(folder, {**fixed, "options": dict(settings)})
            done = {sample.id for sample in journal.records}
            if not [case for case in cases if case.id not in done]:
                return False
            progress.status(f"building {spec.name}")
            subject = Subject(
                read_config(settings["model"]), spec, device, dtype, seed=settings["seed"], weights=weights
            )
            plan = TimingPlan(precision=settings["precision"] / 100, budget_s=settings["budget"])
            progress.start(len(cases), len([case for case in cases if case.id in done]))
            Runner(subject, predictor, plan, journal).run(cases, progress.advance, deadline)
    except KeyboardInterrupt:
        return True
    return False


def _spec(settings: Mapping[str, Any]) -> ModelSpec:
    spec = load_model(settings["model"], num_layers=settings["num_layers"])
    if spec.is_encoder and settings["phase"] == "decode":
        raise InputError(f"{spec.name} is an encoder and has no decode phase", value="decode", allowed="prefill")
    return spec


def _weights(settings: Mapping[str, Any]) -> Path | None:
    folder = Path(settings["model"])
    has = settings["weights"] == "auto" and folder.is_dir() and any(folder.glob("*.safetensors"))
    return folder if has else None


def _dtype(option: str, kind: str) -> DType:
    return DType(option) if option != "auto" else DType.FP32 if kind == "cpu" else DType.BF16


def _choice(settings: Mapping[str, Any], spec: ModelSpec, device: Any, dtype: DType) -> WorkloadChoice:
    kind = device.kind
    levels: dict[str, Any] = _CPU if kind == "cpu" else _CUDA
    both = (Phase.PREFILL,) if spec.is_encoder else (Phase.PREFILL, Phase.DECODE)
    phases = both if settings["phase"] == "both" else (Phase(settings["phase"]),)
    runtime = {"auto": "eager" if kind == "cpu" else "both"}.get(settings["runtime"], settings["runtime"])
    runtimes = ("eager", "graph") if runtime == "both" else (runtime,)
    given_lengths = bool(settings["seq_len"])
    few = settings["configs"] is not None  # given configurations run under one workload each unless asked for more
    return WorkloadChoice(
        phases=phases,
        batches=tuple(settings["batch"] or (levels["batch"][:1] if few else levels["batch"])),
        seq_lens=tuple(settings["seq_len"] or (levels["seq_len"][2:3] if few else levels["seq_len"])),
        kv_lens=tuple(settings["kv_len"] or (levels["kv_len"][1:2] if few else levels["kv_len"])),
        max_tokens=2**40 if given_lengths else levels["max_tokens"],
        max_cached=2**40 if settings["kv_len"] else _cached_tokens(spec, device.memory_bytes, dtype),
        options=tuple(
            {"dtype": dtype, "runtime": Runtime(each), "attention": Attention(settings["attention"])}
            for each in runtimes
        ),
    )


def _cached_tokens(spec: ModelSpec, memory_bytes: int, dtype: DType) -> int:
    """Tokens whose keys and values fit twice, for candidate and reference, beside up to two models."""
    room = 0.8 * memory_bytes - 2.2 * dtype.bytes_for(spec.num_params)
    return max(1, int(room / 2 / dtype.bytes_for(2 * spec.num_layers * spec.kv_size)))


def _cases(settings: Mapping[str, Any], spec: ModelSpec, choice: WorkloadChoice) -> list[Case]:
    if settings["configs"] is not None:
        return given_cases(spec, load_configs(settings["configs"], spec), choice)
    return sample_cases(spec, settings["samples"], settings["seed"], choice)
