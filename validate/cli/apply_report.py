"""What `validate apply` says of a checkpoint that it wrote."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from costmodel.cli.common import print_table, say, write_csv, write_json
from costmodel.units import seconds, si

if TYPE_CHECKING:  # these load torch
    from validate.checkpoint.manifest import SiteRecord
    from validate.checkpoint.write import Checkpoint

SCHEMA = 1
"""Version of the JSON output."""


def print_written(written: Checkpoint, above: int, left_out: list[str], needed: int, elapsed: float, fmt: str) -> None:
    """Print what was written: `above` sites weigh more than dense, `needed` bytes bound the memory."""
    manifest = written.manifest
    rows = [
        {
            "layer": each.layer,
            "tensor": each.tensor,
            "form": each.form,
            "rank_in": each.rank[0],
            "rank_out": each.rank[1],
            "relative_error": each.relative_error,
        }
        for each in manifest.sites
    ]
    if fmt == "csv":
        write_csv(rows)
        return
    saved = 100 * (manifest.dense_params - manifest.params) / manifest.dense_params
    if fmt == "json":
        write_json(
            {
                "schema": SCHEMA,
                "out": str(written.folder),
                "architecture": manifest.architecture,
                "dtype": manifest.dtype,
                "weight_dtype": manifest.weight_dtype or manifest.dtype,
                "factors": manifest.factors.kind,
                "params": manifest.params,
                "dense_params": manifest.dense_params,
                "saved_params_pct": saved,
                "bytes": written.bytes,
                "files": [each.name for each in manifest.files],
                "drop": manifest.drop,
                "sites": rows,
                "above_break_even": above,
                "left_out": left_out,
                "peak_memory_bound_bytes": needed,
                "peak_memory_bytes": _peak_resident(),
                "elapsed_s": elapsed,
            }
        )
        return
    columns = ["tensor", "form", "sites", "ranks", "mean error", "largest"]
    if rows:
        title = f"{written.folder}: relative error of the factored weights"
        print_table(title, columns, _summary(manifest.sites), left=2)
    shards = sum(each.name.endswith(".safetensors") for each in manifest.files)
    count, kind = len(manifest.drop), manifest.weight_dtype or manifest.dtype
    dropped = f", {count} layer{'s' if count > 1 else ''} dropped" if count else ""
    say(
        f"{'' if rows else f'{written.folder}: '}{si(manifest.params, '').strip()} of "
        f"{si(manifest.dense_params, '').strip()} parameters ({saved:.1f} % saved"
        f"{dropped}), {manifest.factors.kind} factors, {si(written.bytes, 'B')} of {kind} in {shards} weight "
        f"file{'s' if shards > 1 else ''}, "
        f"{seconds(elapsed, 3)}, peak memory {si(_peak_resident(), 'B')}"
    )
    if above:
        say(f"note: sites with more parameters than the dense weight that they replace: {above}", err=True)
    if left_out:
        more = f" and {len(left_out) - 1} more" if len(left_out) > 1 else ""
        say(f"note: not of {manifest.architecture}, left out: {left_out[0]}{more}", err=True)


def _summary(sites: Sequence[SiteRecord]) -> list[list[object]]:
    """One row for each tensor and form, in the order met."""
    groups: dict[tuple[str, str], list[SiteRecord]] = {}
    for each in sites:
        groups.setdefault((each.tensor, each.form), []).append(each)
    rows: list[list[object]] = []
    for (tensor, form), found in groups.items():
        errors = [each.relative_error for each in found]
        ranks = sorted({rank for each in found for rank in each.rank})
        shown = f"{ranks[0]}" if len(ranks) == 1 else f"{ranks[0]}-{ranks[-1]}"
        rows.append([tensor, form, len(found), shown, f"{sum(errors) / len(errors):.4f}", f"{max(errors):.4f}"])
    return rows


def _peak_resident() -> int:
    """Bytes of main memory that this process held at its peak, mapped files included."""
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
