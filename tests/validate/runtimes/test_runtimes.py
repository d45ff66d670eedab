"""Exported files and compiled passes compute what PyTorch computes, or are refused."""

from __future__ import annotations

import functools
import importlib.util
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from checkpoints import dense_folder, factored_folder, logits  # noqa: E402
from expert_configs import experts  # noqa: E402
from validating import BERT, GPT2, LLAMA, MISTRAL, MIXED_WINDOWS, OPT, QWEN3, predictor, tiny_spec  # noqa: E402

from costmodel.cli import run  # noqa: E402
from costmodel.decomposition.factors import Decomposition, LowRank, Site  # noqa: E402
from costmodel.errors import InputError  # noqa: E402
from costmodel.forward.workload import Workload  # noqa: E402
from costmodel.units import DType  # noqa: E402
from validate.cli import cli  # noqa: E402
from validate.devices.cpu import CpuDevice  # noqa: E402
from validate.errors import MeasurementError  # noqa: E402
from validate.factors.replace import RandomFactors, Replacement  # noqa: E402
from validate.hf import load_factored  # noqa: E402
from validate.models.build import build_model, set_experts  # noqa: E402
from validate.models.passes import make_pass  # noqa: E402
from validate.plans.case import Case  # noqa: E402
from validate.runtimes import folder, passes  # noqa: E402
from validate.runtimes.compiled import compiled_pass, require_compiler  # noqa: E402
from validate.runtimes.export import CachedPass, names_of  # noqa: E402
from validate.runtimes.onnx import onnx_pass  # noqa: E402
from validate.runtimes.stacks import stack_options  # noqa: E402
from validate.speed.recording import record_missing  # noqa: E402
from validate.speed.records import SAMPLES, read_samples  # noqa: E402
from validate.speed.runner import Runner  # noqa: E402
from validate.speed.subject import Subject  # noqa: E402
from validate.speed.timing import TimingPlan  # noqa: E402
from validate.store.journal import Journal  # noqa: E402

CPU = torch.device("cpu")
MIXED = ["layers=0 rank=7", "layers=2 tensors=mlp rank=9 form=tucker", "layers=1 form=drop"]
WORKS = (Workload.prefill(6, batch=2, dtype=DType.FP32), Workload.decode(9, batch=2, dtype=DType.FP32))
EXPORTED = {"llama": LLAMA, "gpt2": GPT2, "opt": OPT, "qwen3": QWEN3, "mistral": MISTRAL, "mixtral": experts("mixtral")}


@pytest.mark.slow
@pytest.mark.parametrize("name", EXPORTED)
def test_an_exported_file_generates_as_the_model_does(name: str, tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    config = EXPORTED[name]
    factored_folder(dense_folder(tmp_path / "dense", config), tmp_path / "out", MIXED)
    assert run(cli, ["export", "onnx", str(tmp_path / "out"), "--out", str(tmp_path / "model.onnx")]) == 0
    session = onnxruntime.InferenceSession(str(tmp_path / "model.onnx"), providers=["CPUExecutionProvider"])
    model: Any = load_factored(tmp_path / "out")
    spec = tiny_spec(config)
    inputs, outputs = names_of(2)
    assert [each.name for each in session.get_inputs()] == inputs
    tokens = torch.tensor([[5, 9, 17, 3]])
    new, cache = tokens, [torch.zeros(1, spec.num_kv_heads, 0, spec.head_dim) for _ in range(4)]
    for _ in range(8):
        feed = {name: each.numpy() for name, each in zip(inputs, [new, *cache], strict=True)}
        found, *rest = (torch.from_numpy(each) for each in session.run(outputs, feed))
        expected = logits(model, tokens)[:, -1]
        assert passes.difference_of(found[:, -1], expected) < 1e-4
        new, cache = found[:, -1].argmax(-1, keepdim=True), rest
        tokens = torch.cat([tokens, new], dim=1)
    assert run(cli, ["export", "onnx", str(tmp_path / "out"), "--out", str(tmp_path / "model.onnx")]) == 2


def test_what_is_not_exported(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    dense = dense_folder(tmp_path / "dense", BERT)
    assert run(cli, ["export", "onnx", str(dense), "--out", str(tmp_path / "model.onnx")]) == 2
    assert run(cli, ["export", "onnx", str(tmp_path / "none"), "--out", str(tmp_path / "model.onnx")]) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["dense"]


@pytest.mark.parametrize("place", [0, -1], ids=["logits", "last value"])
def test_a_file_that_gives_nan_anywhere_is_not_written(
    place: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dense = dense_folder(tmp_path / "dense", LLAMA)
    made: list[CachedPass] = []

    def export(model: Any, shape: Any, path: Path) -> None:
        made.append(CachedPass(model, shape.windows).eval())
        path.touch()

    class Session:
        def run(self, _: Any, feed: dict[str, Any]) -> list[Any]:
            new, *past = map(torch.from_numpy, feed.values())
            with torch.no_grad():
                outputs = [each.numpy().copy() for each in made[0](new, past)]
            outputs[place].fill(float("nan"))
            return outputs

    monkeypatch.setattr(folder, "export_onnx", export)
    monkeypatch.setattr(folder, "open_session", lambda _: Session())
    with pytest.raises(MeasurementError, match="differ by nan"):
        folder.export_folder(dense, tmp_path / "model.onnx")
    assert [path.name for path in tmp_path.iterdir()] == ["dense"]


@pytest.mark.parametrize(
    "name",
    [
        "llama",
        *(
            pytest.param(name, marks=pytest.mark.slow)
            for name in ("gpt2", "opt", "mixed", "bert", "mixtral", "gpt_oss")
        ),
    ],
)
@pytest.mark.parametrize("work", [WORKS[0], pytest.param(WORKS[1], marks=pytest.mark.slow)], ids=["prefill", "decode"])
def test_a_factored_pass_is_one_graph(name: str, work: Workload) -> None:
    """Without a code generator: any break of the graph is an error."""
    config = {**EXPORTED, "mixed": MIXED_WINDOWS, "bert": BERT, "gpt_oss": experts("gpt_oss")}[name]
    spec = tiny_spec(config)
    if spec.is_encoder and work is WORKS[1]:
        return
    decomposition = Decomposition(
        {Site(0, spec.tensors[0].name): LowRank(5), Site(1, spec.tensors[-1].name): LowRank(3)}
    )
    model = build_model(config, spec, dtype=DType.FP32, device=CPU)
    if spec.experts is not None:
        set_experts(model, "grouped_mm")
    with Replacement(model, spec, decomposition, RandomFactors(0)), torch.inference_mode():
        plain = make_pass(model, spec, decomposition, work, CPU)
        torch.compiler.reset()
        passes.require_close(compiled_pass(plain, backend="eager"), plain, "torch.compile")


def test_a_break_and_another_result_are_told() -> None:
    def broken() -> Any:
        torch._dynamo.graph_break()
        return torch.zeros(1)

    torch.compiler.reset()
    with pytest.raises(MeasurementError, match="graph_break"):
        compiled_pass(broken, backend="eager")
    expected = torch.tensor([1.0, 2.0])
    with pytest.raises(MeasurementError, match=r"outputs of a stack differ by 0\.5 of the largest; allowed: 0\.0001"):
        passes.require_close(lambda: torch.tensor([1.0, 3.0]), lambda: expected, "a stack")
    with pytest.raises(MeasurementError, match="differ by nan"):
        passes.require_close(lambda: torch.tensor([1.0, torch.nan]), lambda: expected, "a stack")
    assert passes.require_close(lambda: expected * 1.00009, lambda: expected, "a stack").difference > 8e-5


def test_a_sample_by_a_stack_holds_both_differences(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passes, "compiled_pass", functools.partial(compiled_pass, backend="eager"))
    subject = Subject(LLAMA, tiny_spec(LLAMA), CpuDevice(1), DType.FP32)
    plan = TimingPlan(precision=0.5, budget_s=0.1, max_pairs=8)
    work = Workload.decode(9, dtype=DType.FP32, **stack_options("compile", "cpu", DType.FP32, subject.spec))
    decomposition = Decomposition({Site(0, "q_proj"): LowRank(5)}, dropped=frozenset({1}))
    case = Case(index=0, spec=subject.spec, decomposition=decomposition, work=work)
    with Journal(tmp_path / "run", SAMPLES, resume=False) as journal:
        record_missing(Runner(subject, predictor(), plan).measured, [case], journal, lambda sample: None)
    (sample,) = read_samples(tmp_path / "run")
    assert sample.status == "ok", sample.failure
    assert sample.work() == work
    assert sample.outputs is not None
    assert 0 <= sample.outputs.candidate <= sample.outputs.tolerance == 1e-4
    assert sample.memory is None

    def other(plain: Any) -> Any:
        return lambda: plain() + 1

    monkeypatch.setattr(passes, "compiled_pass", other)
    failure = Runner(subject, predictor(), plan).measure(case).failure
    assert failure is not None
    assert (failure.stage, failure.kind) == ("timing", "identity")


@pytest.mark.parametrize(
    ("runtime", "kind", "dtype", "config", "told"),
    [
        ("onnx", "cuda", DType.FP32, LLAMA, "got 'cuda'; allowed: cpu"),
        ("onnx", "cpu", DType.BF16, LLAMA, "got 'bf16'; allowed: fp32"),
        ("onnx", "cpu", DType.FP32, BERT, "takes decoders"),
        ("onnx", "cpu", DType.FP32, experts("deepseek_v3"), "not latent vectors"),
    ],
)
def test_what_a_runtime_cannot_run_is_refused(
    runtime: str, kind: str, dtype: DType, config: dict[str, Any], told: str
) -> None:
    with pytest.raises(InputError, match=told):
        stack_options(runtime, kind, dtype, tiny_spec(config))


def test_a_machine_without_a_compiler_or_a_package_is_told_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*_: Any) -> Any:
        raise RuntimeError("no code\ngenerator")

    with pytest.raises(InputError, match=r"torch\.compile does not work here: .*no code generator"):
        require_compiler(CPU, backend=broken)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(InputError, match="finds no C\\+\\+ compiler"):
        require_compiler(CPU)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *_: None)
    given = ["--model", "llama-70m", "--num-layers", "1", "--hw", "epyc-9654", "--device", "cpu"]
    assert run(cli, [*given, "--runtime", "onnx", "--out", str(tmp_path / "run")]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_onnx_refuses_a_window_that_forgets() -> None:
    spec = tiny_spec(MISTRAL)
    work = Workload.decode(9, dtype=DType.FP32)
    pytest.importorskip("onnxruntime")
    with pytest.raises(InputError, match="longer than a sliding window: got 9; allowed: to 8"):
        onnx_pass(torch.nn.Identity(), spec, Decomposition(), work, 0)


@pytest.mark.slow
@pytest.mark.parametrize("runtime", ["onnx", "compile"])
def test_a_factored_folder_is_timed_by_another_runtime(runtime: str, tmp_path: Path) -> None:
    for package in ("onnxruntime", "onnxscript") if runtime == "onnx" else ():
        pytest.importorskip(package)
    factored_folder(dense_folder(tmp_path / "dense", LLAMA), tmp_path / "out", MIXED)
    few = ["--batch", "1", "--seq-len", "8", "--kv-len", "16", "--budget", "0.1", "--precision", "50"]
    given = ["--model", str(tmp_path / "out"), "--hw", "epyc-9654", "--runtime", runtime, *few]
    assert run(cli, [*given, "--out", str(tmp_path / "run")]) == 0
    samples = read_samples(tmp_path / "run")
    assert [sample.failure for sample in samples] == [None] * 4
    assert len({sample.workload["stack"] for sample in samples}) == 1
    assert all(sample.outputs and sample.outputs.candidate < 1e-4 and sample.predicted for sample in samples)
    assert f"by {samples[0].workload['stack']}" in (tmp_path / "run" / "report.html").read_text()
    assert run(cli, ["--out", str(tmp_path / "run"), "--resume", "--runtime", "eager"]) == 1
