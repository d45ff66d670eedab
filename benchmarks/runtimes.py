"""Dense and factored passes of one decoder by a runtime, in turns: raw seconds and the ratios with their intervals.

    python benchmarks/runtimes.py --runtime onnx --phase decode --model smollm2-135m --decompose "rank=50%"

The dense model takes part twice: what its second ratio is from 1 is what the machine alone does. Every turn times
all of them once, in an order of its own. Weights are random. docs/deploy.md has what it gave.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import random
import time

import torch

from costmodel.decomposition.factors import Decomposition
from costmodel.decomposition.text import parse_decomposition
from costmodel.families.load import load_model, read_config
from costmodel.forward.workload import Workload
from costmodel.units import DType
from validate.devices.cpu import CpuDevice
from validate.models.passes import Pass, make_pass
from validate.plans.configs_file import load_configs
from validate.runtimes.passes import StackPasses
from validate.runtimes.stacks import stack_options
from validate.speed.statistics import median, ratio_interval
from validate.speed.subject import Subject


def main() -> None:
    """Build all, take turns for the seconds asked for, and print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--num-layers", type=int)
    parser.add_argument("--decompose", action="append", default=[], help="a configuration each; SPECs of one by ;")
    parser.add_argument("--configs", help="a file of configurations, as validate --configs takes it")
    parser.add_argument("--runtime", choices=("eager", "compile", "onnx"), required=True)
    parser.add_argument("--phase", choices=("prefill", "decode"), required=True)
    parser.add_argument("--length", type=int, default=64, help="tokens of the prompt, or attended to")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=40.0)
    given = parser.parse_args()

    spec = load_model(given.model, num_layers=given.num_layers)
    subject = Subject(read_config(given.model), spec, CpuDevice(given.threads), DType.FP32)
    options = {} if given.runtime == "eager" else stack_options(given.runtime, "cpu", DType.FP32, spec)
    kind = Workload.prefill if given.phase == "prefill" else Workload.decode
    work = kind(given.length, dtype=DType.FP32, **options)
    passes = StackPasses(spec, subject.device.torch_device, 0)
    differences: list[float] = []

    def run_of(decomposition: Decomposition) -> Pass:
        tree = subject.candidate(decomposition)
        if given.runtime == "eager":
            return make_pass(tree, spec, decomposition, work, subject.device.torch_device)
        checked = passes.make(tree, decomposition, work)
        differences.append(checked.difference)
        return checked.run

    named = {words: parse_decomposition(words.split(";"), spec) for words in given.decompose}
    if given.configs:
        named |= {f"{given.configs}[{index}]": each for index, each in enumerate(load_configs(given.configs, spec))}
    with torch.inference_mode():
        runs = {"dense": run_of(Decomposition()), "dense, a second time": run_of(Decomposition())}
        runs |= {name: run_of(each) for name, each in named.items()}
        times = turns(runs, given.seconds)
    answer = {
        "question": vars(given),
        "clock": "processor time of the process, turns in random order",
        "largest_difference": max(differences, default=None),
        "ratios": {
            name: dict(zip(("ratio", "low", "high"), ratio_interval(seconds, times["dense"]), strict=True))
            for name, seconds in times.items()
            if name != "dense"
        },
        "median_s": {name: median(seconds) for name, seconds in times.items()},
        "load": os.getloadavg()[0],
        "seconds": times,
    }
    print(json.dumps(answer))


def turns(runs: dict[str, Pass], seconds: float) -> dict[str, list[float]]:
    """Processor seconds of each, once in every turn after two that do not count."""
    order = random.Random(0)
    times: dict[str, list[float]] = {name: [] for name in runs}
    names, end = list(runs), time.monotonic() + seconds
    for turn in itertools.count():
        order.shuffle(names)
        for name in names:
            start = time.process_time()
            runs[name]()
            if turn >= 2:
                times[name].append(time.process_time() - start)
        if turn >= 2 and time.monotonic() > end:
            break
    return times


if __name__ == "__main__":
    main()
