"""How much sooner two workers of one thread measure configurations than one does: rounds of each take turns.

    python benchmarks/cluster.py --model smollm2 --text wikitext2_raw.test.txt

A Ray cluster of this machine alone has two workers with the checkpoint open. In a round one of them, then both measure
the same seeded configurations, in the next round both and then one, so that a busy machine slows both. Opening is timed
apart. It needs two cores that nothing else uses: on a busy machine two processes get a larger share of it than one.
"""

from __future__ import annotations

import os
import sys
import time
from dataclasses import replace
from pathlib import Path
from statistics import median

import click

from costmodel.cli import run
from costmodel.cli.common import say
from validate.cluster.connection import Cluster
from validate.cluster.pool import Pool
from validate.devices.threads import usable_cores
from validate.errors import RunError
from validate.quality.case import DENSE
from validate.quality.clustered import Errand, QualityTask
from validate.quality.job import Job
from validate.quality.records import QualityRecord
from validate.quality.settings import QualitySettings
from validate.store.record_format import Failure

WORKERS = 2
TARGET = 1.6
"""Times that two workers are to be sooner."""


def failed(errand: Errand, failure: Failure) -> QualityRecord:
    """End the benchmark where workers die."""
    raise RunError("a configuration was not measured", value=failure.kind, hint=failure.reason)


def alone_and_together(pool: Pool[Errand, QualityRecord], errands: list[Errand], turned: bool) -> tuple[float, float]:
    """Seconds that one worker takes for the errands, each given when the one before is done, and that all take."""
    seconds = {}
    for together in (True, False) if turned else (False, True):
        began = time.perf_counter()
        for batch in [errands] if together else [[errand] for errand in errands]:
            for record in pool.results(batch):
                if record.failure is not None:
                    failed(batch[0], record.failure)
        seconds[together] = time.perf_counter() - began
    return seconds[False], seconds[True]


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--model", required=True, metavar="DIR")
@click.option("--text", required=True, metavar="FILE")
@click.option("--samples", default=12, show_default=True, type=click.IntRange(2))
@click.option("--blocks", default=4, show_default=True, type=click.IntRange(2))
@click.option("--length", default=128, show_default=True, type=click.IntRange(2))
@click.option("--rounds", default=3, show_default=True, type=click.IntRange(1))
def command(model: str, text: str, samples: int, blocks: int, length: int, rounds: int) -> int:
    """Compare the times of one worker and of two; exit code 1 where two are less than TARGET times sooner."""
    settings = QualitySettings(
        model=model, text=text, samples=samples + 1, blocks=blocks, length=length, device="cpu", threads=1
    )
    job = Job.read(settings)
    job = replace(job, folder=Path(job.folder).resolve())
    cases = tuple(case for case in job.cases if not case.is_dense)
    load = os.getloadavg()[0]
    os.environ["RAY_ADDRESS"] = "local"  # not a cluster that this machine is a node of
    with Cluster("auto") as cluster:
        began = time.perf_counter()
        task = QualityTask(job=job, fixed=job.fixed, cases=cases)
        pool: Pool[Errand, QualityRecord] = Pool(cluster, task, failed, device="cpu", threads=1, most=WORKERS)
        environment = pool.environment(WORKERS)
        (dense,) = pool.results([Errand(case=DENSE, dense=None)])
        errands = [Errand(case=case, dense=dense) for case in cases]
        list(pool.results(errands[:WORKERS]))  # each computes its own dense predictions before its first
        say(f"{WORKERS} workers with dense predictions after {time.perf_counter() - began:.1f} s")
        ratios = []
        for number in range(rounds):
            one_s, two_s = alone_and_together(pool, errands, bool(number % 2))
            ratios.append(one_s / two_s)
            say(f"{len(errands)} configurations: {one_s:.1f} s by one worker, {two_s:.1f} s by two: {ratios[-1]:.2f}")
        pool.close()
    device = environment["device"]["name"]
    say(f"two workers are {median(ratios):.2f} times sooner (median; target {TARGET})")
    say(f"{device}, {usable_cores()} cores, load {load:.1f} before and {os.getloadavg()[0]:.1f} after")
    return 0 if median(ratios) >= TARGET else 1


if __name__ == "__main__":
    sys.exit(run(command))
