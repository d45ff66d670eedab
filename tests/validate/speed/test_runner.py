"""Samples to records: what a good one holds, and that every fault leaves a record or one line, never a lost sample."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from validating import FAMILIES, LLAMA, FakeGpu, predictor, tiny_spec, workloads  # noqa: E402

from costmodel.decomposition.factors import Decomposition  # noqa: E402
from costmodel.decomposition.text import parse_decomposition  # noqa: E402
from costmodel.errors import HardwareError  # noqa: E402
from costmodel.forward.workload import Runtime, Workload  # noqa: E402
from costmodel.units import DType  # noqa: E402
from validate.devices.cpu import CpuDevice  # noqa: E402
from validate.errors import RunError  # noqa: E402
from validate.plans.case import Case  # noqa: E402
from validate.speed.recording import record_missing  # noqa: E402
from validate.speed.records import SAMPLES, Sample, read_samples  # noqa: E402
from validate.speed.runner import Runner  # noqa: E402
from validate.speed.subject import Subject, resident_bytes  # noqa: E402
from validate.speed.timing import TimingPlan  # noqa: E402
from validate.store.journal import Journal  # noqa: E402

PLAN = TimingPlan(precision=0.5, budget_s=0.2, max_pairs=30)


def runner(tmp_path: Path, config: dict[str, Any] = LLAMA, device: Any = None) -> tuple[Runner, Subject, Journal]:
    device = device or CpuDevice(1)
    device.cache_bytes = device.placements = 1  # one copy of each model is made
    subject = Subject(config, tiny_spec(config), device, DType.FP32)
    journal = Journal(tmp_path / "run", SAMPLES, resume=True)
    hardware = "epyc-9654" if subject.device.kind == "cpu" else "h100-sxm-80gb"
    return Runner(subject, predictor(hardware), PLAN), subject, journal


def case(
    subject: Subject, specs: list[str], index: int = 0, work: Workload | None = None, repeat: bool = False
) -> Case:
    return Case(
        index=index,
        spec=subject.spec,
        decomposition=parse_decomposition(specs, subject.spec),
        work=work or workloads(subject.spec)[-1],
        repeat=repeat,
    )


@pytest.mark.parametrize("family", FAMILIES)
def test_a_good_sample(tmp_path: Path, family: str) -> None:
    run, subject, _ = runner(tmp_path, FAMILIES[family])
    record = run.measure(case(subject, ["rank=4"], repeat=True))
    assert record.status == "ok", record.failure
    assert [check.name for check in record.identity if check.found == check.expected] == [
        "params",
        "weight_bytes",
        "flops",
        "kv_cache_bytes",
    ]
    assert record.timing is not None
    assert record.repeat is not None
    assert len(record.timing.candidate.seconds) == len(record.timing.dense.seconds) >= 6
    assert 0 < record.timing.ratio_low <= record.timing.ratio <= record.timing.ratio_high
    assert record.energy is None  # this machine has no counter: not an estimate in its place
    assert record.predicted[0].level == "datasheet"
    assert record.environment["versions"]["torch"]
    assert record.memory is not None
    assert record.memory.weight_bytes == record.identity[1].found


def test_peak_memory_on_a_cpu_is_near_the_prediction(tmp_path: Path) -> None:
    run, subject, _ = runner(tmp_path)
    for work in workloads(subject.spec):
        for specs in ([], ["rank=4"], ["layers=1 form=drop"]):
            record = run.measure(case(subject, specs, work=work))
            assert record.memory is not None
            measured = record.memory.peak_allocated_bytes
            assert measured == pytest.approx(record.predicted[0].peak_memory_bytes, rel=0.05)


def test_copies_keep_small_models_cold(tmp_path: Path) -> None:
    _, subject, _ = runner(tmp_path)
    subject.device.cache_bytes = resident_bytes(subject.model) * 2  # type: ignore[misc]
    subject.device.placements = 1  # type: ignore[misc]
    candidate = subject.candidate(parse_decomposition(["rank=4"], subject.spec))
    pair = subject.pair(case(subject, ["rank=4"]), candidate)
    assert len(pair.references) == len(pair.candidates)
    assert 4 < len(pair.candidates) <= 8
    assert len({tree.model.embed_tokens.weight.data_ptr() for tree in pair.candidates + pair.references}) == len(
        pair.candidates + pair.references
    )
    subject.device.cache_bytes = 1  # type: ignore[misc]
    pair = subject.pair(case(subject, ["rank=4"]), candidate)
    assert (pair.candidates, pair.references) == ([candidate], [subject.model])


def test_copies_lie_at_several_places_where_there_is_room(tmp_path: Path) -> None:
    _, subject, _ = runner(tmp_path)
    candidate = subject.candidate(parse_decomposition(["rank=4"], subject.spec))
    size = resident_bytes(candidate) + resident_bytes(subject.model)
    subject.device.cache_bytes, subject.device.placements = 1, 4  # type: ignore[misc]
    for memory, copies in ((80 * size, 4), (13 * size, 3), (7 * size, 1), (size, 1)):
        subject.device.memory_bytes = memory  # type: ignore[misc]
        assert len(subject.pair(case(subject, ["rank=4"]), candidate).candidates) == copies


def test_records_are_appended_and_not_measured_again(tmp_path: Path) -> None:
    run, subject, journal = runner(tmp_path)
    cases = [case(subject, specs, index) for index, specs in enumerate([[], ["rank=2"], ["rank=3"]])]
    seen: list[Sample] = []
    record_missing(run.measured, cases[:2], journal, seen.append)
    record_missing(run.measured, cases, journal, seen.append)
    assert [record.index for record in seen] == [0, 1, 2]
    assert [record.id for record in read_samples(journal.folder)] == [each.id for each in cases]


def boom(error: Exception) -> Callable[..., Any]:
    def raising(*args: object, **kwargs: object) -> None:
        raise error

    return raising


FAULTS: dict[str, tuple[str, Exception, str, str, str]] = {
    "out of memory in the build": (
        "validate.speed.subject.Replacement",
        torch.OutOfMemoryError("CUDA out of memory."),
        "build",
        "out-of-memory",
        "out of",
    ),
    "out of memory in the pass": (
        "validate.speed.runner.compare",
        torch.OutOfMemoryError("CUDA out of memory."),
        "timing",
        "out-of-memory",
        "out of",
    ),
    "host memory": ("validate.speed.runner.identities", MemoryError(), "identity", "out-of-memory", "no message"),
    "device error": (
        "validate.speed.runner.compare",
        RuntimeError("CUDA error: an illegal memory access"),
        "timing",
        "RuntimeError",
        "illegal",
    ),
    "energy counter": (
        "validate.speed.runner.measure_energy",
        OSError("counter gone"),
        "energy",
        "OSError",
        "counter gone",
    ),
    "prediction": (
        "validate.speed.predictions.Predictor.predictions",
        HardwareError("no bf16 rate"),
        "predict",
        "input",
        "no bf16 rate",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_recorded_and_the_run_goes_on(tmp_path: Path, fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    where, error, stage, kind, text = FAULTS[fault]
    run, subject, journal = runner(tmp_path)
    cases = [case(subject, [f"rank={rank}"], rank) for rank in (1, 2, 3)]
    done: list[Sample] = []

    def progress(record: Sample) -> None:
        done.append(record)
        if record.index == 1:
            monkeypatch.setattr(where, boom(error))
        else:
            monkeypatch.undo()

    record_missing(run.measured, cases, journal, progress)
    assert [record.status for record in done] == ["ok", "failed", "ok"]
    failure = done[1].failure
    assert failure is not None
    assert (failure.stage, failure.kind) == (stage, kind)
    assert text in failure.reason
    assert "\n" not in failure.reason
    assert read_samples(journal.folder) == done


def test_a_model_that_is_not_the_one_priced_is_a_failed_sample(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run, subject, _ = runner(tmp_path)
    monkeypatch.setattr(subject, "candidate", lambda decomposition: subject.model)  # factored in name only
    record = run.measure(case(subject, ["rank=4"]))
    assert record.status == "failed"
    assert record.failure is not None
    assert (record.failure.stage, record.failure.kind) == ("identity", "identity")
    assert "params" in record.failure.reason
    assert "flops" in record.failure.reason
    assert record.identity[0].found != record.identity[0].expected
    assert record.timing is None


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_give_no_number_are_a_failed_sample(tmp_path: Path, value: float) -> None:
    run, subject, _ = runner(tmp_path)
    subject.model.model.layers[1].mlp.down_proj.weight[3, 2] = value
    dense, replaced = run.measure(case(subject, ["rank=4 layers=0"])), run.measure(case(subject, ["rank=4"]))
    for record in (dense, replaced):  # the second one factored the bad weight away, but its reference still has it
        assert record.failure is not None
        assert record.failure.kind == "non-finite"
        assert "outputs are NaN or infinite" in record.failure.reason


def test_a_failing_factorisation_of_real_weights_is_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = tiny_spec(LLAMA)
    Subject(LLAMA, spec, CpuDevice(1), DType.FP32).model.save_pretrained(tmp_path / "model")
    subject = Subject(LLAMA, spec, CpuDevice(1), DType.FP32, weights=tmp_path / "model")
    run = Runner(subject, predictor(), PLAN)
    good = run.measure(case(subject, ["rank=4 form=tucker"]))
    assert (good.status, good.model.weights, good.model.factors) == ("ok", "model", "factorised")
    monkeypatch.setattr("torch.linalg.svd", boom(RuntimeError("failed to converge")))
    bad = run.measure(case(subject, ["rank=4"]))
    assert bad.failure is not None
    assert (bad.failure.stage, bad.failure.kind) == ("build", "factorisation")
    assert "failed to converge" in bad.failure.reason


def test_a_full_disk_ends_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run, subject, journal = runner(tmp_path)
    monkeypatch.setattr(Journal, "_write", boom(OSError(28, "No space left on device")))
    with pytest.raises(RunError, match="No space left on device; 0 samples are safe, --resume continues"):
        record_missing(run.measured, [case(subject, ["rank=1"])], journal, lambda record: None)


def test_an_interrupt_is_passed_on_after_the_last_whole_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run, subject, journal = runner(tmp_path)
    cases = [case(subject, [f"rank={rank}"], rank) for rank in (1, 2)]

    def progress(record: Sample) -> None:
        monkeypatch.setattr("validate.speed.runner.compare", boom(KeyboardInterrupt()))  # type: ignore[arg-type]

    with pytest.raises(KeyboardInterrupt):
        record_missing(run.measured, cases, journal, progress)
    assert [record.index for record in read_samples(journal.folder)] == [1]


def test_a_gpu_is_asked_for_graphs_memory_and_energy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The whole path of a CUDA device through the same code, on a device that pretends."""
    monkeypatch.setattr("validate.speed.energy.WINDOW_S", 0.02)
    monkeypatch.setattr("validate.speed.runner.measure_energy.__defaults__", (0.02,))
    gpu = FakeGpu()
    run, subject, _ = runner(tmp_path, device=gpu)
    before = [parameter.data_ptr() for parameter in subject.model.parameters()]
    graph = Workload.decode(17, dtype=DType.FP32, runtime=Runtime.GRAPH)
    record = run.measure(case(subject, ["rank=4"], work=graph))
    assert record.status == "ok", record.failure
    assert gpu.captured == 2
    assert gpu.released >= 2
    assert record.energy is not None
    assert record.energy.candidate_j > 0
    assert record.memory is not None
    assert (record.memory.peak_allocated_bytes, record.memory.peak_reserved_bytes) == (1000, 2000)
    assert len(before) == len(list(subject.model.parameters()))
    gpu.throttle = ["SwPowerCap"]
    throttled = run.measure(case(subject, ["rank=5"], work=graph))
    assert throttled.timing is not None
    assert throttled.timing.disturbed == ["throttled: SwPowerCap"]


def test_dense_weights_are_away_while_memory_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    from validate.speed.memory import moved_away

    gpu = FakeGpu()
    subject = Subject(LLAMA, tiny_spec(LLAMA), gpu, DType.FP32)
    candidate = subject.candidate(parse_decomposition(["layers=0 tensors=q_proj rank=2"], subject.spec))
    own = subject.model.model.layers[0].self_attn.q_proj.weight
    weights = own.clone()
    moves: list[tuple[int, str]] = []
    original = torch.Tensor.to

    def to(tensor: Any, *args: Any, **kwargs: Any) -> Any:
        moves.append((tensor.numel(), str(args[0])))
        return original(tensor, *args, **kwargs)

    monkeypatch.setattr(torch.Tensor, "to", to)
    with moved_away(candidate, subject.model, gpu):
        assert moves == [(weights.numel(), "cpu")]
        assert own.numel() == 0
    assert moves == [(weights.numel(), "cpu"), (weights.numel(), "cpu")]  # the pretended device is the CPU
    assert torch.equal(own, weights)
    moves.clear()
    with moved_away(candidate, subject.model, gpu, subject.remake):
        assert own.numel() == 0
    assert moves == []  # made again instead of kept
    assert torch.equal(own, weights)


def test_a_dense_case_compares_the_model_with_itself(tmp_path: Path) -> None:
    run, subject, _ = runner(tmp_path)
    record = run.measure(case(subject, []))
    assert record.strata.form == "dense"
    assert record.predicted[0].dense_s == record.predicted[0].decomposed_s
    assert record.config == Decomposition().to_json()
