"""One recipe through every command that reads or writes one: each reads the file that the one before it wrote."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from checkpoints import dense_folder  # noqa: E402
from schemas import checker  # noqa: E402
from validating import LLAMA  # noqa: E402

import costmodel as cm  # noqa: E402
import costmodel.cli  # noqa: E402
import validate.cli  # noqa: E402
from costmodel.cli import run  # noqa: E402
from costmodel.decomposition.recipe import load_recipe, recipe_model  # noqa: E402
from validate.choose import report  # noqa: E402
from validate.choose.settings import Settings  # noqa: E402
from validate.plans.configs_file import load_configs  # noqa: E402


def test_one_recipe_goes_through_explore_estimate_recommend_choose_and_apply(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    dense_folder(tmp_path / "dense", LLAMA)
    spec = cm.load_model(tmp_path / "dense")
    asked = ["--model", "dense", "--hw", "l4", "--phase", "decode"]

    def told(*words: str) -> Any:
        assert run(costmodel.cli.cli, [*words, *asked, "--format", "json"]) == 0
        return json.loads(capsys.readouterr().out)

    space = ["--ranks", "9", "--keep", "layers=1", "--keep", "tensors=attn"]
    limit = ["--limit", "saved.weight_bytes_pct>=24%", "--objectives", "params,quality"]
    found = told("explore", *space, *limit, "--save-recipe", "explored.toml")["top"][0]["config"]
    assert len(found["ranks"]) > 1

    again = ["--recipe", "explored.toml", "--save-recipe", "estimated.toml"]
    assert told("estimate", *again)["decomposition"] == found
    again = ["--recipe", "estimated.toml", "--save-recipe", "recommended.toml"]
    assert told("recommend", "--smaller", "5%", "--max-damage", "99", *again)["rows"][0]["config"] == found
    for read in ("estimated.toml", "recommended.toml"):
        assert told("explore", *space, "--recipe", read)["recipe"]["config"] == found

    given = " + ".join(load_recipe("recommended.toml"))
    settings = Settings(model="dense", text="t", calibration_text="c", hw="l4", recipe=given)
    measured = settings.baseline(spec)
    assert measured is not None
    chosen = SimpleNamespace(choice=SimpleNamespace(point=SimpleNamespace(config=measured.to_json())))
    monkeypatch.setattr(report, "_choice", lambda *_: measured.to_json())
    (tmp_path / "loop").mkdir()
    report._write_choice(tmp_path / "loop", settings, chosen)  # type: ignore[arg-type]

    applied = ["apply", "--model", "dense", "--recipe", "loop/recipe.toml", "--out", "applied"]
    assert run(validate.cli.cli, [*applied, "--format", "json"]) == 0
    checker("applied").validate(json.loads(capsys.readouterr().out))
    checker("factored").validate(json.loads(Path("applied/factored.json").read_text()))
    files = ["explored.toml", "estimated.toml", "recommended.toml", "loop/recipe.toml", "applied/recipe.toml"]
    assert {Path(file).read_text() for file in files} == {Path(files[0]).read_text()}
    assert recipe_model(files[0]) == "dense"

    whole = cm.Decomposition.from_json(found, spec)
    assert [load_configs(file, spec) for file in files] == [[whole]] * len(files)  # as `validate --configs` reads them
    for file in files:
        assert cm.estimate(spec, "l4", file, phase="decode").decomposition == whole
    beside = cm.explore(spec, "l4", ranks=9, recipe=files[-1], phase="decode").beside
    assert beside is not None
    assert beside.config == whole
    assert cm.recommend(spec, "l4", smaller="5%", max_damage=99, recipe=files[-1], phase="decode")[0].config == whole
    assert cm.estimate("applied", "l4", phase="decode").decomposition == whole
