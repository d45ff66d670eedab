"""Writes a factored checkpoint: one weight in memory at a time, a file when it is full, the folder when it is whole."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import msgspec
import torch
from safetensors import SafetensorError, safe_open

from costmodel.decomposition.factors import Decomposition
from validate.checkpoint.factoring import Factoring
from validate.checkpoint.finished import FinishedFactors
from validate.checkpoint.folder import write_settings
from validate.checkpoint.makers import Makers
from validate.checkpoint.manifest import FactorsRecord, FileRecord, Manifest, SiteRecord, SourceRecord, versions
from validate.checkpoint.plan import Plan, step_cost
from validate.checkpoint.source import DenseSource
from validate.checkpoint.steps import Output
from validate.errors import MeasurementError, RunError, reason_of
from validate.hf.check import check_factored
from validate.hf.errors import FactoredCheckpointError
from validate.hf.modules import to_int8
from validate.hf.names import DTYPES, FORMAT, INDEX, MANIFEST
from validate.models.weights import file_record, require_finite
from validate.store.new_folder import new_folder, require_new
from validate.store.tensors import save_tensors

Progress = Callable[[str, float, float], None]
"""Called with what is being done, the work done so far and the work in all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """What was written.

    Attributes:
        bytes: of all files.
        taken: factored weights that an interrupted run had finished.
    """

    folder: Path
    manifest: Manifest
    bytes: int
    taken: int


def write_checkpoint(
    source: DenseSource,
    decomposition: Decomposition,
    plan: Plan,
    out: Path,
    *,
    makers: Makers,
    factors: FactorsRecord,
    device: torch.device,
    progress: Progress = lambda text, done, total: None,
) -> Checkpoint:
    """Write the folder `out`, which must not exist; it appears when all of it is written, read back and compared.

    After an interrupt or a failing disk, the same call takes up the factors that were finished.

    Args:
        plan: of this source and decomposition.
        makers: give the factors of each site.
        factors: what the manifest says of them.
        device: where weights are factored.

    Raises:
        InputError: when `out` exists.
        ModelError: when a weight cannot be read.
        MeasurementError: when a weight is not finite, or not in the type asked for, or a factorisation fails.
        RunError: when the disk is full or fails, or gives back other bytes than were written.
    """
    clock = _Clock(plan, source, progress)
    require_new(out)
    clock.at("reading the source", 0)
    digests = source.weights.digests(lambda size: clock.at("reading the source", size / 1e9))
    job = {
        "source": digests,
        "config": dict(source.config),
        "decomposition": decomposition.to_json(),
        "dtype": plan.dtype,
        "factors": msgspec.to_builtins(factors),
        "device": device.type,
        "versions": versions(),
    }
    if plan.form != "factored" or plan.int8:
        job |= {"form": plan.form, "int8": plan.int8}
    with new_folder(out, job) as place:
        folder, finished = place.folder, FinishedFactors(place.finished)
        sites = _write_weights(source, plan, folder, makers, device, clock, finished)
        if len(plan.files) > 1:
            _write_index(plan, folder)
        manifest = Manifest(
            architecture=type(source.model).__name__,
            layers=source.layers,
            num_layers=source.spec.num_layers,
            dtype=plan.dtype,
            weight_dtype="int8" if plan.int8 else None,
            int8=list(dict.fromkeys(tensor.path for tensor in source.spec.tensors)) if plan.int8 else [],
            sites=sites,
            drop=sorted(decomposition.dropped),
            factors=factors,
            params=plan.params,
            dense_params=sum(torch.Size(shape).numel() for shape in source.weights.shapes.values()),
            source=SourceRecord(
                name=source.name, dtype=source.weights.stored_types, files=msgspec.convert(digests, list[FileRecord])
            ),
            files=[],
        )
        write_settings(source, decomposition, manifest, folder, form=plan.form)
        clock.at("reading back", 0)
        records = [FileRecord(**file_record(path)) for path in sorted(folder.iterdir()) if path.is_file()]
        manifest = msgspec.structs.replace(manifest, files=records)
        if plan.form == "factored":
            (folder / MANIFEST).write_bytes(manifest.to_bytes())
            _check(folder)
        size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    return Checkpoint(folder=out, manifest=manifest, bytes=size, taken=finished.taken)


class _Clock:
    """Counts work in seconds as the plan expects them."""

    def __init__(self, plan: Plan, source: DenseSource, progress: Progress) -> None:
        self._progress, self._done = progress, 0.0
        reading = sum(path.stat().st_size for path in source.weights.files) / 1e9
        self._total = reading + sum(step_cost(step, source) for step in plan.steps)

    def at(self, text: str, done: float) -> None:
        """Say what comes, after some work was done."""
        self._done += done
        self._progress(text, self._done, self._total)


def _write_weights(
    source: DenseSource,
    plan: Plan,
    folder: Path,
    makers: Makers,
    device: torch.device,
    clock: _Clock,
    finished: FinishedFactors,
) -> list[SiteRecord]:
    sites: list[SiteRecord] = []
    buffer: dict[str, torch.Tensor] = {}
    dtype = DTYPES[plan.dtype][0]
    factoring = Factoring(source, makers, plan, device)
    current = 0
    for step in plan.steps:
        clock.at(f"factoring {step.site}" if step.factor else f"copying {step.source}", 0)
        weights = [output for output in step.outputs if output.kind != "scale"]
        shapes = [output.shape for output in weights]
        earlier = finished.get(step.site, shapes) if step.site and step.factor else None
        if earlier is not None:
            tensors, record = earlier
            sites.append(record)
        else:
            tensors, records = factoring.written(step)
            if step.site is not None and step.factor is not None:
                finished.put(step.site, tensors, records[0])
            sites += records
        pairs = zip(weights, tensors, strict=True)
        values = [value for output, tensor in pairs for value in _values(output, tensor, dtype)]
        for output, tensor in zip(step.outputs, values, strict=True):
            if output.shard != current:
                _write_file(folder / plan.files[current], buffer)
                current, buffer = output.shard, {}
            if tuple(tensor.shape) != output.shape:
                raise MeasurementError(
                    "identity", f"{output.name} came out as {list(tensor.shape)}", allowed=str(list(output.shape))
                )
            require_finite(tensor, output.name, dtype)
            buffer[output.name] = tensor
        clock.at(f"wrote {step.source}", step_cost(step, source))
    clock.at("writing", 0)
    _write_file(folder / plan.files[current], buffer)
    return sites


def _values(output: Output, tensor: torch.Tensor, dtype: torch.dtype) -> list[torch.Tensor]:
    """What is written of one weight: itself, or its int8 and a scale of `dtype`."""
    return list(to_int8(tensor, dtype)) if output.kind == "int8" else [tensor]


def _check(folder: Path) -> None:
    try:
        check_factored(folder)
    except FactoredCheckpointError as error:
        raise RunError("what was written does not read back", hint=str(error)) from error


def _write_file(path: Path, tensors: dict[str, torch.Tensor]) -> None:
    """Save and compare with what is read back."""
    save_tensors(path, tensors, {"format": FORMAT if path.name.startswith("factored") else "pt"})
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            for name, tensor in tensors.items():
                if not torch.equal(file.get_tensor(name), tensor):
                    raise RunError("the disk gives back other bytes than were written", value=f"{path.name}: {name}")
    except SafetensorError as error:
        raise RunError("what was written does not read back", value=path.name, hint=reason_of(error)) from error


def _write_index(plan: Plan, folder: Path) -> None:
    names = {output.name: plan.files[output.shard] for step in plan.steps for output in step.outputs}
    index = {"metadata": {"total_size": plan.bytes}, "weight_map": names}
    name = INDEX if plan.form == "factored" else "model.safetensors.index.json"
    (folder / name).write_text(f"{json.dumps(index, indent=2)}\n", encoding="utf-8")
