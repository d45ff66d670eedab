"""Dense and factored passes of one decoder by a runtime, in turns: raw seconds and the ratio with its interval.

    python benchmarks/runtimes.py --runtime onnx --phase decode --model smollm2-135m --decompose "rank=50%"

Weights are random. docs/deploy.md has what it gave.
"""

from __future__ import annotations

import argparse
import json
import os
import time

import torch

from costmodel.decomposition.factors import Decomposition
from costmodel.decomposition.text import parse_decomposition
from costmodel.families.load import load_model, read_config
from costmodel.forward.workload import Workload
from costmodel.units import DType
from validate.devices.cpu import CpuDevice
from validate.models.passes import Pass, make_pass
from validate.runtimes.passes import StackPasses
from validate.runtimes.stacks import stack_options
from validate.speed.statistics import median, ratio_interval
from validate.speed.subject import Subject


def main() -> None:
    """Build both, take turns for the seconds asked for, and print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--num-layers", type=int)
    parser.add_argument("--decompose", action="append", required=True)
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

    with torch.inference_mode():
        runs = [run_of(parse_decomposition(given.decompose, spec)), run_of(Decomposition())]
        subject.device.time(runs * 3, work.runtime)
        times: list[float] = []
        end = time.monotonic() + given.seconds
        while time.monotonic() < end:
            times += subject.device.time(runs, work.runtime)
    factored, dense = times[::2], times[1::2]
    ratio, low, high = ratio_interval(factored, dense, 1)
    answer = {
        "question": vars(given),
        "largest_difference": max(differences, default=None),
        "ratio": ratio,
        "ratio_low": low,
        "ratio_high": high,
        "median_s": {"factored": median(factored), "dense": median(dense)},
        "load": os.getloadavg()[0],
        "seconds": {"factored": factored, "dense": dense},
    }
    print(json.dumps(answer))


if __name__ == "__main__":
    main()
