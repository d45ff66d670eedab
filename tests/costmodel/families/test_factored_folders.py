"""A folder that `validate apply` wrote is priced as what it holds, and commands say which configuration counts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import costmodel as cm
from costmodel.cli import cli, run
from costmodel.decomposition.held import held

CONFIG: dict[str, Any] = {
    "model_type": "llama",
    "architectures": ["LlamaForCausalLM"],
    "vocab_size": 128,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "max_position_embeddings": 1024,
}
MODULES = {
    "0.self_attn.q_proj": {"form": "svd", "rank": [8, 8]},
    "2.mlp.up_proj": {"form": "tucker", "rank": [6, 4]},
}
ENTRY: dict[str, Any] = {
    "quant_method": "low_rank",
    "layers": "model.layers",
    "num_layers": 3,
    "modules": MODULES,
    "drop": [1],
    "weight_dtype": None,
    "int8": [],
    "shards": 1,
}
HELD = cm.Decomposition({cm.Site(0, "q_proj"): cm.LowRank(8), cm.Site(2, "up_proj"): cm.Tucker(6, 4)}, frozenset({1}))
ASKED = ("--hw", "l4", "--phase", "decode", "--runtime", "graph")


def folder_of(place: Path, config: dict[str, Any] | None = None, **changes: Any) -> str:
    """A folder of a factored model, as its config.json says it."""
    place.mkdir(exist_ok=True)
    content = {**(config or CONFIG), "quantization_config": {**ENTRY, **changes}}
    (place / "config.json").write_text(json.dumps(content))
    return str(place)


def dense_of(place: Path) -> str:
    place.mkdir(exist_ok=True)
    (place / "config.json").write_text(json.dumps(CONFIG))
    return str(place)


def answer(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[Any, str]:
    """The JSON that a command prints, and what it says beside it."""
    assert run(cli, [*words, "--format", "json"]) == 0
    printed = capsys.readouterr()
    return json.loads(printed.out), printed.err


def test_a_factored_folder_is_priced_as_what_it_holds_and_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, dense = folder_of(tmp_path / "factored"), dense_of(tmp_path / "dense")
    (tmp_path / "held.json").write_text(json.dumps(HELD.to_json()))
    told, said = answer(capsys, "estimate", "--model", folder, *ASKED)
    wanted, _ = answer(capsys, "estimate", "--model", dense, *ASKED, "--config", str(tmp_path / "held.json"))
    assert said == ""
    assert told["decomposition"] == HELD.to_json()
    assert told["phases"] == wanted["phases"]
    assert any("what the folder of factored holds" in text for text in told["assumptions"])
    assert not any("folder" in text for text in wanted["assumptions"])
    for command in ("estimate", "roofline", "graph"):
        assert run(cli, [command, "--model", folder, *ASKED]) == 0
        assert "its folder holds" in " ".join(capsys.readouterr().out.split())
    told, _ = answer(capsys, "models", "show", folder)
    assert told["factored"]["params"] == HELD.params(cm.load_model(dense)) < told["params"]


def test_another_configuration_counts_where_it_is_named_and_a_warning_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = folder_of(tmp_path / "factored")
    told, said = answer(capsys, "estimate", "--model", folder, *ASKED, "--decompose", "layers=0 rank=4")
    assert set(told["decomposition"]["ranks"].values()) == {4}
    assert said.startswith("warning: the folder of factored holds factors already")
    assert said.count("\n") == 1
    with pytest.warns(UserWarning, match="holds factors already"):
        named = cm.estimate(folder, "l4", "layers=0 rank=4", phase="decode", runtime="graph")
    assert named.to_dict()["decomposition"] == told["decomposition"]


def test_python_prices_what_a_folder_holds_by_path_and_by_object(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "factored")
    spec = cm.load_model(folder)
    assert held(spec) == HELD
    answers = [cm.estimate(model, "l4", phase="decode") for model in (folder, spec)]
    answers += cm.compare(folder, ["l4"], phase="decode").results
    assert [each.decomposition for each in answers] == [HELD] * 3
    assert cm.estimate(spec, "l4", HELD, phase="decode").decomposition == HELD
    with pytest.warns(UserWarning, match="holds factors already"):
        assert not cm.estimate(spec, "l4", "dense", phase="decode").decomposition.factors
    assert held(cm.load_model(folder, num_layers=2)) is None


def test_a_search_says_that_it_is_of_the_dense_model_and_explore_prices_the_folders_own(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    modules = {"0.self_attn.q_proj": {"form": "svd", "rank": [8, 8]}}
    folder = folder_of(tmp_path / "factored", modules=modules, drop=[])
    told, said = answer(capsys, "explore", "--model", folder, *ASKED, "--ranks", "4,8", "--top", "1")
    assert told["folder"]["config"] == {"form": "svd", "ranks": {"layers.0.q_proj": 8}, "drop": []}
    assert "is of the dense model" in said
    with pytest.warns(UserWarning, match="is of the dense model"):
        found = cm.explore(folder, "l4", ranks="4,8", top=1, phase="decode", runtime="graph")
    assert found.to_dict()["folder"] == told["folder"]
    told, said = answer(capsys, "recommend", "--model", folder, *ASKED, "--smaller", "5%")
    assert "is of the dense model" in said
    assert " && validate" not in told["rows"][0]["next"]
    whole = folder_of(tmp_path / "whole")  # which drops a layer: no row of a search
    assert "folder" not in answer(capsys, "explore", "--model", whole, *ASKED, "--ranks", "4", "--top", "1")[0]


def quality_of(place: Path, *known: tuple[str, int]) -> str:
    """A quality file that knows these tensors of every layer, each at its rank."""
    entries = [{"site": f"layers.{n}.{name}", "rank": rank, "value": 0.1} for n in range(3) for name, rank in known]
    place.write_text(json.dumps({"entries": entries}))
    return str(place)


def test_a_quality_that_lacks_the_folders_ranks_answers_without_the_folders_own_damage(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = folder_of(tmp_path / "factored", modules={"0.self_attn.q_proj": {"form": "svd", "rank": [8, 8]}}, drop=[])
    every = [(name, 4) for name in cm.load_model(folder).groups["all"]]
    four = quality_of(tmp_path / "four.json", *every)
    asked = ("explore", "--model", folder, *ASKED, "--ranks", "4", "--top", "1")
    told, _ = answer(capsys, *asked, "--quality", four)
    assert told["top"]
    assert "folder" not in told
    with pytest.warns(UserWarning, match="is of the dense model"):
        found = cm.explore(folder, "l4", ranks="4", top=1, quality=four, phase="decode", runtime="graph")
    assert {**found.to_dict(), "elapsed_s": 0} == {**told, "elapsed_s": 0}
    told, _ = answer(capsys, *asked, "--quality", quality_of(tmp_path / "own.json", *every, ("q_proj", 8)))
    assert told["folder"]["damage"] == pytest.approx(0.1, rel=1e-3)  # rank 8 of the other weights is not asked for
    (tmp_path / "named.recipe").write_text('schema = 1\ndecompose = ["layers=0 tensors=q_proj rank=8"]\n')
    assert run(cli, [*asked, "--quality", four, "--recipe", str(tmp_path / "named.recipe")]) == 2
    said = capsys.readouterr().err
    assert "no quality for 1 of the configuration's sites and ranks: got 'layers.0.q_proj svd rank 8'" in said
    assert said.splitlines()[-1].startswith("error: ")


def test_weights_in_int8_are_priced_in_int8(tmp_path: Path) -> None:
    plain, narrow = folder_of(tmp_path / "plain"), folder_of(tmp_path / "int8", weight_dtype="int8")
    bytes_of = [cm.estimate(each, "l4", phase="decode").phases[0].decomposed.weight_bytes for each in (plain, narrow)]
    assert 0.5 * bytes_of[0] < bytes_of[1] < 0.75 * bytes_of[0]  # the embeddings, a third, stay


def test_factored_experts_are_found_by_their_modules(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    experts = {"num_local_experts": 4, "num_experts_per_tok": 2, "num_key_value_heads": 4}
    config = {**CONFIG, "model_type": "mixtral", "architectures": ["MixtralForCausalLM"], **experts}
    path = cm.load_model(folder_of(tmp_path / "empty", config, modules={}, drop=[])).tensor("experts.up_proj").path
    before, _, last = path.rpartition(".")
    ranks = {"form": "svd", "rank": [4, 4]}
    modules = {f"0.{path}": ranks, f"1.{before}.3.{last}": ranks}
    found = held(cm.load_model(folder_of(tmp_path / "experts", config, modules=modules, drop=[])))
    assert found is not None
    assert set(found.factors) == {cm.Site(0, "experts.up_proj"), cm.Site(1, "experts.3.up_proj")}
    told, _ = answer(capsys, "explore", "--model", str(tmp_path / "experts"), *ASKED, "--ranks", "4", "--top", "1")
    assert told["top"]  # factors of one expert are of no space


@pytest.mark.parametrize(
    "changes",
    [
        {"modules": {"0.self_attn.nothing": MODULES["0.self_attn.q_proj"]}},
        {"modules": {"7.self_attn.q_proj": MODULES["0.self_attn.q_proj"]}},
        {"modules": {"x": MODULES["0.self_attn.q_proj"]}},
        {"modules": {"0.self_attn.q_proj": {"form": "svd", "rank": [8]}}},
        {"modules": {"0.self_attn.q_proj": {"form": "svd", "rank": [800, 800]}}},
        {"modules": {"0.self_attn.q_proj": {"form": "cp", "rank": [8, 8]}}},
        {"modules": [], "drop": []},
        {"drop": [3]},
        {"drop": [0]},
        {"drop": "all"},
    ],
    ids=str,
)
def test_a_damaged_entry_is_refused_in_one_line(
    tmp_path: Path, changes: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(cli, ["estimate", "--model", folder_of(tmp_path / "factored", **changes), *ASKED]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert said.count("\n") == 1
    assert "quantization_config" in said
