"""`validate` without a command: measure samples and report."""

from __future__ import annotations

import functools
import math
import signal
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from costmodel.families.load import read_config
from costmodel.forward.workload import Runtime
from costmodel.model import ModelSpec
from validate.cli.options import cluster_at
from validate.cli.progress import LOADING, RunProgress
from validate.cli.reporting import finish
from validate.cli.starting import note_repaired, pin_and_warn, settings_to_resume
from validate.cluster.connection import Cluster
from validate.plans.configs_file import configs_warnings
from validate.speed.job import TimingJob
from validate.speed.planning import adaptations, artefact_of, cases, dtype_of, model_of, weights_of, workloads
from validate.speed.recording import record_missing, recorded
from validate.speed.records import SAMPLES, Sample, read_samples
from validate.speed.settings import FIXED, MeasureSettings
from validate.store.digests import checkpoint_sha256, sha256_of
from validate.store.journal import Journal
from validate.store.settings import keep_settings, resumed

if TYPE_CHECKING:  # loads torch
    from validate.speed.bench import Bench


def measure(
    settings: MeasureSettings,
    given: set[str],
    out: Path,
    *,
    resume: bool,
    ray: str | None = None,
    stop_after: float | None,
    fail_above: float | None,
    fmt: str,
) -> int:
    """Run, report, and return the exit code; settings not given take the resumed run's values."""
    deadline = time.monotonic() + (stop_after or math.inf)
    settings = resumed(settings, settings_to_resume(out, given) if resume else None, given)
    spec = model_of(settings, given)
    threads = 0 if ray else pin_and_warn(settings.threads, settings.device)  # on a cluster workers do
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with Journal(out, SAMPLES, resume=resume) as journal:
        note_repaired(journal)
        interrupted = _run(settings, spec, journal, deadline, threads, ray)
        samples = read_samples(out)  # from the file: an interrupt may fall between writing and remembering
        if interrupted and not samples:
            raise click.Abort
        code = finish(out, samples, fmt=fmt, fail_above=fail_above)
    if interrupted:
        raise click.Abort
    return code


def _run(
    settings: MeasureSettings, spec: ModelSpec, journal: Journal[Sample], deadline: float, threads: int, ray: str | None
) -> bool:
    """Measure what has no record yet; True when interrupted."""
    try:
        with cluster_at(ray) as cluster, RunProgress() as progress:
            progress.status(LOADING)
            from transformers.utils import logging

            from validate.devices.hardware_match import hardware_for, mismatch
            from validate.models.build import require_attention
            from validate.speed.predictions import Predictor, calibrations_for

            logging.set_verbosity_error()
            logging.disable_progress_bar()
            bench = _local(settings, threads) if cluster is None else _joined(cluster, settings, progress)
            device = bench.device
            progress.status("reading the hardware profile")
            say = None if cluster is not None else lambda text: progress.note(f"note: {text}")
            hardware = hardware_for(settings.hw, device, journal.folder, bench.profile, say)
            dtype = dtype_of(settings.dtype, device.kind)
            choice = workloads(settings, spec, device, dtype)
            require_attention(spec, choice.options[0]["attention"])
            planned = cases(settings, spec, choice)
            weights, artefact = weights_of(settings), artefact_of(settings)
            source = weights or artefact
            runtimes = {Runtime(option["runtime"]) for option in choice.options}
            stack = choice.options[0].get("stack")
            if stack is not None:
                progress.status(f"trying {stack}")
                bench.require(settings.runtime)
            calibrations, notes = calibrations_for(settings.calibration, hardware, dtype, runtimes, stack)
            for text in configs_warnings(settings.configs, spec):
                progress.note(f"warning: {text}")
            for note in [*adaptations(settings, spec, choice, planned), *notes]:
                progress.note(f"note: {note}")
            predictor = Predictor(hardware=hardware, calibrations=calibrations)
            for case in {case.work.runtime: case for case in planned}.values():
                # what cannot be priced fails before building
                predictor.predictions(spec, case.decomposition, case.work)
            if unlike := mismatch(device, hardware):
                progress.note(f"warning: {unlike}")
            fixed = {
                "model": spec.name,
                "num_layers": spec.num_layers,
                "weights": str(source or "random"),
                "dtype": dtype.value,
                "device": device.kind,
                "device_name": device.name,
                "threads": getattr(device, "threads", None),
                "hardware": hardware.name,
                "seed": settings.seed,
                "configs": settings.configs,
                "attention": settings.attention,
                "stack": stack,
                "weights_sha256": checkpoint_sha256(source) if source else None,
                "configs_sha256": sha256_of(settings.configs) if settings.configs else None,
            }
            kept = {**fixed, "options": asdict(settings)}
            keep_settings(journal.folder, kept, same=FIXED, continued=bool(journal.records))
            done = recorded(journal.records)
            if not [case for case in planned if case.id not in done]:
                return False
            progress.status(f"building {spec.name}")
            config = {key: value for key, value in read_config(settings.model).items() if key != "quantization_config"}
            job = TimingJob(
                config=config,
                spec=spec,
                dtype=dtype,
                seed=settings.seed,
                weights=weights,
                artefact=artefact,
                sha256=fixed["weights_sha256"],
                predictor=predictor,
                precision=settings.precision / 100,
                budget_s=settings.budget,
            )
            progress.start(len(planned), len([case for case in planned if case.id in done]))
            record_missing(functools.partial(bench.measured, job), planned, journal, progress.advance, deadline)
    except KeyboardInterrupt:
        return True
    return False


def _local(settings: MeasureSettings, threads: int) -> Bench:
    from validate.devices.opening import open_device
    from validate.speed.bench import LocalBench

    return LocalBench(open_device(settings.device, threads))


def _joined(cluster: Cluster, settings: MeasureSettings, progress: RunProgress) -> Bench:
    from validate.speed.clustered import ClusterBench

    progress.status("joining the Ray cluster")
    return ClusterBench(
        cluster,
        device=settings.device,
        threads=settings.threads,
        runtime=settings.runtime,
        wants_profile=settings.hw == "auto",
        most=settings.samples if settings.configs is None else None,
        note=progress.note,
    )
