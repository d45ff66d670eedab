"""Tables of made-up times as a folder of an A100's has them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from costmodel.timing.calibration.shaped import FormKind
from validate.calibration.folder import Manifest, MeasuredOps
from validate.calibration.streams import StreamTable
from validate.calibration.tables import OpTable


def measured(tables: Mapping[FormKind, OpTable], streams: Sequence[StreamTable] = ()) -> MeasuredOps:
    """In bf16, launched one by one or as a graph."""
    provenance = [{"classes": sorted(tables), "source": "made up", "licence": "none"}]
    manifest = Manifest(hardware="a100-sxm-80gb", dtype="bf16", runtimes=["eager", "graph"], provenance=provenance)
    return MeasuredOps(manifest=manifest, tables=tables, streams=streams)
