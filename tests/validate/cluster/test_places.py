"""Where workers sit, what is refused by name, and what is said where Ray is not installed."""

from __future__ import annotations

import importlib.util
import socket
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

pytest.importorskip("filelock")

from costmodel.errors import InputError
from validate.cli import cli
from validate.cluster.connection import Cluster, require_ray
from validate.cluster.places import kind_of_device, places
from validate.errors import RunError


def node(name: str, *, alive: bool = True, **resources: float) -> dict[str, Any]:
    """A node as Ray lists it."""
    named = {key.replace("accelerator_type_", "accelerator_type:"): value for key, value in resources.items()}
    return {"NodeID": f"id of {name}", "NodeManagerAddress": name, "Alive": alive, "Resources": named}


def seats(*given: Any, **options: Any) -> list[tuple[str, int, int, int]]:
    return [(each.node, each.number, each.cpus, each.gpus) for each in places(*given, **options)]


def test_every_gpu_has_a_worker_with_its_share_of_the_processors() -> None:
    nodes = [node("b", GPU=2, CPU=17, accelerator_type_A100=1), node("a", CPU=8), node("c", alive=False, GPU=8)]
    assert seats(nodes, "cuda") == [("b", 0, 8, 1), ("b", 1, 8, 1)]


def test_workers_on_processors_take_their_threads_or_a_whole_node() -> None:
    nodes = [node("a", CPU=8), node("b", CPU=3), node("c", CPU=0)]
    assert seats(nodes, "cpu") == [("a", 0, 8, 0), ("b", 0, 3, 0)]
    assert seats(nodes, "cpu", threads=4) == [("a", 0, 4, 0), ("a", 1, 4, 0)]
    assert seats(nodes, "cpu", threads=2, alone=True) == [("a", 0, 8, 0), ("b", 0, 3, 0)]
    with pytest.raises(InputError, match=r"--threads: got '?9'?; allowed: up to 8"):
        places(nodes, "cpu", threads=9)


def test_the_kind_of_device_is_what_all_nodes_have() -> None:
    gpu, bare = node("a", GPU=1, CPU=8), node("b", CPU=8)
    assert [kind_of_device(each, "auto") for each in ([gpu], [bare])] == ["cuda", "cpu"]
    assert [kind_of_device([gpu, bare], device) for device in ("cpu", "cuda")] == ["cpu", "cuda"]
    with pytest.raises(InputError, match="GPUs on a, none on b"):
        kind_of_device([gpu, bare], "auto")
    with pytest.raises(InputError, match="no node of the cluster has a CUDA device"):
        kind_of_device([bare], "cuda")


def test_unlike_gpus_are_refused_by_name() -> None:
    nodes = [node("a", GPU=1, CPU=8, accelerator_type_A100=1), node("b", GPU=1, CPU=8, accelerator_type_L4=1)]
    with pytest.raises(InputError, match="A100 on a, L4 on b"):
        places(nodes, "cuda")


@pytest.mark.parametrize("address", ["ray://head:10001", "head", ":6379", "head:ray"])
def test_an_address_that_cannot_be_one_is_refused(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    with pytest.raises(InputError, match="HOST:PORT"):
        require_ray(address)


def test_without_ray_the_option_names_the_extra_and_nothing_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *more: None if name == "ray" else find(name, *more))
    out = tmp_path / "out"
    call = ["quality", "--model", "x", "--text", "y", "--out", str(out), "--ray", "auto"]
    with pytest.raises(InputError, match=r"not installed.*\[ray\]"):
        CliRunner().invoke(cli, call, catch_exceptions=False, standalone_mode=False)
    assert not out.exists()


@pytest.mark.parametrize("given", ["--ray", "RAY_ADDRESS"])
def test_an_address_where_nothing_listens_is_an_error_and_starts_no_cluster(
    given: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    with socket.socket() as bound:  # bound, and nobody listens
        bound.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{bound.getsockname()[1]}"
        monkeypatch.setenv("RAY_ADDRESS", "" if given == "--ray" else address)
        cluster = Cluster(address if given == "--ray" else "auto")
        with pytest.raises(RunError, match=f"no Ray cluster listens there.*{address}"):
            _ = cluster.ray
