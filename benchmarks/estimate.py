"""How fast one estimate is: from the shell, on import, and through the Python API. Run: python benchmarks/estimate.py

Peers' published times for one configuration, none of which counts the FLOPs of a low-rank weight: LLM-Viewer 0.13 ms,
llm-analysis 0.46 ms, aiconfigurator 6.6 ms, GenZ 60 ms, LLMCompass minutes.
"""

from __future__ import annotations

import argparse
import gc
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from costmodel.decomposition.factors import Decomposition, Factor, LowRank, Site, Tucker
from costmodel.families.load import load_model
from costmodel.forward.workload import Workload
from costmodel.hardware.profile import load_hardware
from costmodel.pricing.estimate import estimate
from costmodel.timing.calibration.load import find_calibration

TARGETS_S = {
    "shell, table": 0.3,
    "shell, JSON": 0.3,
    "import costmodel": 0.05,
    "API, totals": 0.001,
    "API, calibrated": 0.001,
    "API, all op rows": 0.01,
}
"""Most seconds that each may take on two cores."""
ROOT = Path(__file__).resolve().parents[1]
COMMAND = [
    "-m",
    "costmodel",
    "estimate",
    "--model",
    "llama2-7b",
    "--hw",
    "a100-sxm-80gb",
    "--decompose",
    "layers=2,17,31 tensors=all rank=1 form=tucker",
]


def seconds_of(arguments: list[str], root: Path = ROOT) -> tuple[float, float]:
    """Wall and processor time of this interpreter with `arguments` on the checkout `root`; other work on the machine
    slows the wall's."""
    own = {"PYTHONPATH": str(root), "PYTHONPYCACHEPREFIX": str(Path(tempfile.gettempdir()) / "costmodel-benchmark")}
    environment = {**os.environ, **own, "PYTHONDONTWRITEBYTECODE": ""}  # compiled once, as an installed package is
    start, before = time.perf_counter(), os.times()
    subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL, cwd=root, env=environment)
    wall, after = time.perf_counter() - start, os.times()
    return wall, after.children_user + after.children_system - before.children_user - before.children_system


def heterogeneous(seed: int) -> Decomposition:
    """Every weight of Llama 2 7B factored, each to a rank and form of its own."""
    rng = random.Random(seed)
    factors: dict[Site, Factor] = {}
    for layer in range(32):
        for tensor in load_model("llama2-7b").tensors:
            form = LowRank(rng.randint(1, 2000)) if rng.random() < 0.5 else Tucker(rng.randint(1, 1600), 64)
            factors[Site(layer, tensor.name)] = form
    return Decomposition(factors)


def medians(pairs: list[tuple[float, float]]) -> tuple[float, float]:
    """Of wall and processor times, each by itself."""
    wall, processor = zip(*pairs, strict=True)
    return statistics.median(wall), statistics.median(processor)


def median(run: Callable[[Decomposition], object], configurations: list[Decomposition]) -> tuple[float, float]:
    """Median wall and processor seconds of `run` over configurations, after one that fills the caches; garbage
    collected in between."""
    run(configurations[0])
    samples = []
    for configuration in configurations:
        gc.collect()
        start, busy = time.perf_counter(), time.process_time()
        run(configuration)
        samples.append((time.perf_counter() - start, time.process_time() - busy))
    return medians(samples)


def measure(repeats: int) -> dict[str, tuple[float, float]]:
    """Median wall and processor seconds of each entry of TARGETS_S; `import costmodel` over an interpreter that
    imports nothing."""
    shell, as_json, importing = [], [], []
    for _ in range(repeats):
        shell.append(seconds_of(COMMAND))
        as_json.append(seconds_of([*COMMAND, "--format", "json"]))
        bare = seconds_of(["-c", "pass"])
        loaded = seconds_of(["-c", "import costmodel"])
        importing.append((loaded[0] - bare[0], loaded[1] - bare[1]))
    model, hardware = load_model("llama2-7b"), load_hardware("a100-sxm-80gb")
    works = (Workload.prefill(512), Workload.decode(513))
    calibration = find_calibration("auto", hardware, works[0].dtype, works[0].runtime)
    configurations = [heterogeneous(seed) for seed in range(10 * repeats)]
    return {
        "shell, table": medians(shell),
        "shell, JSON": medians(as_json),
        "import costmodel": medians(importing),
        "API, totals": median(lambda each: estimate(model, hardware, each, works), configurations),
        "API, calibrated": median(
            lambda each: estimate(model, hardware, each, works, calibration=calibration), configurations
        ),
        "API, all op rows": median(
            lambda each: [phase.op_rows() for phase in estimate(model, hardware, each, works).phases], configurations
        ),
    }


def compare(other: Path, repeats: int) -> None:
    """Print the least processor seconds of the shell here and on another checkout, each run in turn: on a machine with
    other work they say more than medians."""
    least = {root: float("inf") for root in (ROOT, other)}
    for _ in range(repeats):
        for root in least:
            least[root] = min(least[root], seconds_of(COMMAND, root)[1])
    for root, seconds in least.items():
        print(f"{seconds * 1e3:7.0f} ms of the processor  {root}")


def main() -> int:
    """Print the table; exit code 1 when a target is missed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--repeats", type=int, default=10, help="runs from the shell; ten times as many in process")
    parser.add_argument("--against", metavar="FOLDER", type=Path, help="another checkout: its shell, run in turn")
    options = parser.parse_args()
    if options.against is not None:
        compare(options.against.resolve(), options.repeats)
        return 0
    measured = measure(options.repeats)
    print(f"{'llama2-7b on a100-sxm-80gb, both phases':42} {'wall':>10} {'processor':>10} {'target':>10}")
    for name, (wall, processor) in measured.items():
        missed = "  missed" if wall > TARGETS_S[name] else ""
        print(f"{name:42} {wall * 1e3:7.2f} ms {processor * 1e3:7.2f} ms {TARGETS_S[name] * 1e3:7.2f} ms{missed}")
    return int(any(wall > TARGETS_S[name] for name, (wall, _) in measured.items()))


if __name__ == "__main__":
    sys.exit(main())
