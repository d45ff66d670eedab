"""How fast design spaces are answered: by cost classes, by knapsack methods, and one configuration after another.

Run: python benchmarks/explore.py [--full]. It exits with 1 when a target is missed. With --full the literal sweep takes
all 1,056,964,546 configurations of BERT-large instead of the first 2^27.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from sweep import sweep

from costmodel.explore import explore
from costmodel.explore.distribution import Distribution
from costmodel.explore.settings import ExploreSettings
from costmodel.families.load import load_model
from costmodel.forward.workload import Runtime, Workload
from costmodel.hardware.profile import load_hardware
from costmodel.pricing.estimate import estimate
from costmodel.space.base import DesignSpace
from costmodel.space.make import design_space

A100 = load_hardware("a100-sxm-80gb")
SIXTEEN = list(range(64, 1025, 64))
FOUR = ["decode.latency_s", "decode.energy_j", "decode.peak_memory_bytes", "params"]
THREADS = 2


def made_up_quality(space: DesignSpace, states: int) -> str:
    """A quality file of random sensitivities, with interactions between neighbouring layers; its path."""
    rng = random.Random(1)
    entries = []
    for layer in range(space.model.num_layers):
        for tensor, ranks in zip(space.model.tensors, space.ranks, strict=True):
            scale, limit = rng.lognormvariate(0, 1), min(tensor.out_features, tensor.in_features)
            entries += [
                {
                    "site": f"layers.{layer}.{tensor.name}",
                    "form": space.form,
                    "rank": rank,
                    "value": scale * (1 - rank / limit) ** 2,
                    "state": int(states * (1 - rank / limit) ** 2),
                }
                for rank in ranks
            ]
    links = [
        {"layer": layer, "state": a, "next_state": b, "value": 0.2 * a * b * rng.random()}
        for layer in range(space.model.num_layers - 1)
        for a in range(states)
        for b in range(states)
    ]
    data = {
        "schema": 1,
        "model": space.model.name,
        "metric": "made up",
        "entries": entries,
        "layer_interactions": links,
    }
    path = Path(tempfile.mkdtemp()) / "quality.json"
    path.write_text(json.dumps(data))
    return str(path)


def whole(name: str) -> tuple[str, float, str]:
    """Distribution, constrained count, best and frontier over all layer sets x tensor sets x 16 ranks."""
    space = design_space(load_model(name), ranks=SIXTEEN)
    runs = [
        explore(
            space,
            A100,
            [Workload.decode(513)],
            ExploreSettings(objectives=",".join(FOUR), limits=("saved.params_pct>=9",)),
        ).elapsed_s
        for _ in range(3)
    ]
    return f"{name}, homogeneous, {space.size:.3g} configurations", min(runs), "s"


def uneven(name: str) -> tuple[str, float, str]:
    """The same with a quality that differs from layer to layer and interacts."""
    space = design_space(load_model(name), ranks=SIXTEEN)
    result = explore(
        space,
        A100,
        [Workload.decode(513, runtime=Runtime.GRAPH)],
        ExploreSettings(quality=made_up_quality(space, 4), objectives="decode.latency_s,quality"),
    )
    return f"{name}, the same with an uneven quality", result.elapsed_s, "s"


def per_site(states: int) -> tuple[str, float, str]:
    """The frontier of latency against quality over 224 sites x 32 ranks."""
    space = design_space(load_model("llama2-7b"), "per-site", ranks=list(range(64, 2049, 64)))
    result = explore(
        space,
        A100,
        [Workload.decode(513, runtime=Runtime.GRAPH)],
        ExploreSettings(quality=made_up_quality(space, states), objectives="decode.latency_s,quality"),
    )
    points = np.array([found.objectives["decode.latency_s"] for found in result.answer.frontier])
    gap = 100 * result.answer.frontier_gap / np.ptp(points)
    name = f"llama2-7b, 224 sites x 32 ranks, {states} states: {len(points)} points, gap {gap:.2f} % of range"
    return name, result.elapsed_s, "s"


def literal(stop: int | None) -> tuple[str, float, str]:
    """Configurations a second when each is decoded, priced and counted."""
    space = design_space(load_model("bert-large"), ranks=[1])
    result = explore(
        space, A100, [Workload.prefill(512, runtime=Runtime.GRAPH)], ExploreSettings(objectives="latency_s")
    )
    expected = result.answer.distribution["latency_s"]
    assert isinstance(expected, Distribution)
    done = sweep(
        result.question.tables, result.question.objectives[0], np.array(expected.edges), stop=stop, threads=THREADS
    )
    same = "" if stop else ", the closed form's histogram" if done.counts == expected.counts else ", ANOTHER HISTOGRAM"
    return f"literal sweep of {done.counted:,} in {done.elapsed_s:.1f} s{same}", done.counted / done.elapsed_s, "/s"


def one_by_one() -> tuple[str, float, str]:
    """Configurations a second when `estimate` is called for each."""
    space = design_space(load_model("bert-large"), ranks=[1])
    configurations = [space.config(number) for number in space.sample(300, seed=0)]
    began = time.perf_counter()
    for configuration in configurations:
        estimate(space.model, A100, configuration, [Workload.prefill(512)])
    return "estimate in a loop", len(configurations) / (time.perf_counter() - began), "/s"


def main() -> int:
    """Print the table; exit code 1 when a target is missed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--full", action="store_true", help="sweep all of BERT-large")
    stop = None if parser.parse_args().full else 1 << 27
    missed = False
    for (name, value, unit), target in (
        (whole("llama2-7b"), 1.0),
        (whole("llama2-70b"), 3.0),
        (uneven("llama2-7b"), 3.0),
        (uneven("llama2-70b"), 6.0),
        (per_site(1), 10.0),
        (per_site(4), 10.0),
        (per_site(16), 10.0),
        (literal(stop), 5e7),
        (one_by_one(), 0.0),
    ):
        fails = value > target if unit == "s" else value < target
        missed |= fails
        print(f"{name:88} {value:10.3g} {unit:2}  target {target:g}{'  missed' if fails else ''}")
    print(f"memory at most: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6:.2f} GB")
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
