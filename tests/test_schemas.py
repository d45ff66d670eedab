"""What is written keeps to the schemas of docs/schemas, and the schemas can tell."""

from __future__ import annotations

import copy

import pytest
from schemas import BUILT, COMMANDS, FILES, FOLDER, checker, printed, stored

pytest.importorskip("jsonschema")

OTHERS = {
    "estimate": "estimate --model llama-70m --hw t4 --phase decode --decompose 'tensors=mlp rank=32'",
    "exploration": "explore --model llama-70m --hw t4 --ranks 96 --phase prefill --objectives latency_s",
    "recommendation": "recommend --model gpt2 --hw l4 --phase decode --smaller 5%",
    "comparison": "estimate --model gpt2 --hw amd-epyc-2t,t4 --stack vllm --decompose 'rank=50%'",
    "explorations": "explore --model bert-base --hw t4,l4 --ranks 64",
    "rooflines": "roofline --model gpt2 --hw l4,amd-epyc-2t --phase decode --runtime graph",
    "objectives": "objectives",
    "devices": "hw list",
    "device": "hw show epyc-9654",
    "models": "models list",
    "model": "models show gemma3-1b",
    "stacks": "stacks list",
    "stack": "stacks show tensorrt-llm",
    "space": "space --model gpt2",
    "graph": "graph --model gpt2 --hw l4 --phase prefill",
    "roofline": "roofline --model gpt2 --hw l4 --phase decode",
}
"""Commands that no schema was made from."""
LISTS = {
    "sensitivity": "sites",
    "prices": "rows",
    "points": "rows",
    "replay": "rows",
    "measured": "configurations",
    "factored": "sites",
    "applied": "sites",
    "fit": "errors",
    "predictor": "errors",
}
"""Documents of lists, and the key of each."""
LOST = {
    "choice": "checkpoint",
    "sensitivity": "site",
    "prices": "latency_s",
    "points": "predicted",
    "replay": "measured",
    "constants": "constants",
    "measured": "config",
    "factored": "module",
    "applied": "rank_in",
    "healed": "after_kl",
    "heal": "nll_change",
    "fit": "mean_pct",
    "predictor": "mean_abs",
}
"""A key without which a document, or an entry of its list, is none."""


@pytest.mark.parametrize("name", COMMANDS)
def test_what_a_command_prints_keeps_to_its_schema(name: str) -> None:
    answer, check = printed(OTHERS[name]), checker(name)
    check.validate(answer)
    broken = copy.deepcopy(answer)
    del broken["schema"]
    assert not check.is_valid(broken)
    assert not check.is_valid({**answer, "schema": "one"})


@pytest.mark.parametrize("name", FILES)
def test_files_keep_to_their_schema(name: str) -> None:
    check, found = checker(name), stored(FILES[name][1])
    assert found
    for each in found:
        check.validate(each)
    assert not check.is_valid([])


@pytest.mark.parametrize("name", BUILT)
def test_what_a_run_leaves_keeps_to_its_schema(name: str) -> None:
    pytest.importorskip("msgspec")
    pytest.importorskip("safetensors")
    if name in ("factored", "applied", "healed", "heal"):
        pytest.importorskip("torch")
    check = checker(name)
    found = BUILT[name][1]()
    for each in found:
        check.validate(each)
    broken = copy.deepcopy(found[-1])
    del (broken["chosen"] if name == "choice" else broken[LISTS[name]][0] if name in LISTS else broken)[LOST[name]]
    assert not check.is_valid(broken)


def test_each_schema_is_listed_on_the_page_of_formats() -> None:
    page = (FOLDER.parent / "formats.md").read_text(encoding="utf-8")
    for name in (*COMMANDS, *FILES, *BUILT):
        assert f"(schemas/{name}.json)" in page
    assert {path.stem for path in FOLDER.iterdir()} == {*COMMANDS, *FILES, *BUILT}
