"""Laws of every time model: datasheet, generation, probes, whole passes in both forms; and what the H100's rest on.

An operation's time has parts, bounds and an interval that fit together whatever made the number; more work takes no
less time as far as a model promises it; and nothing draws less than the idle power.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from costmodel.arrays import Floats
from costmodel.decomposition.factors import Decomposition, LowRank, Site
from costmodel.families.load import load_model
from costmodel.forward.cost import OpCost, fused_attention, gemm
from costmodel.forward.ops import Kind, Op
from costmodel.forward.work import AttentionShape
from costmodel.forward.workload import Runtime, Workload
from costmodel.hardware.profile import HardwareProfile, load_hardware, profile_folder
from costmodel.pricing.estimate import PhaseCosts, estimate
from costmodel.timing.calibration.additive import AdditiveForm, AdditiveTimes
from costmodel.timing.calibration.features import gemm_features
from costmodel.timing.calibration.load import find_calibration, load_calibration, shipped_calibration, time_model
from costmodel.timing.calibration.passes import Reach
from costmodel.timing.calibration.probes import CalibratedTimes
from costmodel.timing.calibration.record import Calibration
from costmodel.timing.calibration.scaled import ScaledForm, ScaledTimes
from costmodel.timing.columns import OpColumns, OpTimings, TimeModel
from costmodel.timing.datasheet import energy_joules
from costmodel.units import DType

A100, H100, EPYC = (load_hardware(name) for name in ("a100-sxm-80gb", "h100-sxm-80gb", "amd-epyc-2t"))
DEVICES = {A100: (DType.BF16, Runtime.GRAPH), H100: (DType.BF16, Runtime.GRAPH), EPYC: (DType.FP32, Runtime.EAGER)}
EXACT = 1e-12


def shipped(hardware: HardwareProfile) -> Calibration:
    found = shipped_calibration(hardware)
    assert found is not None
    return found


def model_of(hardware: HardwareProfile, calibration: Calibration | None) -> TimeModel:
    return time_model(hardware, *DEVICES[hardware], calibration)


def probes_of(hardware: HardwareProfile) -> CalibratedTimes:
    """The shipped forms by class of operation, without what whole passes corrected."""
    found = model_of(hardware, replace(shipped(hardware), passes=None, level="probes"))
    assert isinstance(found, CalibratedTimes)
    return found


UNMEASURED = [
    ("h100-pcie-80gb", DType.BF16, Runtime.GRAPH),
    ("a100-sxm-80gb", DType.FP32, Runtime.EAGER),
    ("t4", DType.FP16, Runtime.GRAPH),
    ("epyc-9654", DType.FP32, Runtime.EAGER),
]
"""On a sibling's calibration, and on numbers of a generation alone."""


def generation_model(name: str, dtype: DType, runtime: Runtime) -> TimeModel:
    hardware = load_hardware(name)
    return time_model(hardware, dtype, runtime, find_calibration("auto", hardware, dtype, runtime))


FACTORS = st.floats(0.05, 20)
REACHES = st.builds(Reach, low=st.floats(-2, 0), high=st.floats(0, 2))
ADDITIVE = st.builds(
    lambda hardware, factors, kernel_s, reach: AdditiveTimes(
        form=replace(
            AdditiveForm.of(hardware, DEVICES[hardware][0]), factors=(*map(float, factors), kernel_s), reach=reach
        ),
        level="samples",
        host_launch_s=0.0,
    ),
    st.sampled_from(list(DEVICES)),
    st.lists(st.one_of(st.just(0.0), FACTORS), min_size=6, max_size=6),
    st.floats(0, 1e-4),
    REACHES,
)
SCALED = st.builds(
    lambda hardware, factors, kernel_s, reach: ScaledTimes(
        form=ScaledForm(factors=(*factors, kernel_s), reach=reach),
        probes=probes_of(hardware),
        level="samples",
        host_launch_s=0.0,
    ),
    st.sampled_from(list(DEVICES)),
    st.lists(FACTORS, min_size=3, max_size=3),
    st.floats(0, 1e-4),
    REACHES,
)
MODELS = {
    "datasheet": st.sampled_from([model_of(hardware, None) for hardware in DEVICES]),
    "generation": st.sampled_from([generation_model(*device) for device in UNMEASURED]),
    "probes": st.sampled_from([probes_of(hardware) for hardware in DEVICES]),
    "additive": ADDITIVE,
    "scaled": st.one_of(SCALED, st.just(model_of(EPYC, shipped(EPYC)))),
}
"""Time models by what they were made from."""

SIZES = st.one_of(st.integers(1, 300), st.integers(4, 15).map(lambda power: 1 << power), st.integers(1, 60_000))
STREAM_KINDS: tuple[Kind, ...] = ("embedding", "attention", "kv_cache", "norm", "rope", "activation", "elementwise")


def a_gemm(m: int, n: int, k: int) -> Op:
    return Op(
        name="g", kind="gemm", cost=gemm(m, n, k, act_bytes=2, weight_dtype=DType.BF16), out_bytes=0, gemm=(m, n, k)
    )


def an_attention(batch: int, q_len: int, kv_len: int, heads: int, kv_heads: int, head_dim: int) -> Op:
    shape = (batch, q_len, kv_len, heads, kv_heads, head_dim)
    cost = fused_attention(AttentionShape(batch, q_len, kv_len, heads, kv_heads, head_dim), act_bytes=2, causal=True)
    return Op(name="a", kind="attention", cost=cost, out_bytes=0, attention=shape)


GEMMS = st.builds(a_gemm, SIZES, SIZES, SIZES)
ATTENTIONS = st.builds(
    lambda batch, q_len, past, kv_heads, groups, head_dim: an_attention(
        batch, q_len, q_len + past, kv_heads * groups, kv_heads, head_dim
    ),
    st.integers(1, 64),
    st.one_of(st.just(1), st.integers(1, 5000)),
    st.one_of(st.just(0), st.integers(0, 20_000)),
    st.integers(1, 40),
    st.integers(1, 4),
    st.sampled_from([64, 128]),
)
STREAMS = st.builds(
    lambda kind, flops, vector, read, kernels: Op(
        name="s",
        kind=kind,
        cost=OpCost(flops=flops, vector_flops=vector, act_read_bytes=read, kernels=kernels),
        out_bytes=0,
    ),
    st.sampled_from(STREAM_KINDS),
    st.one_of(st.just(0), st.integers(0, 10**14)),
    st.integers(0, 10**11),
    st.integers(0, 10**11),
    st.integers(1, 10),
)
OPS = st.lists(st.one_of(GEMMS, ATTENTIONS, STREAMS), min_size=1, max_size=8)


# --- One operation --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MODELS)
@given(data=st.data())
def test_parts_bounds_and_interval_fit_together(name: str, data: st.DataObject) -> None:
    """The order of the bounds holds to the last bit; what adds up does so to rounding."""
    model, ops = data.draw(MODELS[name]), data.draw(OPS)
    times = model.times(OpColumns.of(ops))
    for column in columns(times):
        assert np.isfinite(column).all()
        assert (column >= 0).all()
    for smaller, larger in (
        (times.lower_s, times.latency_s),
        (times.latency_s, times.upper_s),
        (times.p05_s, times.latency_s),
        (times.latency_s, times.p95_s),
        (times.busy_s, times.latency_s),
    ):
        assert (smaller <= larger).all()
    longest = np.maximum(times.compute_s, times.memory_s)
    total = times.compute_s + times.memory_s + times.overhead_s
    assert times.latency_s == pytest.approx(times.busy_s + times.overhead_s, rel=EXACT)
    assert (longest <= times.busy_s * (1 + EXACT)).all()
    assert (times.busy_s <= (times.compute_s + times.memory_s) * (1 + EXACT)).all()
    assert (longest <= times.lower_s * (1 + EXACT)).all()
    assert (total <= times.upper_s * (1 + EXACT)).all()
    shaped = np.array([op.gemm is not None for op in ops])
    assert (times.lower_s <= (longest + times.overhead_s) * (1 + EXACT))[shaped].all()
    assert (times.upper_s <= np.maximum(total, times.latency_s) * (1 + EXACT))[shaped].all()


@pytest.mark.parametrize("hardware", list(DEVICES), ids=lambda hardware: hardware.name)
@pytest.mark.parametrize("work", [(10**15, 1), (1, 10**15)], ids=["arithmetic", "traffic"])
def test_bounds_stay_in_order_where_arithmetic_or_traffic_is_all(
    hardware: HardwareProfile, work: tuple[int, int]
) -> None:
    """Then the bounds and the time are one number in three sums: rounding must not turn them around."""
    rng = np.random.default_rng(5)
    shapes = np.round(2 ** rng.uniform(5, 13, (3, 3000))).astype(np.int64)
    one = np.ones(3000, dtype=np.int64)
    flops, moved = work
    columns = OpColumns(
        kind="gemm",
        m=shapes[0],
        n=shapes[1],
        k=shapes[2],
        kernels=one,
        vector_flops=0 * one,
        executed_flops=flops * one,
        hbm_bytes=moved * one,
    )
    for model in (model_of(hardware, None), probes_of(hardware), model_of(hardware, of_level(hardware, "samples"))):
        times = model.times(columns)
        assert times.upper_s == pytest.approx(times.lower_s, rel=1e-9)
        assert (times.lower_s <= times.latency_s).all()
        assert (times.latency_s <= times.upper_s).all()


@pytest.mark.parametrize("name", MODELS)
@given(data=st.data())
def test_nothing_takes_no_time_and_an_operation_the_same_among_others(name: str, data: st.DataObject) -> None:
    model, ops = data.draw(MODELS[name]), data.draw(OPS)
    nothing = Op(name="n", kind="elementwise", cost=OpCost(), out_bytes=0)
    together = model.times(OpColumns.of([nothing, *ops]))
    assert [column[0] for column in columns(together)] == [0.0] * len(columns(together))
    for place, op in enumerate(ops, start=1):
        alone = model.times(OpColumns.of([op]))
        assert [column[place] for column in columns(together)] == [column[0] for column in columns(alone)]


@pytest.mark.parametrize("hardware", list(DEVICES), ids=lambda hardware: hardware.name)
def test_unfused_attention_takes_the_time_of_what_it_moves_and_computes(hardware: HardwareProfile) -> None:
    """Products of activations have no shape of a weight: priced by rate and bandwidth, never as nothing."""
    scores = OpCost(flops=10**12, act_read_bytes=10**9, kernels=1)
    softmax = OpCost(vector_flops=10**9, act_read_bytes=10**9, act_write_bytes=10**9, kernels=1)
    ops = [Op(name="u", kind="attention", cost=cost, out_bytes=0) for cost in (scores, softmax)]
    model = probes_of(hardware)
    general, work = model.streams["elementwise"], OpColumns.of(ops)
    times = model.times(work)
    assert (
        times.latency_s.tolist() == general.times(work.executed_flops, work.hbm_bytes, work.kernels).latency_s.tolist()
    )
    assert (times.latency_s > 0.2 * model_of(hardware, None).times(work).latency_s).all()
    beside = model.times(OpColumns.of([*ops, an_attention(1, 128, 128, 32, 32, 128)]))
    assert times.latency_s.tolist() == beside.latency_s[:2].tolist()


@pytest.mark.parametrize("name", MODELS)
@given(data=st.data())
def test_energy_lies_between_idle_and_peak_power(name: str, data: st.DataObject) -> None:
    """A pass draws at least the idle power and at most the peak power all the time."""
    times = data.draw(MODELS[name]).times(OpColumns.of(data.draw(OPS)))
    energy = energy_joules(A100, times.latency_s, times.busy_s)
    assert A100.idle_power_w is not None
    assert A100.peak_power_w is not None
    assert energy is not None
    assert (energy >= A100.idle_power_w * times.latency_s).all()
    assert (energy <= A100.peak_power_w * times.latency_s * (1 + EXACT)).all()


def test_bounds_of_the_additive_form_by_hand() -> None:
    """Twice the arithmetic and thrice the traffic of a square product: its time is their sum, its lower bound the
    larger one, and a kernel of 5 us is on top of both."""
    form = replace(AdditiveForm.of(A100, DType.BF16), factors=(2.0, 3.0, 1.0, 1.0, 1.0, 1.0, 5e-6))
    times = AdditiveTimes(form=form, level="samples", host_launch_s=0.0).times(OpColumns.of([a_gemm(4096, 4096, 4096)]))
    compute, memory = 2 * 2 * 4096**3 / 312e12, 3 * 3 * 4096**2 * 2 / 2.039e12
    assert times.lower_s == pytest.approx([compute + 5e-6])
    assert times.latency_s == times.upper_s == pytest.approx([compute + memory + 5e-6])
    assert times.busy_s == pytest.approx([compute + memory])


@given(st.sampled_from(list(DEVICES)), OPS, st.floats(0.1, 10), st.floats(0, 1e-4))
def test_the_scaled_form_multiplies_every_part_and_adds_to_the_overhead(
    hardware: HardwareProfile, ops: list[Op], factor: float, kernel_s: float
) -> None:
    """One factor for all classes: each part of the probes' time is so many times as long, and so is the busy part."""
    probes, work = probes_of(hardware), OpColumns.of(ops)
    form = ScaledForm(factors=(factor, factor, factor, kernel_s))
    times = ScaledTimes(form=form, probes=probes, level="samples", host_launch_s=0.0).times(work)
    bare, extra = probes.times(work), work.kernels * kernel_s
    for name in ("compute_s", "memory_s", "busy_s"):
        assert getattr(times, name) == pytest.approx(getattr(bare, name) * factor, rel=EXACT)
    for name in ("overhead_s", "latency_s", "lower_s", "upper_s"):
        assert getattr(times, name) == pytest.approx(getattr(bare, name) * factor + extra, rel=EXACT)


# --- More work takes no less time -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["datasheet", "additive"])
@given(data=st.data())
def test_sums_of_work_are_monotone_in_every_dimension(name: str, data: st.DataObject) -> None:
    """Of models that see counts alone: larger m, n, k, batch, lengths, heads, bytes, FLOPs and kernels."""
    model = data.draw(MODELS[name])
    more = st.integers(0, 5000)
    m, n, k = (data.draw(SIZES) for _ in range(3))
    batch, q_len, past, heads = (data.draw(st.integers(1, 500)) for _ in range(4))
    counts = [data.draw(st.integers(0, 10**10)) for _ in range(3)]
    grown = [data.draw(more) for _ in range(10)]
    pairs = [
        (a_gemm(m, n, k), a_gemm(m + grown[0], n + grown[1], k + grown[2])),
        (
            an_attention(batch, q_len, q_len + past, heads, heads, 64),
            an_attention(batch + grown[3], q_len, q_len + past + grown[4], heads + grown[5], heads + grown[5], 64),
        ),
        (
            an_attention(batch, q_len, q_len + past, heads, heads, 64),
            an_attention(batch, q_len + grown[4], q_len + grown[4] + past, heads, heads, 64),
        ),
        (chain(*counts, 1), chain(counts[0] + grown[6], counts[1] + grown[7], counts[2] + grown[8], 1 + grown[9])),
    ]
    before, after = (columns(model.times(OpColumns.of(ops))) for ops in zip(*pairs, strict=True))
    for small, large in zip(before, after, strict=True):
        assert (small <= large * (1 + EXACT)).all()


def chain(flops: int, vector_flops: int, read: int, kernels: int) -> Op:
    cost = OpCost(flops=flops, vector_flops=vector_flops, act_read_bytes=read, kernels=kernels)
    return Op(name="c", kind="elementwise", cost=cost, out_bytes=0)


@pytest.mark.parametrize("name", ["probes", "scaled"])
@given(data=st.data())
def test_corrections_see_the_shape_alone(name: str, data: st.DataObject) -> None:
    """At one shape a correction is one factor: more FLOPs or bytes (a mask, a weight type) take no less time."""
    model, op = data.draw(MODELS[name]), data.draw(st.one_of(GEMMS, ATTENTIONS))
    more = OpCost(flops=data.draw(st.integers(0, 10**13)), weight_read_bytes=data.draw(st.integers(0, 10**10)))
    heavier = op._replace(cost=op.cost + more)
    small, large = (model.times(OpColumns.of([each])) for each in (op, heavier))
    for less, more in zip(columns(small)[:-2], columns(large)[:-2], strict=True):
        assert (less <= more * (1 + EXACT)).all()


@pytest.mark.parametrize("hardware", list(DEVICES), ids=lambda hardware: hardware.name)
@pytest.mark.parametrize("level", ["datasheet", "generation", "probes", "samples"])
def test_a_model_takes_no_less_time_for_more_tokens_or_a_larger_rank(hardware: HardwareProfile, level: str) -> None:
    """Whole passes, in steps of two: batches, prompts and caches within what was measured; ranks at fixed work."""
    calibration = of_level(hardware, level)
    model = load_model("tinyllama-1.1b") if hardware is EPYC else load_model("llama2-7b")
    dtype, runtime = DEVICES[hardware]
    how = {"dtype": dtype, "runtime": runtime}

    def latency(work: Workload, rank: int = 0) -> float:
        factors = {Site(layer, "up_proj"): LowRank(rank) for layer in range(model.num_layers) if rank}
        return (
            estimate(model, hardware, Decomposition(factors), [work], calibration=calibration)
            .phases[0]
            .decomposed.latency_s
        )

    lengths, batches = ((16, 64, 256), (1, 2, 4, 8)) if hardware is EPYC else ((128, 512, 2048), (1, 4, 16))
    sweeps = [
        [latency(Workload.prefill(length, **how)) for length in lengths],
        [latency(Workload.decode(length, batch=8, **how)) for length in lengths],
        [latency(Workload.prefill(lengths[0], batch=batch, **how)) for batch in batches],
        [latency(Workload.prefill(lengths[-1], **how), rank) for rank in (128, 256, 512, 1024)],
    ]
    for sweep in sweeps:
        assert all(less < more for less, more in pairwise(sweep))


def of_level(hardware: HardwareProfile, level: str) -> Calibration | None:
    """The device's calibration at a level, made up where none ships: the shipped forms, scaled or as they are."""
    if level == "datasheet":
        return None
    if level == "generation":
        return find_calibration("auto", replace(hardware, name="another"), *DEVICES[hardware])
    if level == "probes":
        return replace(shipped(hardware), passes=None, level="probes")
    form = shipped(hardware).passes or ScaledForm(factors=(1.2, 0.7, 1.5, 1e-6))
    return replace(shipped(hardware), passes=form, level="samples")


# --- Estimates ------------------------------------------------------------------------------------------------------

WAYS = [
    (A100, Runtime.GRAPH),
    (A100, Runtime.EAGER),
    (H100, Runtime.GRAPH),
    (H100, Runtime.EAGER),
    (EPYC, Runtime.EAGER),
]


@pytest.mark.parametrize(("hardware", "runtime"), WAYS, ids=[f"{each.name}-{runtime.value}" for each, runtime in WAYS])
@pytest.mark.parametrize("level", ["datasheet", "generation", "probes", "samples"])
def test_laws_hold_of_whole_passes(hardware: HardwareProfile, level: str, runtime: Runtime) -> None:
    """Also where the host's launches are what takes longest."""
    powered = replace(hardware, idle_power_w=70.0, peak_power_w=400.0)
    model = load_model("tinyllama-1.1b")
    how = {"dtype": DEVICES[hardware][0], "runtime": runtime}
    works = [Workload.prefill(256, **how), Workload.decode(257, batch=4, **how)]
    ranks = Decomposition({Site(layer, "down_proj"): LowRank(64) for layer in range(0, 22, 2)})
    found = estimate(model, powered, ranks, works, calibration=of_level(hardware, level))
    for phase in found.phases:
        for costs in (phase.dense, phase.decomposed):
            assert_laws(costs, idle_w=70.0, peak_w=400.0)
            assert costs.level == level


def assert_laws(costs: PhaseCosts, *, idle_w: float, peak_w: float) -> None:
    assert costs.latency_lower_s <= costs.latency_s <= costs.latency_upper_s * (1 + EXACT)
    assert costs.latency_s == max(costs.device_s, costs.host_s)
    assert (costs.latency_p05_s is None) == (costs.latency_p95_s is None) == (costs.level == "datasheet")
    if costs.latency_p05_s is not None and costs.latency_p95_s is not None:
        assert costs.latency_p05_s <= costs.latency_s <= costs.latency_p95_s
    assert costs.energy_j is not None
    assert idle_w * costs.latency_s < costs.energy_j <= peak_w * costs.latency_s


# --- What a device's calibration rests on ---------------------------------------------------------------------------


@pytest.mark.parametrize("hardware", list(DEVICES), ids=lambda hardware: hardware.name)
def test_calibrated_forms_count_the_profile_s_cores(hardware: HardwareProfile) -> None:
    """132 streaming multiprocessors of an H100, 108 of an A100 (NVIDIA's white papers)."""
    forms = shipped(hardware).shaped
    assert {form.cores for form in forms.values()} == {hardware.cores}
    assert {A100.cores, H100.cores} == {108, 132}


def test_132_tiles_fill_one_wave_of_an_h100_and_two_of_an_a100() -> None:
    """(m, n) = 12 x 11 tiles of 128 x 128: log2 of the waves, and of what rounding them up wastes, by hand."""
    shape = np.array([[12 * 128.0], [11 * 128.0], [4096.0]])
    for cores, waves, waste in ((132, 0.0, 0.0), (108, np.log2(132 / 108), np.log2(2 * 108 / 132))):
        found = gemm_features(shape, np.zeros(1), np.ones(1), cores=cores, cache_bytes=5e7, element_bytes=2)[:, 0]
        assert (found[7], found[12]) == pytest.approx((waves, waste), abs=1e-12)


@pytest.mark.parametrize("kind", ["gemm", "prefill", "decode"])
def test_the_h100_s_times_depend_on_its_cores(kind: str) -> None:
    """The same forms on the A100's 108 cores predict other times: by 2 % or more of some shapes of Llama 2 7B."""
    model = probes_of(H100)
    shaped = {name: replace(form, cores=108, memo=None) for name, form in model.shaped.items()}
    lengths = (512, 1024, 2048, 4096)
    ops = {
        "gemm": [a_gemm(length, n, 4096) for length in lengths for n in (4096, 11008)],
        "prefill": [an_attention(1, length, length, 32, 32, 128) for length in lengths],
        "decode": [an_attention(batch, 1, length, 32, 32, 128) for length in lengths for batch in (1, 3, 4)],
    }[kind]
    own, other = (each.times(OpColumns.of(ops)).latency_s for each in (model, replace(model, shaped=shaped)))
    assert np.abs(other / own - 1).max() > 0.02


def test_attention_that_fills_every_core_wastes_none() -> None:
    """4 sequences of 33 heads are 132: no core idles in decode on an H100, and in prefill with 64 queries."""
    shape = np.array([[4.0], [1.0], [1024.0], [33.0], [33.0], [128.0]])
    forms = shipped(H100).shaped
    found = forms["decode"].features(shape)[:, 0]
    assert found[-2:] == pytest.approx([0.0, 0.0], abs=1e-12)
    assert found[12:18] == pytest.approx([0.0] * 6, abs=1e-12)
    twice = forms["decode"].features(shape * np.array([[1.25], [1], [1], [1], [1], [1]]))[:, 0]
    assert twice[-1] == pytest.approx(np.log2(2 * 132 / 165))


@pytest.mark.parametrize(("one", "other"), [((1, 3, 5), (1, 2, (1 << 21) + 5)), ((2, 1, 7), (1, (1 << 21) + 1, 7))])
def test_sizes_beyond_21_bits_are_no_others(one: tuple[int, int, int], other: tuple[int, int, int]) -> None:
    """Sizes of 2^21 or more (`price` takes 2^24) cost the same whatever was priced before: no memory mixes them up."""
    path = profile_folder() / "calibrations" / f"{H100.name}.json"
    fresh, used, late = (model_of(H100, load_calibration(path)) for _ in range(3))
    first, second = (OpColumns.of([a_gemm(*shape)]) for shape in (one, other))
    expected = [float(fresh.times(second).latency_s[0]), float(late.times(first).latency_s[0])]
    used.times(first)
    found = [float(used.times(work).latency_s[0]) for work in (second, first)]
    assert found == expected
    assert found[0] > found[1]


def columns(times: OpTimings) -> list[Floats]:
    """All of them; the ends of the interval last."""
    return [
        times.compute_s,
        times.memory_s,
        times.overhead_s,
        times.latency_s,
        times.lower_s,
        times.upper_s,
        times.busy_s,
        times.p05_s,
        times.p95_s,
    ]
