"""ONNX Runtime's products against PyTorch's linears, in turns, with weights that no cache holds, in processor time.

    python benchmarks/products.py --rows 1 --rows 64

The figure time.gemm of `hw_profiles/stacks/onnxruntime-cpu.toml` comes from it. Processor time leaves out what other
programs run in between, though not what they take of caches and memory.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from statistics import median

import click
import numpy as np
import torch

from costmodel.cli import run
from costmodel.cli.common import say

HEAD = (576, 49152)
DENSE = ((576, 1536), (1536, 576), (576, 576), (576, 192))
"""In and out features of SmolLM2-135M's layers."""
RANKS = (64, 208, 209, 312)
COLD_BYTES = 96_000_000
"""Of the copies of a weight that take turns: three times the last cache of the machine that was measured."""


def by_onnxruntime(rows: int, shape: tuple[int, int], copies: int) -> Callable[[], object]:
    """Products of one input with every copy of a weight, one behind the other, on one thread."""
    import onnxruntime
    from onnx import TensorProto, helper, numpy_helper

    rng = np.random.default_rng(0)
    names = [f"product{number}" for number in range(copies)]
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", f"w{name}"], [name]) for name in names],
        "products",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, rows, shape[0]])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, rows, shape[1]]) for name in names],
        [numpy_helper.from_array(rng.standard_normal(shape, dtype=np.float32), f"w{name}") for name in names],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    x = rng.standard_normal((1, rows, shape[0]), dtype=np.float32)
    feed = {"x": onnxruntime.OrtValue.ortvalue_from_numpy(x)}
    return lambda: session.run_with_ort_values(names, feed)


def by_torch(rows: int, shape: tuple[int, int], copies: int) -> Callable[[], object]:
    """The same by PyTorch."""
    weights, x = [torch.randn(shape[1], shape[0]) for _ in range(copies)], torch.randn(1, rows, shape[0])
    return lambda: [torch.nn.functional.linear(x, weight) for weight in weights]


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--rows", multiple=True, default=(1, 64), show_default=True, type=click.IntRange(1))
@click.option("--rounds", default=8, show_default=True, type=click.IntRange(2))
@click.option("--out", metavar="FILE", help="JSON of every shape.")
def command(rows: tuple[int, ...], rounds: int, out: str | None) -> None:
    """Compare the times of single products."""
    torch.set_num_threads(1)
    thin = [pair for rank in RANKS for pair in ((576, rank), (rank, 1536), (1536, rank), (rank, 576))]
    found = []
    with torch.inference_mode():
        for count in rows:
            for shape in (HEAD, *DENSE, *thin):
                copies = max(1, min(60, round(COLD_BYTES / (4 * shape[0] * shape[1] * min(count, 4)))))
                pair = [make(count, shape, copies) for make in (by_onnxruntime, by_torch)]
                seconds: list[list[float]] = [[], []]
                for _ in range(rounds + 1):
                    for times, products in zip(seconds, pair, strict=True):
                        began = time.process_time()
                        products()
                        times.append((time.process_time() - began) / copies)
                onnx_s, torch_s = (median(times[1:]) for times in seconds)
                found.append({"rows": count, "in": shape[0], "out": shape[1], "onnx_s": onnx_s, "torch_s": torch_s})
                say(
                    f"{count} x {shape[0]} x {shape[1]}: {1e6 * onnx_s:.1f} us, PyTorch {1e6 * torch_s:.1f} us: "
                    f"{onnx_s / torch_s:.2f}"
                )
    if out:
        with open(out, "w") as file:
            json.dump(found, file, indent=1)


if __name__ == "__main__":
    run(command)
