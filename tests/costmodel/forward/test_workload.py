"""A workload refuses what cannot be run and says what it is."""

from __future__ import annotations

import dataclasses

import pytest

from costmodel.errors import InputError
from costmodel.forward.workload import (
    MAX_BATCH,
    MAX_LENGTH,
    Attention,
    Cache,
    ExpertKernels,
    Latent,
    LmHead,
    Phase,
    Routing,
    Runtime,
    Workload,
)
from costmodel.units import DType


def test_prefill_and_decode() -> None:
    prefill, decode = Workload.prefill(512, batch=4), Workload.decode(513, batch=4)
    assert (prefill.phase, prefill.q_len, prefill.kv_len, prefill.tokens) == (Phase.PREFILL, 512, 512, 2048)
    assert (decode.phase, decode.q_len, decode.kv_len, decode.tokens) == (Phase.DECODE, 1, 513, 4)


def test_defaults_are_those_of_the_command() -> None:
    work = Workload.prefill(1)
    assert (work.batch, work.dtype, work.weight_dtype, work.runtime, work.attention, work.lm_head) == (
        1,
        DType.BF16,
        None,
        Runtime.EAGER,
        Attention.FUSED,
        LmHead.LAST,
    )
    assert (work.site_dtype, work.act_bytes, work.quantised) == (DType.BF16, 2, False)


def test_weight_types() -> None:
    assert Workload.prefill(1, weight_dtype=DType.INT4).quantised
    assert not Workload.prefill(1, weight_dtype=DType.FP16).quantised
    assert Workload.prefill(1, dtype=DType.FP32).act_bytes == 4


def test_json_names_every_field() -> None:
    """Some are left out where nothing was said of them; what the model stores, the weight type says."""
    names = {field.name for field in dataclasses.fields(Workload)} - {"stored", "ways"}
    said: dict[str, object] = {
        "cache": Cache.GROWING,
        "stack": "transformers-4.35",
        "host": "desktop",
        "kv_dtype": DType.FP16,
        "tp": 2,
        "ep": 2,
        "pp": 2,
        "microbatches": 2,
    }
    said |= {"routing": Routing.POWER_LAW, "experts": ExpertKernels.LOOPED, "latent": Latent.ABSORBED}
    full = Workload.decode(9, **said).to_json()
    assert set(full) == names
    shown = Workload.decode(9, weight_dtype=DType.INT8).to_json()
    assert set(shown) == names - set(said)
    assert (shown["phase"], shown["kv_len"], shown["weight_dtype"]) == ("decode", 9, "int8")


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"batch": 0}, "batch out of range: got 0"),
        ({"batch": -1}, "batch out of range"),
        ({"batch": MAX_BATCH + 1}, "from 1 to 1048576"),
        ({"batch": 1.0}, "got 1.0"),
        ({"batch": True}, "got True"),
        ({"q_len": 0, "kv_len": 0}, "q_len out of range"),
        ({"q_len": "8"}, "got '8'"),
        ({"kv_len": MAX_LENGTH + 1}, "kv_len out of range"),
        ({"kv_len": 7}, "kv_len is less than q_len: got 7; allowed: at least 8"),
        ({"phase": Phase.DECODE}, "decode takes one new token per sequence: got 8"),
        ({"phase": "prefill"}, "phase is no Phase: got 'prefill'; allowed: Phase.PREFILL, Phase.DECODE"),
        ({"runtime": "eager"}, "Runtime.EAGER"),
        ({"attention": None}, "Attention.FUSED"),
        ({"lm_head": "all"}, "LmHead.ALL"),
        ({"dtype": DType.INT8}, "unknown dtype: got 'int8'"),
        ({"dtype": "bf16"}, "unknown dtype: got 'bf16'"),
        ({"tp": 9}, "tp out of range: got 9; allowed: a whole number from 1 to 8"),
        ({"ways": ("all",)}, "unknown way to split a factor"),
    ],
)
def test_refusals(changes: dict[str, object], expected: str) -> None:
    fields: dict[str, object] = {"phase": Phase.PREFILL, "q_len": 8, "kv_len": 8, **changes}
    with pytest.raises(InputError) as caught:
        Workload(**fields)  # type: ignore[arg-type]
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)
