"""Pipelines: what each stage holds, what they send, and how microbatches fill them."""

from __future__ import annotations

import json
import shlex
from dataclasses import replace
from typing import Any

import pytest

from costmodel import estimate as cm_estimate
from costmodel import explore
from costmodel.cli import cli, run
from costmodel.decomposition.factors import Decomposition, LowRank, Site
from costmodel.errors import InputError
from costmodel.families.load import load_model
from costmodel.forward.stages import stage_layers
from costmodel.forward.workload import Cache, Phase, Runtime, Workload
from costmodel.hardware.profile import load_hardware
from costmodel.pricing.estimate import estimate
from costmodel.pricing.phase_estimate import PhaseEstimate
from costmodel.pricing.stages import Stage, idle_share
from costmodel.show.comparison import place, rooflines_table, where
from costmodel.show.report import op_groups
from costmodel.show.time_plot import segments
from costmodel.timing.calibration.load import find_calibration
from costmodel.units import DType, percent, si
from costmodel.weights import WeightFormat

A100 = load_hardware("a100-sxm-80gb")
LLAMA = load_model("llama2-7b")
FACTORED = Decomposition({Site(3, t.name): LowRank(256) for t in LLAMA.tensors}, frozenset({9}))


def _phase(work: Workload, name: str = "llama2-7b", configuration: Decomposition | None = None) -> PhaseEstimate:
    return estimate(load_model(name), A100, configuration or Decomposition(), [work]).phases[0]


@pytest.mark.parametrize("stages", range(1, 9))
def test_every_layer_is_on_one_stage_and_stages_are_even(stages: int) -> None:
    for layers in (8, 12, 31, 32, 80):
        cut = stage_layers(layers, stages)
        assert [layer for stage in cut for layer in stage] == list(range(layers))
        sizes = [len(stage) for stage in cut]
        assert max(sizes) - min(sizes) <= 1
        assert sizes[-1] == min(sizes)


@pytest.mark.parametrize("tp", [1, 2])
def test_stages_hold_and_do_the_whole_pass(tp: int) -> None:
    one, piped = (_phase(Workload.prefill(64, batch=2, tp=tp, pp=pp), configuration=FACTORED) for pp in (1, 4))
    stages = piped.stages()
    assert sum(stage.params for stage in stages) == one.decomposed.params == piped.decomposed.params
    assert sum(stage.flops for stage in stages) == one.decomposed.flops
    assert sum(stage.kv_cache_bytes for stage in stages) == one.decomposed.kv_cache_bytes
    assert sum(stage.layers for stage in stages) == 31
    assert piped.decomposed.peak_memory_bytes == max(stage.peak_memory_bytes for stage in stages)
    assert piped.decomposed.peak_memory_bytes < one.decomposed.peak_memory_bytes / 3
    ops, timings = piped.ops()
    assert [op.cost.message_bytes for op in ops if op.kind == "send"] == [2 * 64 * 4096 * 2] * 3
    assert piped.decomposed.kernels == sum(op.cost.kernels for op in ops)
    counted, _ = piped.counted_ops("decomposed")
    assert sum(many * op.cost.message_bytes for op, many in counted) == sum(op.cost.message_bytes for op in ops)
    assert piped.decomposed.device_s == pytest.approx(timings.latency_s.sum(), rel=1e-12)


def test_a_stage_without_layers_holds_what_it_passes_on() -> None:
    """Layers 4 to 7 of gpt2 are on the second of three stages: without them 2 x 16 rows of 768 columns pass it."""
    config = Decomposition({}, frozenset(range(4, 8)))
    _, inner, _ = _phase(Workload.prefill(16, batch=2, pp=3), "gpt2", config).stages()
    assert (inner.layers, inner.params, inner.weight_bytes, inner.kv_cache_bytes, inner.flops) == (0, 0, 0, 0, 0)
    assert inner.peak_memory_bytes == 2 * 16 * 768 * 2


def test_a_tied_table_is_on_both_ends() -> None:
    model = load_model("gpt2")
    stages = _phase(Workload.prefill(16, pp=3), "gpt2").stages()
    assert sum(stage.params for stage in stages) == model.num_params + model.vocab_size * model.hidden_size


@pytest.mark.parametrize("name", ["gpt2", "tinyllama-1.1b"])
def test_quantised_tables_are_held_so_on_each_end(name: str) -> None:
    """The first stage holds the token table, the last one the head's, and a tied one is on both."""
    form = WeightFormat(method="mlx", dtype=DType.INT8, bits=8, group=64, embeddings=True)
    model = replace(load_model(name), weights=form)
    saved = 2 * model.vocab_size * model.embed_dim - form.matrix_bytes(model.vocab_size, model.embed_dim)
    assert saved > 0
    plain = replace(model, weights=replace(form, embeddings=False))
    for pp in (1, 3):
        work = Workload.prefill(16, pp=pp)
        held, whole = (estimate(each, A100, Decomposition(), [work]).phases[0] for each in (model, plain))
        tables = 1 if model.tie_embeddings and pp == 1 else 2
        assert whole.dense.weight_bytes - held.dense.weight_bytes == tables * saved
        if pp > 1:
            stages = zip(whole.stages(), held.stages(), strict=True)
            assert [one.weight_bytes - two.weight_bytes for one, two in stages] == [saved, 0, saved]
    assert load_model("gpt2").tie_embeddings
    assert not load_model("tinyllama-1.1b").tie_embeddings


def test_one_batch_passes_the_stages_in_turn_and_gains_no_time() -> None:
    one, piped = (_phase(Workload.decode(64, pp=pp)).dense for pp in (1, 4))
    assert piped.device_s == pytest.approx(one.device_s + piped.communication_s, rel=1e-9)
    assert piped.latency_s >= one.latency_s


@pytest.mark.parametrize("many", [1, 2, 4, 8])
def test_the_bubble_is_that_of_even_stages(many: int) -> None:
    phase = _phase(Workload.prefill(512, batch=8, pp=4, microbatches=many))
    bubble = phase.pipeline()["dense"]["bubble"]
    assert bubble == pytest.approx(3 / (many + 3), abs=0.05)


def test_microbatches_of_decode_fill_the_pipeline() -> None:
    alone, filled = (_phase(Workload.decode(512, batch=8, pp=4, microbatches=many)).dense for many in (1, 4))
    assert filled.latency_s < 1.3 * alone.latency_s
    apart = _phase(Workload.decode(512, batch=2, pp=4)).dense
    assert filled.tokens_per_s > 3 * apart.tokens_per_s


@pytest.mark.parametrize("many", [2, 4])
@pytest.mark.parametrize(
    "work",
    [
        Workload.prefill(64, batch=2, pp=3),
        Workload.decode(64, batch=2, pp=3, tp=2),
        Workload.decode(64, batch=2, pp=3, cache=Cache.GROWING),
    ],
)
def test_microbatches_cost_what_each_of_them_costs(work: Workload, many: int) -> None:
    """All work of one comes again with each other; weights are held once, caches for each, activations for one.

    A prefill ends when the last one has passed: the way of one, and the slowest stage's time for each other. The steps
    of a decode follow each other: the longer of one's way and all of them on the slowest stage.
    """
    alone = _phase(work, configuration=FACTORED)
    together = _phase(replace(work, batch=many * work.batch, microbatches=many), configuration=FACTORED)
    one, all_of_them = alone.decomposed, together.decomposed
    for name in ("flops", "vector_flops", "hbm_bytes", "kernels", "kv_cache_bytes", "device_s", "host_s"):
        assert getattr(all_of_them, name) == many * getattr(one, name), name
    assert (all_of_them.params, all_of_them.weight_bytes) == (one.params, one.weight_bytes)
    slowest = max(stage.latency_s for stage in alone.stages())
    after = one.latency_s + (many - 1) * slowest
    expected = after if work.phase is Phase.PREFILL else max(one.latency_s, many * slowest)
    assert all_of_them.latency_s == pytest.approx(expected)
    for end in ("lower", "upper"):
        ratio = getattr(all_of_them, f"latency_{end}_s") / getattr(one, f"latency_{end}_s")
        assert ratio == pytest.approx(all_of_them.latency_s / one.latency_s)
    copies = 2 if work.cache is Cache.GROWING else 1
    for few, more in zip(alone.stages(), together.stages(), strict=True):
        assert (more.layers, more.params, more.weight_bytes) == (few.layers, few.params, few.weight_bytes)
        assert (more.flops, more.hbm_bytes) == (many * few.flops, many * few.hbm_bytes)
        assert more.kv_cache_bytes == many * few.kv_cache_bytes
        assert more.latency_s == few.latency_s
        assert more.peak_memory_bytes - few.peak_memory_bytes == (many - 1) * copies * few.kv_cache_bytes
    assert all_of_them.peak_memory_bytes == max(stage.peak_memory_bytes for stage in together.stages())
    assert together.working_s == pytest.approx(many * sum(stage.latency_s for stage in together.stages()))


def test_the_interval_of_microbatches_is_as_much_longer_as_their_latency() -> None:
    calibration = find_calibration("auto", A100, DType.BF16, Runtime.GRAPH)
    work = Workload.prefill(64, batch=2, pp=3, runtime=Runtime.GRAPH)
    asked = [work, replace(work, batch=8, microbatches=4)]
    one, many = (phase.dense for phase in estimate(LLAMA, A100, Decomposition(), asked, calibration=calibration).phases)
    assert one.latency_p05_s is not None
    assert one.latency_p95_s is not None
    longer = many.latency_s / one.latency_s
    assert longer > 1.5
    assert many.latency_p05_s == pytest.approx(longer * one.latency_p05_s)
    assert many.latency_p95_s == pytest.approx(longer * one.latency_p95_s)


def test_devices_of_stages_draw_power_while_they_wait() -> None:
    """Each of three stages draws idle power for the whole latency and the rest of the peak's while it is busy."""
    assert A100.idle_power_w is not None
    assert A100.peak_power_w is not None
    for many in (1, 4):
        costs = _phase(Workload.prefill(64, batch=4, pp=3, microbatches=many, runtime=Runtime.GRAPH)).dense
        assert costs.energy_j is not None
        busy = (costs.energy_j - 3 * A100.idle_power_w * costs.latency_s) / (A100.peak_power_w - A100.idle_power_w)
        assert 0.5 * costs.device_s < busy < costs.device_s


def test_a_stage_waits_for_what_the_others_take() -> None:
    """Of 3 x 10 s, stages that take 2, 3 and 1 s for each of 4 microbatches work 24."""
    known = dict.fromkeys(Stage.__slots__, 1)
    stages = [Stage(**{**known, "latency_s": seconds}) for seconds in (2.0, 3.0, 1.0)]
    assert idle_share(stages, 4, 10.0) == pytest.approx(1 - 24 / 30)
    assert stages[0].to_json() == {**known, "latency_s": 2.0}


def test_all_devices_of_stages_hold_what_each_stage_holds_on_each_of_its_devices() -> None:
    phase = _phase(Workload.prefill(16, batch=2, tp=2, pp=2), configuration=FACTORED)
    summed = ("weight_bytes", "flops", "vector_flops", "hbm_bytes", "kv_cache_bytes")
    for which, costs, chosen in (("dense", phase.dense, Decomposition()), ("decomposed", phase.decomposed, FACTORED)):
        whole = phase.devices["whole"][which]
        assert {name: whole[name] for name in summed} == {name: 2 * getattr(costs, name) for name in summed}
        assert whole["peak_memory_bytes"] == 2 * sum(stage.peak_memory_bytes for stage in phase.stages(chosen))
        assert whole["energy_j"] == 2 * costs.energy_j  # type: ignore[operator]
        assert whole["params"] == chosen.params(LLAMA)
        assert whole["tokens_per_s_per_device"] == costs.tokens_per_s / 4
        assert all(type(whole[name]) is int for name in (*summed, "peak_memory_bytes", "params"))
    assert (phase.devices["count"], phase.devices["tp"], phase.devices["pp"]) == (4, 2, 2)


def test_where_the_time_goes_adds_up_to_the_time_of_all_microbatches() -> None:
    phase = _phase(Workload.decode(512, batch=8, pp=4, microbatches=4), configuration=FACTORED)
    assert sum(part.latency_s for part in segments(phase, "decomposed")) == pytest.approx(phase.decomposed.device_s)
    groups = op_groups(phase)
    assert {row[0]: row[2] for row in groups}["send"] == str(4 * 3)


def test_a_request_passes_the_stages_at_every_step() -> None:
    one, piped = (estimate(LLAMA, A100, FACTORED, [Workload.prefill(32, pp=pp)], new_tokens=4).request for pp in (1, 4))
    assert one is not None
    assert piped is not None
    assert piped.decomposed.latency_s >= one.decomposed.latency_s
    assert piped.decomposed.peak_memory_bytes < one.decomposed.peak_memory_bytes / 3


@pytest.mark.parametrize("options", [{"pp": 2, "stack": "vllm"}, {"pp": 5, "phase": "prefill"}])
def test_a_searched_pipeline_costs_what_its_estimate_says(options: Any) -> None:
    asked = {"phase": "decode", "batch": 2, **options}
    names = ("latency_s", "energy_j", "hbm_bytes", "weight_bytes", "kv_cache_bytes", "latency_p95_s")
    objectives = [f"{asked['phase']}.{name}" for name in names]
    found = explore("llama-70m", "a100-sxm-80gb", ranks=[64], objectives=objectives, top=1, **asked).to_json()
    top = found["top"][0]
    configuration = Decomposition.from_json(top["config"], load_model("llama-70m"), where="the first")
    costs = cm_estimate("llama-70m", "a100-sxm-80gb", configuration, **asked).to_json()["phases"][0]["decomposed"]
    assert {name: costs[name] for name in names} == {
        name: pytest.approx(top["objectives"][f"{asked['phase']}.{name}"], rel=1e-12) for name in names
    }


def test_a_comparison_of_rooflines_has_the_rate_at_which_a_device_works() -> None:
    asked = [Workload.prefill(64, batch=4, pp=pp, microbatches=pp) for pp in (1, 4)]
    one, piped = (estimate(LLAMA, A100, Decomposition(), [work]) for work in asked)
    bubble = piped.phases[0].pipeline()["decomposed"]["bubble"]
    costs = piped.phases[0].decomposed
    assert one.phases[0].working_s == one.phases[0].decomposed.latency_s
    assert piped.phases[0].working_s == pytest.approx(4 * (1 - bubble) * costs.latency_s)
    table = rooflines_table([one, piped])
    row = dict(zip(table.columns, table.rows[1], strict=True))
    assert row["achieved"] == si(costs.flops / (4 * (1 - bubble) * costs.latency_s), "FLOP/s")
    assert row["host"] == percent(1 - costs.device_s / piped.phases[0].working_s, 0)


def test_explore_searches_sums_and_refuses_the_fullest_stage() -> None:
    asked = {"model": "llama-70m", "hw": "a100-sxm-80gb", "phase": "decode", "ranks": [64]}
    found = explore(**asked, pp=2)  # type: ignore[arg-type]
    assert "decode.weight_bytes" in [objective["name"] for objective in found.to_json()["objectives"]]
    with pytest.raises(InputError, match="fullest stage"):
        explore(**asked, pp=2, objectives=["decode.peak_memory_bytes"])  # type: ignore[arg-type]


def test_the_answer_has_every_stage(capsys: pytest.CaptureFixture[str]) -> None:
    asked = "estimate --model llama2-70b --hw a100-sxm-80gb --tp 2 --pp 4 --phase decode --format json"
    assert run(cli, asked.split()) == 0
    answer = json.loads(capsys.readouterr().out)["phases"][0]
    devices = answer["devices"]
    assert (devices["count"], devices["tp"], devices["pp"]) == (8, 2, 4)
    assert [stage["layers"] for stage in devices["pipeline"]["dense"]["stages"]] == [20] * 4
    assert answer["dense"]["fits"]


def test_a_place_says_which_way_its_devices_share_the_model() -> None:
    cut = {"batch": 4, "tp": 2}
    assert where("l4", Workload.decode(8, **cut)) == "l4, 2 devices, decode, batch 4"
    assert where("l4", Workload.decode(8, pp=2, **cut)) == "l4, 4 devices (tp 2, pp 2), decode, batch 4"
    assert place("l4", Workload.decode(8, ep=2, batch=2))["devices"] == "2 (ep 2)"


@pytest.mark.parametrize(
    "options",
    [
        "--model minilm-l6 --pp 7",
        "--model llama2-7b --pp 9",
        "--model llama2-7b --pp 4 --tp 4",
        "--model llama2-7b --microbatches 2",
        "--model llama2-7b --pp 2 --microbatches 3 --batch 4",
        "--model llama2-7b --pp 2 --microbatches 2 --batch 2 --new-tokens 4",
    ],
)
def test_what_cannot_be_cut_is_one_line(options: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(cli, ["estimate", "--hw", "a100-sxm-80gb", *shlex.split(options)]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
