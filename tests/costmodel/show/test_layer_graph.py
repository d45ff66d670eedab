"""The folded layer graph: it adds up to the pass, keeps what differs apart, and its files are read by their readers."""

from __future__ import annotations

import io
import itertools
import json
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import networkx as nx
import pytest

from costmodel import Workload, estimate, load_hardware, load_model, parse_decomposition
from costmodel.cli import cli, run
from costmodel.pricing.estimate import Estimate
from costmodel.show.layer_files import graphml, mermaid
from costmodel.show.layer_graph import layer_graphs
from costmodel.show.layer_layout import layout
from costmodel.show.layer_picture import layer_svg


@pytest.fixture(scope="module")
def priced() -> Estimate:
    model = load_model("llama-70m")
    chosen = parse_decomposition(["layers=1,4 rank=64", "layers=7 form=drop"], model)
    return estimate(model, load_hardware("l4"), chosen, [Workload.decode(kv_len=65)])


def test_nodes_add_up_to_the_pass_and_stand_for_every_layer(priced: Estimate) -> None:
    _, (dense, factored) = layer_graphs(priced)
    for graph, which in ((dense, "dense"), (factored, "decomposed")):
        ops, timings = priced.phases[0].ops(which)
        nodes = [data for _, data in graph.graph.nodes(data=True)]
        assert sum(node["latency_s"] for node in nodes) == pytest.approx(timings.latency_s.sum())
        assert sum(node["flops"] for node in nodes) == sum(op.cost.flops for op in ops)
        assert sum(node["layers"] for node in nodes if node["kind"] != "entry") == len(ops)
        read = {(source, op.name) for op in ops for source in op.inputs}
        passed = sum(kind == "read" for *_, kind in graph.graph.edges(data="kind"))
        assert 0 < passed < len(read)
    assert [block.layers for block in dense.blocks] == [0, 10, 0]
    assert [block.layers for block in factored.blocks] == [0, 7, 2, 0]


def test_layers_hand_their_hidden_states_on(priced: Estimate) -> None:
    dense = layer_graphs(priced)[1][0].graph
    (entry,) = [name for name, data in dense.nodes(data=True) if data["kind"] == "entry"]
    assert dense.nodes[entry]["layers"] == 10
    sources = {source: tensors for source, _, tensors in dense.in_edges(entry, data="tensors")}
    assert sorted(sources.values()) == [1, 9]


def test_no_line_runs_through_the_size_that_a_node_hands_on(priced: Estimate) -> None:
    root = ElementTree.fromstring(layer_svg(*layer_graphs(priced)))
    parts = [(each.tag.rpartition("}")[2], each.attrib) for each in root.iter()]
    sizes = [place for place, (tag, style) in enumerate(parts) if tag == "text" and style.get("font-size") == "10"]
    assert len(sizes) > 20
    for place in sizes:
        (tag, under), (_, text) = parts[place - 1], parts[place]
        assert (tag, under["fill"]) == ("rect", "#ffffff")
        assert float(under["x"]) < float(text["x"]) < float(under["x"]) + float(under["width"])
        assert float(under["y"]) < float(text["y"]) < float(under["y"]) + float(under["height"])


def test_no_two_nodes_of_a_row_touch_and_edges_run_down(priced: Estimate) -> None:
    diamond: nx.DiGraph[str] = nx.DiGraph(
        [("a", "b"), ("a", "c"), ("a", "d"), ("b", "e"), ("c", "e"), ("d", "f"), ("e", "f")]
    )
    placed = layout(diamond, 100, 20)
    rows: dict[int, list[float]] = {}
    for x, row in placed.places.values():
        rows.setdefault(row, []).append(x)
        assert 50 <= x <= placed.width - 50
    for row in rows.values():
        ordered = sorted(row)
        assert all(after - before >= 100 - 1e-6 for before, after in itertools.pairwise(ordered))
    for route in placed.routes.values():
        assert [row for _, row in route] == list(range(route[0][1], route[-1][1] + 1))


def test_each_file_is_read_by_its_own_reader(priced: Estimate) -> None:
    title, graphs = layer_graphs(priced)
    read = nx.read_graphml(io.BytesIO(graphml(title, graphs)))
    assert read.number_of_nodes() == sum(graph.graph.number_of_nodes() for graph in graphs)
    assert {data["variant"] for _, data in read.nodes(data=True)} == {"dense", "factored"}
    ElementTree.fromstring(layer_svg(title, graphs, "dark"))
    text = mermaid(title, graphs)
    assert text.count("subgraph") == text.count("\n    end") + text.count("\n  end")
    assert "q_proj.in<br/>" in text


def test_the_command_writes_a_file_and_tells_of_its_blocks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "graph.svg"
    command = ["graph", "--model", "gpt2", "--hw", "t4", "--dtype", "fp16", "--decompose", "layers=3 rank=8"]
    assert run(cli, [*command, "--format", "json", "-o", str(file)]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert [len(graph["blocks"]) for graph in answer["graphs"]] == [3, 4, 3, 4]
    assert file.read_text().startswith("<svg")
    assert run(cli, [*command, "-o", str(tmp_path / "graph.pdf")]) == 2
    assert "allowed: .svg, .graphml, .mermaid" in capsys.readouterr().err
    assert [each.name for each in tmp_path.iterdir()] == ["graph.svg"]
