"""The DAG of a pass: names, edges, factors, dropped layers, and peak live memory on a DAG small enough to check."""

from __future__ import annotations

import random
from collections import Counter

import networkx as nx
import pytest
from cases import random_config, random_decomposition, random_workload, spec_of
from family_configs import small
from liveness import build_graph, peak_live_bytes

from costmodel.decomposition.factors import Decomposition, LowRank, Site, Tucker
from costmodel.families.load import load_model
from costmodel.forward.cost import OpCost
from costmodel.forward.ops import Op, live_bytes
from costmodel.forward.passes import counted_ops, forward_ops
from costmodel.forward.workload import Attention, LmHead, Workload
from costmodel.model import ModelSpec

DENSE = Decomposition()
PREFILL = Workload.prefill(16)


@pytest.fixture(scope="module")
def llama() -> ModelSpec:
    return load_model("llama2-7b", num_layers=3)


def test_projections_stand_in_parallel(llama: ModelSpec) -> None:
    graph = build_graph(llama, DENSE, PREFILL)
    q, k, v = (f"model.layers.1.self_attn.{name}_proj" for name in "qkv")
    for first, second in ((q, k), (k, v), (q, v)):
        assert not nx.has_path(_reads(graph), first, second)
        assert not nx.has_path(_reads(graph), second, first)
    gate, up = "model.layers.1.mlp.gate_proj", "model.layers.1.mlp.up_proj"
    assert not nx.has_path(_reads(graph), gate, up)
    assert nx.has_path(_reads(graph), q, "lm_head")
    assert graph.edges["model.layers.1.input_layernorm", q]["bytes"] == 16 * 4096 * 2


def _reads(graph: nx.DiGraph) -> nx.DiGraph:
    return graph.edge_subgraph([(a, b) for a, b, kind in graph.edges(data="kind") if kind == "read"])


@pytest.mark.parametrize("model_type", ["llama", "mistral", "qwen3", "bert", "gpt2", "opt"])
def test_every_graph_runs_forward(model_type: str) -> None:
    """Acyclic, in execution order, one end, and nothing made in vain."""
    for seed in range(20):
        rng = random.Random(seed)
        model = spec_of(random_config(rng, model_type))
        decomposition, work = random_decomposition(rng, model), random_workload(rng, model)
        graph = build_graph(model, decomposition, work)
        assert nx.is_directed_acyclic_graph(graph)
        place = graph.nodes(data="position")
        assert all(place[source] < place[target] for source, target in graph.edges)
        ends = [name for name in graph if not graph.out_degree(name)]
        last = forward_ops(model, decomposition, work)[-1].name
        assert ends == [last]
        assert len(graph) == len(forward_ops(model, decomposition, work))


@pytest.mark.parametrize("model_type", ["llama", "albert", "gemma2", "mixtral"])
def test_layers_that_do_the_same_are_listed_once_with_their_number(model_type: str) -> None:
    rng = random.Random(model_type)
    for _ in range(5):
        model = spec_of(random_config(rng, model_type))
        configuration, work = random_decomposition(rng, model), random_workload(rng, model)
        counted: Counter[object] = Counter()
        for op, count in counted_ops(model, configuration, work):
            counted[op.role, op.kind, op.cost, op.gemm] += count
        listed = forward_ops(model, configuration, work)
        assert counted == Counter((op.role, op.kind, op.cost, op.gemm) for op in listed)
    dense = counted_ops(model, DENSE, work)
    assert len(dense) < len(forward_ops(model, DENSE, work)) or model.num_layers * model.loops == 1


def test_factors_and_dropped_layers(llama: ModelSpec) -> None:
    decomposition = Decomposition({Site(0, "q_proj"): LowRank(5), Site(2, "down_proj"): Tucker(3, 4)}, frozenset([1]))
    ops = {op.name: op for op in forward_ops(llama, decomposition, PREFILL)}
    q, down = "model.layers.0.self_attn.q_proj", "model.layers.2.mlp.down_proj"
    assert [ops[f"{q}.{part}"].gemm for part in ("in", "out")] == [(16, 5, 4096), (16, 4096, 5)]
    assert [ops[f"{down}.{part}"].gemm for part in ("in", "core", "out")] == [
        (16, 3, 11008),
        (16, 4, 3),
        (16, 4096, 4),
    ]
    assert q not in ops
    assert not [name for name in ops if name.startswith("model.layers.1.")]
    assert ops["model.layers.2.input_layernorm"].inputs == ("model.layers.0.add_mlp",)
    assert ops[f"{q}.out"].inputs == (f"{q}.in",)
    assert ops["model.layers.0.self_attn.rotary_q"].inputs[0] == f"{q}.out"


def test_bias_stays_with_the_last_factor() -> None:
    bert = load_model("bert-base", num_layers=1)
    ops = {op.name: op for op in forward_ops(bert, Decomposition({Site(0, "query"): Tucker(3, 4)}), PREFILL)}
    weights = [
        ops[f"encoder.layer.0.attention.self.query.{part}"].cost.weight_read_bytes for part in ("in", "core", "out")
    ]
    assert weights == [2 * 3 * 768, 2 * 3 * 4, 2 * (4 * 768 + 768)]


@pytest.mark.parametrize(("lm_head", "rows"), [(LmHead.LAST, 2), (LmHead.ALL, 10)])
def test_what_stands_before_the_logits_has_as_many_rows(lm_head: LmHead, rows: int) -> None:
    """2 sequences of 5 tokens: a dense layer, its activation and a norm, then the product with the vocabulary."""
    model = spec_of(small("modernbert-decoder"))
    ops = forward_ops(model, DENSE, Workload.prefill(5, batch=2, lm_head=lm_head))
    head = [op for op in ops if op.name.startswith(("lm_head", "decoder"))]
    assert [op.gemm[0] for op in head if op.gemm] == [rows, rows]
    width = {"lm_head.dense": 64, "lm_head.dense.activation": 64, "lm_head.norm": 64}
    assert {op.name: op.out_bytes for op in head[:3]} == {name: 2 * rows * columns for name, columns in width.items()}


def test_all_layers_dropped(llama: ModelSpec) -> None:
    names = [op.name for op in forward_ops(llama, Decomposition({}, frozenset(range(3))), PREFILL)]
    assert names == ["position_ids", "model.embed_tokens", "model.rotary_emb", "model.norm", "lm_head"]


def _op(name: str, out: int, *inputs: str, holds: tuple[str, ...] = (), workspace: int = 0) -> Op:
    return Op(
        name=name,
        kind="elementwise",
        cost=OpCost(),
        out_bytes=out,
        inputs=inputs,
        holds=holds,
        workspace_bytes=workspace,
    )


def test_live_bytes_by_hand() -> None:
    ops = [
        _op("a", 10),
        _op("b", 20, "a"),
        _op("c", 1, "b", workspace=100),
        _op("d", 40, "c", holds=("a",)),
        _op("e", 2, "d"),
    ]
    # a; a b; a b c and the workspace; a c d (b is gone); d e
    assert live_bytes(ops) == [10, 30, 131, 51, 42]


@pytest.mark.parametrize("attention", Attention)
def test_the_graph_has_the_list_forms_peak(llama: ModelSpec, attention: Attention) -> None:
    for seed in range(10):
        rng = random.Random(seed)
        decomposition = random_decomposition(rng, llama)
        work = Workload.prefill(rng.randint(1, 300), batch=rng.randint(1, 3), attention=attention)
        ops = forward_ops(llama, decomposition, work)
        assert peak_live_bytes(build_graph(llama, decomposition, work)) == max(live_bytes(ops))


def test_unfused_attention_lives_on_its_scores() -> None:
    """Softmax in fp32 of bf16 scores: scores, their fp32 copy and the fp32 result at once."""
    llama = load_model("llama2-7b", num_layers=1)
    work = Workload.prefill(2048, attention=Attention.UNFUSED)
    scores = 32 * 2048 * 2048
    assert 10 * scores < peak_live_bytes(build_graph(llama, DENSE, work)) < 11 * scores
