"""The sensitivity file: one safetensors file with the spectra of every site and, in its header, what they are of.

Tensors are float64, `layers.0.q_proj.singular_values` and so on, k = min(out, in) values each (`gradient` one). The
header's metadata has `format`, `schema` and `run`, the JSON of `SensitivityRun`. Read strictly: every site of the
model, nothing else, all finite, energies not negative. No torch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from costmodel.decomposition.factors import Site
from costmodel.decomposition.sites import site_columns
from costmodel.errors import CostModelError
from costmodel.families.registry import spec_from_config
from costmodel.files.open import is_special
from costmodel.files.write import write_file
from costmodel.model import ModelSpec
from validate.errors import RecordError
from validate.sensitivity.spectra import LossTerms, SiteSpectra
from validate.store.decode import Amount, PositiveCount, Signed, decode_as

Array = np.ndarray[Any, Any]
Arrays = dict[str, Array]

FORMAT, SCHEMA = "costmodel-sensitivity", 1
_ENERGIES = ("singular_values", "plain_output", "whitened")
_LOSS = ("slope_plain", "slope_whitened", "curvature_plain", "curvature_whitened", "gradient")


class SensitivityRun(msgspec.Struct, frozen=True, kw_only=True):
    """What spectra were computed from, and how."""

    model: str
    """Name of the checkpoint's folder, as `costmodel` calls the model."""
    config: dict[str, Any]
    """Its config.json, which gives the structure again."""
    weights: str
    """Digest of the names and contents of the weight files."""
    checkpoint: str | None = None
    """Digest of config.json and the weight files, as quality records name a checkpoint; None in files from before."""
    text: str
    """SHA-256 of the calibration tokens as the model saw them, an encoder's masks included."""
    blocks: PositiveCount
    length: PositiveCount
    dtype: str
    """That layers computed in; sums and factorisations are in fp64."""
    device: str
    gradients: bool
    """Whether sites have loss terms."""
    nll: Signed | None
    """Of the dense model's predictions on the text, mean in nats; None without gradients."""
    seed: int
    """Of the places that are masked for an encoder; nothing else is random."""
    whole: str
    """Why the model was read whole; empty where it was streamed."""
    versions: dict[str, str]
    seconds: Amount
    """Time spent, over all parts of an interrupted run."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Sensitivity:
    """Spectra of every site of one checkpoint.

    Attributes:
        run: where they come from.
        spec: the structure.
        sites: all layers x tensors.
    """

    run: SensitivityRun
    spec: ModelSpec
    sites: Mapping[Site, SiteSpectra]


def save_sensitivity(path: Path, found: Sensitivity) -> None:
    """Write a file whole or not at all.

    Raises:
        InputError: when the folder does not exist or cannot be written to.
    """
    metadata = {"format": FORMAT, "schema": str(SCHEMA), "run": msgspec.json.encode(found.run).decode()}
    write_file(path, save(to_arrays(found.sites), metadata))


def load_sensitivity(path: str | Path) -> Sensitivity:
    """Read a file that `save_sensitivity` wrote.

    Raises:
        RecordError: when it cannot be read, is damaged, of another format or version, or lacks a site.
    """
    metadata, tensors = read_tensors(path)
    if metadata.get("format") != FORMAT:
        raise RecordError(f"{path}: not a sensitivity file", value=metadata.get("format"), allowed=FORMAT)
    if metadata.get("schema") != str(SCHEMA):
        hint = "written by another version; docs/quality.md has the format"
        raise RecordError(f"{path}: schema", value=metadata.get("schema"), allowed=str(SCHEMA), hint=hint)
    run = decode_as(metadata.get("run", ""), SensitivityRun, f"{path}: damaged header", "run", RecordError)
    try:
        spec = spec_from_config(run.config, name=run.model, source=str(path))
    except CostModelError as error:
        raise RecordError(f"{path}: damaged header", hint=str(error)) from error
    sites = [Site(*site) for site in site_columns(spec)]
    return Sensitivity(run=run, spec=spec, sites=sites_from(tensors, spec, sites, path, loss=run.gradients))


def read_tensors(path: str | Path) -> tuple[dict[str, str], Arrays]:
    """Metadata and arrays of a safetensors file.

    Raises:
        RecordError: when it cannot be read or is damaged.
    """
    if is_special(Path(path)):  # safetensors would wait for a pipe
        raise RecordError("cannot read sensitivity file", value=str(path), hint="a pipe or a device")
    try:
        with safe_open(path, framework="np") as file:
            return file.metadata() or {}, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError, TypeError) as error:
        hint = f"{error}; a file that `validate sensitivity` wrote"
        raise RecordError("cannot read sensitivity file", value=str(path), hint=hint) from error


def to_arrays(sites: Mapping[Site, SiteSpectra]) -> Arrays:
    """The arrays of sites by their names in the file."""
    arrays: Arrays = {}
    for site, spectra in sites.items():
        arrays |= {f"{site}.{part}": getattr(spectra, part) for part in _ENERGIES}
        if spectra.loss is not None:
            arrays |= {f"{site}.{part}": np.atleast_1d(getattr(spectra.loss, part)) for part in _LOSS}
    return arrays


def sites_from(
    arrays: Mapping[str, Array], spec: ModelSpec, sites: Sequence[Site], where: str | Path, *, loss: bool
) -> dict[Site, SiteSpectra]:
    """Spectra of exactly these sites, the inverse of `to_arrays`.

    Raises:
        RecordError: naming the first array that is missing, of another shape or type, not finite, negative, or extra.
    """
    found: dict[Site, SiteSpectra] = {}
    for site in sites:
        tensor = spec.tensor(site.tensor, site.layer)
        size = min(tensor.out_features, tensor.in_features)
        read = {part: _array(arrays, f"{site}.{part}", size, where) for part in _ENERGIES}
        if any((array < 0).any() for array in read.values()):
            raise RecordError(f"{where}: {site} has energies below 0")
        terms = None
        if loss:
            curves = {part: _array(arrays, f"{site}.{part}", size, where) for part in _LOSS[:-1]}
            terms = LossTerms(**curves, gradient=float(_array(arrays, f"{site}.gradient", 1, where)[0]))
        found[site] = SiteSpectra(**read, loss=terms)
    if extra := sorted(set(arrays) - set(to_arrays(found))):
        raise RecordError(f"{where}: unknown array", value=extra[0])
    return found


def _array(arrays: Mapping[str, Array], name: str, size: int, where: str | Path) -> Array:
    array = arrays.get(name)
    if array is None:
        raise RecordError(f"{where}: missing array", value=name)
    if array.shape != (size,) or array.dtype != np.float64:
        value, allowed = f"{array.dtype}{list(array.shape)}", f"float64[{size}]"
        raise RecordError(f"{where}: {name} is of another type or shape", value=value, allowed=allowed)
    if not np.isfinite(array).all():
        raise RecordError(f"{where}: {name} holds NaN or infinity")
    return array
