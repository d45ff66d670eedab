"""Refits what whole passes correct in the shipped CPU calibration, from the records that ship.

    python -m studies.calibrations.cpu

The forms of single operations stay as they are in the file. The prefills in `notebooks/records/cpu-*.jsonl` ran the LM
head as a weight that wants no gradient is multiplied, one product a sequence: with the rest of a pass priced, Qwen2.5's
head of 545 MB took 33 to 36 ms for one sequence and for two, 64 for four, 112 to 136 for eight; in decode, which makes
one product of eight, 56 to 63. A fit to them as one product had given the head's time to everything beside GEMMs and
attention (a factor of 4.0; 1.9 now). What is priced is one product, as of a model as it is loaded.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import click

from costmodel.files.write import write_file
from costmodel.hardware.profile import load_hardware, profile_folder
from costmodel.timing.calibration.passes import REACH_KEYS
from costmodel.timing.calibration.scaled import SCALED_KEYS
from validate.calibration.whole.samples import fit_samples
from validate.speed.records import read_samples

DEVICE = "amd-epyc-2t"
RECORDS = Path(__file__).parents[2] / "notebooks" / "records"


def probes_of(shipped: Path) -> bytes:
    """The calibration of single operations that a file from passes stands on."""
    content = json.loads(shipped.read_text(encoding="utf-8"))
    left = {key: value for key, value in content.items() if key not in (*SCALED_KEYS, *REACH_KEYS)}
    left["errors"] = [row for row in left["errors"] if row["kind"] != "pass"]
    left["provenance"] = [entry for entry in left["provenance"] if "samples of" not in entry["source"]]
    return json.dumps(left | {"level": "probes"}).encode()


@click.command()
@click.option("--out", type=click.Path(path_type=Path), help="The file to write.  [default: the shipped one]")
def main(out: Path | None) -> None:
    """Refit, write, and print the rows of errors of whole passes."""
    shipped = profile_folder() / "calibrations" / f"{DEVICE}.json"
    samples = read_samples(sorted(RECORDS.glob("cpu-*.jsonl")))
    with tempfile.TemporaryDirectory() as folder:
        probes = Path(folder) / "probes.json"
        probes.write_bytes(probes_of(shipped))
        fit = fit_samples(samples, load_hardware(DEVICE), probes, heads_in_pairs=True)
    write_file(out or shipped, fit.to_bytes())
    for row in fit.content["errors"]:
        if row["kind"] == "pass":
            click.echo(json.dumps(row))


if __name__ == "__main__":
    main()
