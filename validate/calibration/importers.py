"""Reads measurements that others publish into tables of measured operations."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
from packaging.version import Version

from costmodel.errors import InputError, nearest
from costmodel.files.table import Table, read_table
from costmodel.pricing.shapes import ATTENTION_COLUMNS, GEMM_COLUMNS, MAX_SIZE
from costmodel.timing.calibration.shaped import FormKind
from validate.calibration.folder import Manifest, MeasuredOps
from validate.calibration.tables import TIME, TIMES_US, OpTable, tables_of
from validate.errors import RecordError

PACKAGE = "aiconfigurator_core"
FRAMEWORKS = ("sglang", "vllm", "trtllm")
"""In order of preference: what a device lacks in the first is looked for in the next."""
DTYPES = {"bf16": "bfloat16", "fp16": "float16"}
PROFILES = {
    "a100_sxm": "a100-sxm-80gb",
    "a100_pcie": "a100-pcie-80gb",
    "h100_sxm": "h100-sxm-80gb",
    "h100_pcie": "h100-pcie-80gb",
    "h200_sxm": "h200-sxm",
    "b200_sxm": "b200-sxm",
    "l40s": "l40s",
    "l4": "l4",
}
"""Profile of a system; a system without one needs `--hw`."""
_LICENCE = "Apache-2.0"
_METHOD = "CUDA graph replay, 3 warm-ups, 6 runs, six weight copies per graph, clocks not locked"


def import_aiconfigurator(
    system: str,
    *,
    folder: Path | None = None,
    framework: str | None = None,
    dtype: str = "bf16",
    hardware: str | None = None,
) -> MeasuredOps:
    """GEMM and attention times of a system from the `aiconfigurator-core` package's database.

    Args:
        system: as the package names it, such as l40s or h200_sxm; a profile's name works too.
        folder: the package's `systems/data` folder; None finds the installed package.
        framework: whose kernels; None takes for each kind the first of FRAMEWORKS that has a table.
        dtype: bf16 or fp16.
        hardware: name of the profile to calibrate; None where PROFILES knows it.

    Raises:
        InputError: when the package or the system is not there, or no profile belongs to it.
        RecordError: when a table lacks its columns, or there are no GEMMs of this type.
    """
    data = folder or installed_data()
    names = {path.name for path in data.iterdir() if (path / "gemm").is_dir()} if data.is_dir() else set()
    by_profile = {profile: name for name, profile in PROFILES.items()}
    name = by_profile.get(system, system)
    if name not in names:
        raise InputError("unknown system", value=system, hint=nearest(name, names) if names else f"nothing in {data}")
    profile = hardware or PROFILES.get(name)
    if profile is None:
        raise InputError(f"no profile belongs to {name}", hint="name one with --hw, or a .toml file of your own")
    if dtype not in DTYPES:
        raise InputError("unknown dtype", value=dtype, allowed=", ".join(DTYPES))
    tables: dict[FormKind, OpTable] = {}
    provenance: list[dict[str, Any]] = []
    for folder_name, file_name in (
        ("gemm", "gemm_perf"),
        ("attention", "context_attention_perf"),
        ("attention", "generation_attention_perf"),
    ):
        found = _latest(data / name / folder_name, file_name, framework)
        if found is None:
            continue
        for table in _read(found, dtype):
            known = tables.get(table.kind)
            tables[table.kind] = table if known is None else _joined(known, table)
            provenance.append(
                {
                    "classes": [table.kind],
                    "points": len(table),
                    "licence": _LICENCE,
                    "dtype": dtype,
                    "method": _METHOD,
                    "source": f"NVIDIA aiconfigurator measurement database: {'/'.join(found.parts[-5:])}",
                }
            )
    if "gemm" not in tables:
        raise RecordError(f"{name} has no {dtype} GEMMs", value=framework or "any framework")
    manifest = Manifest(hardware=profile, dtype=dtype, runtimes=["eager", "graph"], provenance=provenance)
    return MeasuredOps(manifest=manifest, tables=tables)


def installed_data() -> Path:
    """The data folder of the installed package.

    Raises:
        InputError: when it is not installed.
    """
    found = importlib.util.find_spec(PACKAGE)
    if found is None or not found.submodule_search_locations:
        raise InputError(
            "the package aiconfigurator-core is not installed", hint="pip install aiconfigurator-core, 82 MB"
        )
    return Path(next(iter(found.submodule_search_locations))) / "systems" / "data"


def _latest(folder: Path, file_name: str, framework: str | None) -> Path | None:
    """The table of the newest version of the preferred framework that has it."""
    for each in [framework] if framework else FRAMEWORKS:
        found = sorted(folder.glob(f"{each}/*/{file_name}.parquet"), key=lambda path: version_key(path.parent.name))
        if found:
            return found[-1]
    return None


def version_key(text: str) -> tuple[bool, Version]:
    """Sorts versions as PEP 440 orders them, candidates before their release; what is no version comes first."""
    try:
        return True, Version(text)
    except ValueError:  # InvalidVersion, and thousands of digits
        return False, Version("0")


def _read(path: Path, dtype: str) -> list[OpTable]:
    """A table's rows of this type, without sliding windows; of several kernels for a shape the fastest."""
    raw = read_table(path, RecordError)
    gemm = path.stem == "gemm_perf"
    types = ("gemm_dtype",) if gemm else ("attn_dtype", "kv_cache_dtype")
    sizes = GEMM_COLUMNS if gemm else ("batch_size", "isl", "step", "num_heads", "num_key_value_heads", "head_dim")
    raw.require((*types, *sizes, "latency"))
    wanted = np.all([[value == DTYPES[dtype] for value in raw.columns[name]] for name in types], axis=0)
    if "window_size" in raw.columns:
        wanted &= raw.numbers("window_size") == 0
    if "beam_width" in raw.columns:
        wanted &= raw.numbers("beam_width") == 1
    if not wanted.any():
        return []
    shape = np.stack([raw.numbers(name, 0, MAX_SIZE, whole=True)[wanted] for name in sizes])
    micros = raw.numbers("latency", 0, TIMES_US[1] * 1e-3)[wanted] * 1e3
    unique, place = np.unique(shape, axis=1, return_inverse=True)
    fastest = np.full(unique.shape[1], np.inf)
    np.minimum.at(fastest, place.reshape(-1), micros)
    names = GEMM_COLUMNS if gemm else ATTENTION_COLUMNS
    columns = {**dict(zip(names, unique, strict=True)), TIME: fastest}
    return tables_of(Table(file=str(path), columns=columns, error=RecordError))


def _joined(first: OpTable, second: OpTable) -> OpTable:
    return OpTable(
        kind=first.kind,
        shape=np.concatenate([first.shape, second.shape], axis=1),
        seconds=np.concatenate([first.seconds, second.seconds]),
    )
