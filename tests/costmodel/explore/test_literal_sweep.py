"""The literal sweep of every index: the same histogram as the closed form, whole and on ranges, with threads."""

from __future__ import annotations

import random

import numpy as np
import pytest
from exploring import all_but, question_of

from benchmarks.sweep import bin_counts, sweep
from costmodel.errors import InputError
from costmodel.explore.by_class.homogeneous import HomogeneousClasses
from costmodel.explore.by_class.listing import ListedConfigurations
from costmodel.explore.distribution import distribution, histogram_edges
from costmodel.families.load import load_model
from costmodel.forward.workload import Runtime, Workload
from costmodel.space.make import design_space

BERT = load_model("bert-base")


@pytest.mark.parametrize("metric", ["latency_s", "device_s", "params", "kernels", "latency_upper_s", "hbm_bytes"])
@pytest.mark.parametrize("runtime", list(Runtime))
def test_all_of_bert_base(metric: str, runtime: Runtime) -> None:
    """773,956 configurations at three ranks, one of them impossible in some tensors."""
    space = design_space(BERT, ranks=[1, 300, 768 if metric != "params" else 900])
    question = question_of(space, [Workload.prefill(96, batch=2, runtime=runtime)], [metric])
    classes = HomogeneousClasses(question.tables, space)
    values = question.objectives[0].values(classes.batch)
    expected = distribution(values, classes.counts)
    found = sweep(question.tables, question.objectives[0], np.array(expected.edges), threads=2)
    assert found.counts == expected.counts
    assert found.counted == space.valid_size


@pytest.mark.parametrize("seed", range(4))
def test_ranges(seed: int) -> None:
    """Any range of numbers, against the configurations listed one by one; ranges add up."""
    rng = random.Random(seed)
    keep = all_but(BERT, rng.sample(range(12), 6), ["query", "value", "intermediate"])
    space = design_space(BERT, ranks=[4, 700, 2000], keep=keep)
    question = question_of(space, [Workload.prefill(64, batch=16)], ["latency_s"])
    listed = ListedConfigurations(question.tables, space)
    values = np.asarray(question.objectives[0].values(listed.batch))
    numbers = np.array([space.nth_valid(position) for position in range(space.valid_size)])
    edges = histogram_edges(float(values.min()), float(values.max()), rng.choice([1, 7, 32]))
    cuts = sorted(rng.sample(range(space.size + 1), 4))
    total = np.zeros(len(edges) - 1, dtype=np.int64)
    for start, stop in zip([0, *cuts], [*cuts, space.size], strict=True):
        part = sweep(question.tables, question.objectives[0], edges, start=start, stop=stop)
        assert part.counts == tuple(bin_counts(values[(numbers >= start) & (numbers < stop)], edges).tolist())
        total += part.counts
    assert (total == bin_counts(values, edges)).all()


def test_one_value_and_bad_requests() -> None:
    space = design_space(BERT, ranks=[1], keep=all_but(BERT, [3], ["key"]))
    question = question_of(space, [Workload.prefill(64)], ["vector_flops", "energy_j"])
    dense = question.dense()["vector_flops"]
    assert sweep(question.tables, question.objectives[0], histogram_edges(dense, dense)).counts == (2,)
    with pytest.raises(InputError, match="no literal sweep"):
        sweep(question.tables, question.objectives[1], histogram_edges(0, 1))
    with pytest.raises(InputError, match="range outside"):
        sweep(question.tables, question.objectives[0], histogram_edges(0, 1), stop=3)
    sites = question_of(design_space(BERT, "per-site", ranks=[1]), [Workload.prefill(64)], ["params"])
    with pytest.raises(InputError, match="homogeneous"):
        sweep(sites.tables, sites.objectives[0], histogram_edges(0, 1))
