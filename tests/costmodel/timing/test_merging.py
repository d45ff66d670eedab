"""Products that a stack merges: every way of adding a pass up comes to one time, in every family."""

from __future__ import annotations

import json
from typing import Any

import pytest
from expert_configs import EXPERTS, experts
from family_configs import CHOICES, small

from costmodel.decomposition.factors import Decomposition
from costmodel.decomposition.sites import column_labels
from costmodel.families.registry import FAMILIES, defaults, spec_from_config
from costmodel.forward.workload import Workload
from costmodel.hardware.profile import load_hardware
from costmodel.hardware.stack import builtin_stacks, load_stack
from costmodel.pricing.configurations import Configurations
from costmodel.pricing.estimate import pricer
from costmodel.timing.calibration.load import find_calibration
from costmodel.timing.columns import OpColumns

DEVICE = load_hardware("a100-sxm-80gb")
SHARING = {"layer_types": ["full_attention"] * 3, "num_kv_shared_layers": 1}
"""Fields of a Gemma 4 whose last layer merges queries with nothing, in the shape that the others merge."""
OF_EXPERTS = ("moe", "phimoe", "deepseek", "deepseek-v4", "qwen-hybrid")
"""Families whose sizes `family_configs` does not know."""
MERGING = [name for name in builtin_stacks() if load_stack(name).merges]


def configs() -> list[dict[str, Any]]:
    """A small configuration of every model_type, and each with what changes its layers."""
    plain = [name for name in sorted(FAMILIES) if defaults(name) and FAMILIES[name].name not in OF_EXPERTS]
    changed = [small(name, **CHOICES[name]) for name in plain if name in CHOICES]
    return [*map(small, plain), *changed, *map(experts, EXPERTS), small("gemma4_text", **SHARING)]


def assert_sums(stack: str, configs: list[dict[str, Any]]) -> None:
    """The operations of each model take what its pass takes under a stack."""
    work = Workload.prefill(7, batch=2, stack=stack)
    calibration = find_calibration("auto", DEVICE, work.dtype, work.runtime)
    apart = {}
    for config in configs:
        source = json.dumps(config)
        spec = spec_from_config(config, name=config["model_type"], source=source)
        priced = pricer(spec, DEVICE, work, calibration)
        listed = float(priced.time_model.times(OpColumns.of(priced.ops(Decomposition()))).latency_s.sum())
        device_s = float(priced.costs(Configurations.of(spec, Decomposition())).device_s)
        if listed != pytest.approx(device_s, rel=1e-9):
            apart[source] = listed / device_s - 1
    assert not apart


@pytest.mark.parametrize("stack", MERGING)
def test_operations_add_up_to_the_time_of_the_pass(stack: str) -> None:
    several = [small("llama"), small("gemma3n_text"), small("gemma4_text", **CHOICES["gemma4_text"])]
    assert_sums(stack, [*several, experts("mixtral"), small("gemma4_text", **SHARING)])


@pytest.mark.slow
@pytest.mark.parametrize("stack", MERGING)
def test_operations_add_up_to_the_time_of_the_pass_in_every_family(stack: str) -> None:
    assert_sums(stack, configs())


def test_one_shape_with_other_neighbours_is_a_column_of_its_own() -> None:
    config = small("gemma4_text", **SHARING)
    spec = spec_from_config(config, name="gemma", source=json.dumps(config))
    queries = [tensor for tensor in spec.tensors if tensor.name == "q_proj"]
    assert [tensor.merged_n for tensor in queries] == [(4 + 2 + 2) * 24, 0]
    assert len({(tensor.out_features, tensor.in_features) for tensor in queries}) == 1
    assert len(set(column_labels(spec))) == len(spec.tensors)
