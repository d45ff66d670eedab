"""JSON Schemas of what is written, `docs/schemas/NAME.json`: made from real files; run as a script to make them anew.

A key that every file has is required, a type that some file has is allowed, and keys may be added: files only grow.
"""

from __future__ import annotations

import contextlib
import io
import json
import shlex
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

from schemas_built import (
    applied,
    constants,
    fits,
    healed,
    heals,
    manifests,
    points,
    predictors,
    prices,
    qualities,
    replays,
    sensitivities,
)

from costmodel.cli import cli, run
from costmodel.decomposition.factors import FORMS
from costmodel.explore.quality_file import SCHEMA as QUALITY_SCHEMA
from costmodel.forward.workload import Runtime
from costmodel.timing.calibration.file import SCHEMA
from costmodel.timing.calibration.record import ADDITIVE, SCALED
from costmodel.units import DType

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "docs" / "schemas"
DIALECT = "https://json-schema.org/draft/2020-12/schema"

COMMANDS = {
    "estimate": (
        "What `costmodel estimate --format json` prints",
        (
            "estimate --model llama-70m --hw l4 --decompose 'layers=2 rank=64' --new-tokens 8",
            "estimate --model bert-base --hw t4 --decompose 'layers=3 form=drop' --calibration none",
            "estimate --model gpt2 --hw h100-sxm-80gb --stack vllm",
            "estimate --model qwen3-30b-a3b --hw h100-sxm-80gb --decompose 'rank=8 form=tucker'",
            "estimate --model llama-70m --hw a100-sxm-80gb --tp 2 --decompose 'rank=64'",
            "estimate --model llama-70m --hw a100-sxm-80gb --pp 2 --batch 4 --microbatches 2 --decompose 'rank=64'",
            "estimate --model qwen3-30b-a3b --hw h100-sxm-80gb --ep 2 --batch 2",
        ),
    ),
    "exploration": (
        "What `costmodel explore --format json` prints",
        (
            "explore --model llama-70m --hw l4 --ranks 64,128",
            "explore --model llama-70m --hw l4 --ranks 64,128 --space per-site --new-tokens 4 --quality standin:params",
            "explore --model gpt2 --hw t4 --ranks 64 --space per-layer --limit 'saved.params_pct>=99%'",
        ),
    ),
    "recommendation": (
        "What `costmodel recommend --format json` prints",
        (
            "recommend --model llama-70m --hw l4 --batch 1,8 --faster 5%",
            "recommend --model bert-base --hw t4 --smaller 25%",
            "recommend --model gpt2 --hw amd-epyc-2t,l4 --stack vllm --phase decode --smaller 20%",
        ),
    ),
    "comparison": (
        "What `costmodel estimate --format json` prints of several devices, stacks or workloads",
        (
            "estimate --model llama-70m --hw l4,t4 --decompose 'layers=2 rank=64' --new-tokens 8",
            "estimate --model gpt2 --hw amd-epyc-2t,l4 --stack vllm --phase decode",
            "estimate --model llama-70m --hw a100-sxm-80gb --tp 1,2 --decompose 'rank=64'",
        ),
    ),
    "explorations": (
        "What `costmodel explore --format json` prints of several devices, stacks or workloads",
        (
            "explore --model gpt2 --hw amd-epyc-2t,l4 --stack vllm --phase decode --ranks 64",
            "explore --model gpt2 --hw l4 --tp 1,2 --phase decode --ranks 64 --limit 'params<=50000000'",
        ),
    ),
    "rooflines": (
        "What `costmodel roofline --format json` prints of several devices, stacks or workloads",
        ("roofline --model gpt2 --hw l4,t4 --dtype bf16", "roofline --model llama-70m --hw l4,t4 --phase prefill"),
    ),
    "objectives": ("What `costmodel objectives --format json` prints", ("objectives",)),
    "devices": ("What `costmodel hw list --format json` prints", ("hw list",)),
    "device": (
        "What `costmodel hw show --format json` prints",
        ("hw show l4", "hw show amd-epyc-2t", "hw show b200-sxm", "hw show mi300x", "hw show v100-sxm2-16gb"),
    ),
    "models": ("What `costmodel models list --format json` prints", ("models list",)),
    "model": (
        "What `costmodel models show --format json` prints",
        ("models show gpt2", "models show bert-base", "models show deepseek-v3", "models show qwen3-30b-a3b"),
    ),
    "stacks": ("What `costmodel stacks list --format json` prints", ("stacks list",)),
    "stack": (
        "What `costmodel stacks show --format json` prints",
        ("stacks show vllm", "stacks show eager", "stacks show llama.cpp-cpu", "stacks show transformers-4.46"),
    ),
    "space": (
        "What `costmodel space --format json` prints",
        ("space --model llama-70m", "space --model bert-base --ranks 8,16"),
    ),
    "graph": (
        "What `costmodel graph --format json` prints",
        ("graph --model llama-70m --hw l4 --decompose 'layers=1 rank=64'", "graph --model bert-base --hw t4"),
    ),
    "roofline": (
        "What `costmodel roofline --format json` prints",
        ("roofline --model llama-70m --hw l4 --decompose 'layers=1 rank=64'", "roofline --model bert-base --hw t4"),
    ),
}
"""Name of a schema: its title, and commands whose outputs it is made from."""
FILES = {
    "calibration": ("A calibration, as `validate fit` writes it", "hw_profiles/calibrations/*.json"),
    "configuration": ("A configuration, which `--config FILE` reads", "studies/*/loop/choice.json"),
    "quality": ("A quality file, which `--quality FILE` reads", "studies/*/loop/quality2.json"),
    "verdict": ("verdict.json of a folder of `validate choose`", "studies/*/loop/verdict.json"),
    "records": ("A line of quality.jsonl of `validate quality`", "studies/*/asked/quality.jsonl"),
    "run": ("run.json of a run of `validate`", "studies/*/loop/latency/run.json"),
    "sample": ("A line of samples.jsonl of `validate`", "studies/*/loop/latency/samples.jsonl"),
}
"""Name of a schema: its title, and where files of its kind lie."""
NEEDED = {
    "quality": ("entries",),
    "configuration": (),
    "calibration": ("schema", "hardware", "dtypes", "runtimes", "level", "provenance", "errors"),
}
"""Keys without which a reader refuses the file, where that is less than what ours have."""
_SECONDS = {"minimum": 0, "maximum": 1, "description": "seconds"}
_FILLED = {"type": "object", "minProperties": 1}
_OF_PASSES = ("factors", "kernel_s", "interval", "range")
PINNED: dict[str, dict[str, dict[str, Any]]] = {
    "calibration": {
        "schema": {"const": SCHEMA},
        "dtypes": {"type": "array", "minItems": 1, "items": {"enum": [each.value for each in DType]}},
        "runtimes": {"type": "array", "minItems": 1, "items": {"enum": [each.value for each in Runtime]}},
        "level": {"enum": ["probes", "samples"]},
        "form": {"enum": [ADDITIVE, SCALED]},
        "host_launch_s": {"type": ["null", "number"], **_SECONDS},
        "module_launch_s": {"type": ["null", "number"], **_SECONDS, "minimum": 1e-9},
        "kernel_s": {"type": "number", **_SECONDS},
        **{
            name: {"type": "object", "minProperties": 1}
            for name in ("streams", "forms", "factors", "interval", "range")
        },
    },
    "configuration": {"form": {"enum": list(FORMS)}, "drop": {"type": "array", "items": {"type": "integer"}}},
    "choice": {"form": {"enum": list(FORMS)}},
    "quality": {
        "schema": {"const": QUALITY_SCHEMA},
        "states": {"type": ["null", "array"], "items": {"type": "string"}, "uniqueItems": True},
    },
}
"""What a reader takes of a key, which no number of files shows."""
_MAPS = frozenset(
    {
        "ranks",
        "objectives",
        "saved_pct",
        "distribution",
        "ways",
        "quantiles",
        "tensors",
        "layers",
        "errors",
        "provenance",
    }
    | {
        "streams",
        "forms",
        "elsewhere",
        "coefficients",
        "environment",
        "config",
        "factors",
        "range",
        "interval",
        "settings",
        "latency_ratio",
        "matrix_flops_per_s",
        "origins",
        "forms_chosen",
        "forms_rms",
    }
)
"""Objects whose keys are names or numbers of the question, or of one form among several."""
_PLAIN = {"fit": ("errors",), "predictor": ("errors", "provenance")}
"""Name of a schema: keys of that kind elsewhere, whose objects have the same keys each time there."""
_NULLABLE = {
    "verdict": ("low", "high", "difference", "ours", "optimism", "choice", "choice_nll_change"),
    "healed": ("low", "high"),
    "heal": ("low", "high"),
    "predictor": ("spearman", "difference_low", "difference_high", "ratio"),
}
"""Keys at any depth that are null where there is nothing to measure them by, which the files kept here do not show."""
_UNITS = {"_s": "seconds", "_bytes": "bytes", "_pct": "percent", "_j": "joules", "_flops": "floating-point operations"}


def printed(command: str) -> Any:
    """The JSON that a command of costmodel prints."""
    with contextlib.redirect_stdout(io.StringIO()) as stream:
        assert run(cli, [*shlex.split(command), "--format", "json"]) == 0, command
    return json.loads(stream.getvalue())


def stored(pattern: str) -> list[Any]:
    """Documents of the files that a pattern names, of a .jsonl its first lines."""
    found = []
    for path in sorted(ROOT.glob(pattern)):
        text = path.read_text(encoding="utf-8")
        found += (
            [json.loads(line) for line in text.splitlines()[:40]] if path.suffix == ".jsonl" else [json.loads(text)]
        )
    return found


def schema_of(values: Iterable[Any], name: str = "", maps: Collection[str] = _MAPS) -> dict[str, Any]:
    """The narrowest of our schemas that holds every value; `name` is the key that they stand under, and `maps` are keys
    of objects whose own keys are not fixed."""
    values = list(values)
    kinds = sorted({_kind(value) for value in values})
    if "number" in kinds and "integer" in kinds:
        kinds.remove("integer")
    if any(name.endswith(end) for end in ("_s", "_pct", "_j")):
        kinds = sorted({"number" if kind == "integer" else kind for kind in kinds})
    if kinds == ["null"]:
        kinds = []  # not known of these files alone
    schema: dict[str, Any] = {"type": kinds[0] if len(kinds) == 1 else kinds} if kinds else {}
    unit = next((text for end, text in _UNITS.items() if name.endswith(end)), None)
    if unit and {"number", "integer"} & set(kinds):
        schema["description"] = unit
    objects = [value for value in values if isinstance(value, Mapping)]
    keys = dict.fromkeys(key for value in objects for key in value)
    if objects and name not in maps and not any("." in key for key in keys):  # a dot: an objective of the question
        schema["properties"] = {
            key: schema_of((value[key] for value in objects if key in value), key, maps) for key in keys
        }
        schema["required"] = [key for key in keys if all(key in value for value in objects)]
    lists = [value for value in values if isinstance(value, list)]
    items = [item for value in lists for item in value]
    if items:
        schema["items"] = schema_of(items, name if name in maps else "", maps)
    return schema


def allow_null(schema: dict[str, Any], keys: Collection[str]) -> None:
    """Let the properties of these names be null, at any depth."""
    for key, inner in schema.get("properties", {}).items():
        allow_null(inner, keys)
        if key in keys:
            kinds = inner["type"] if isinstance(inner["type"], list) else [inner["type"]]
            inner["type"] = [*kinds, *({"null"} - set(kinds))]
    if "items" in schema:
        allow_null(schema["items"], keys)


def _kind(value: Any) -> str:
    if value is None:
        return "null"
    names = {bool: "boolean", int: "integer", float: "number", str: "string", list: "array", dict: "object"}
    return names[type(value)]


RULES: dict[str, dict[str, Any]] = {
    "calibration": {
        "allOf": [
            {
                "if": {"required": ["form"], "properties": {"form": {"const": ADDITIVE}}},
                "else": {"required": ["host_launch_s", "forms", "streams"]},
            },
            {
                "if": {"required": ["form"]},
                "then": {"required": list(_OF_PASSES)},
                "else": {"not": {"anyOf": [{"required": [name]} for name in _OF_PASSES]}},
            },
        ]
    }
}
"""What a reader asks of several keys together: with `form`, times of whole passes; but for additive ones, probes."""


def choices() -> list[Any]:
    """choice.json of `validate choose`: with whitened and with plain factors, and the dense model."""
    from validate.checkpoint.choice import Choice, Chosen, ChosenText

    configs = stored(FILES["configuration"][1])
    text = ChosenText(name="text.txt", sha256="0" * 64, blocks=64, length=256)
    found: list[Any] = [{"form": "svd", "ranks": {}, "drop": []}]
    for factors, calibration, ends in (("plain", None, None), ("whitened", text, 0.02)):
        interval = {"value": 0.01, "low": ends, "high": ends}
        measured = {
            "nll_change": interval,
            "nll_change_searched": interval,
            "latency_ratio": {"prefill": 0.8},
            "device": "a device",
            "accept": 0.05,
        }
        made_of = {"model": "llama", "checkpoint": "0" * 64, "factors": factors, "measured": measured}
        chosen = Chosen(**made_of, calibration=calibration)
        found += [Choice(config=config, chosen=chosen).to_json() for config in configs]
    return found


BUILT: dict[str, tuple[str, Callable[[], list[Any]]]] = {
    "choice": ("choice.json of `validate choose`, which `validate apply --choice` takes", choices),
    "sensitivity": ("What `validate sensitivity --format json` prints", sensitivities),
    "prices": ("What `costmodel price --format json` prints", prices),
    "points": ("What `validate points --format json` prints", points),
    "replay": ("What `validate replay --format json` prints", replays),
    "constants": ("What `validate replay --save-constants` writes and `--constants` reads", constants),
    "measured": ("What `validate quality --format json` prints", qualities),
    "factored": ("factored.json, the manifest of a folder of `validate apply`", manifests),
    "applied": ("What `validate apply --format json` prints", applied),
    "healed": ("heal.json of a folder of `validate heal`", healed),
    "heal": ("What `validate heal --format json` prints", heals),
    "fit": ("What `validate fit --format json` prints", fits),
    "predictor": ("What `validate quality fit --format json` prints", predictors),
}
"""Name of a schema: its title, and what makes documents of its kind; tests hold the outputs of real runs to it."""


def checker(name: str) -> Any:
    """What tells whether a document keeps to a schema."""
    from jsonschema import validators

    schema = json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    kind = validators.validator_for(schema)
    kind.check_schema(schema)
    return kind(schema)


def documents(name: str) -> tuple[str, list[Any]]:
    """The title of a schema, and what it is made from."""
    if name in COMMANDS:
        title, commands = COMMANDS[name]
        return title, [printed(command) for command in commands]
    if name in BUILT:
        title, build = BUILT[name]
        return title, build()
    title, pattern = FILES[name]
    return title, stored(pattern)


def made(name: str) -> dict[str, Any]:
    """The schema called `name`."""
    title, values = documents(name)
    schema = schema_of(values, maps=_MAPS.difference(_PLAIN.get(name, ())))
    if name in NEEDED:
        schema["required"] = list(NEEDED[name])
    if name in PINNED:
        schema["properties"] |= PINNED[name]
    allow_null(schema, _NULLABLE.get(name, ()))
    schema |= RULES.get(name, {})
    return {"$schema": DIALECT, "$id": f"{name}.json", "title": title, **schema}


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for each in (*COMMANDS, *FILES, *BUILT):
        text = json.dumps(made(each), indent=1) + "\n"
        (FOLDER / f"{each}.json").write_text(text, encoding="utf-8")
