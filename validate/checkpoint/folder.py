"""What a written folder holds beside weights: configuration, decomposition, tokenizer."""

from __future__ import annotations

import contextlib
import json
import shutil
from pathlib import Path
from typing import Any, Literal

import msgspec

from costmodel.decomposition.factors import Decomposition
from costmodel.decomposition.recipe import recipe_text
from costmodel.errors import DecompositionError
from validate.checkpoint.manifest import Manifest
from validate.checkpoint.source import DenseSource
from validate.hf.config import LowRankConfig
from validate.hf.names import CONFIG, DECOMPOSITION, GENERATION, RECIPE
from validate.models.kept import kept_fields
from validate.models.tokenizers import tokenizer_files

_CONFIG_TYPES = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}


def write_settings(
    source: DenseSource,
    decomposition: Decomposition,
    manifest: Manifest,
    folder: Path,
    *,
    form: Literal["factored", "merged"],
) -> None:
    """Write all that is not a weight and does not depend on them.

    A factored folder has the dense model's config.json with an entry that says what is factored, and the decomposition,
    as a recipe too; a merged one the config.json of a dense model that has the layers kept.
    """
    config = {key: value for key, value in source.config.items() if key != "torch_dtype"}
    config |= {"dtype": _CONFIG_TYPES[manifest.dtype]}
    if form == "merged":
        config |= kept_fields(config, source.spec, manifest.drop)
    else:
        weights = [{"name": path.name} for path in folder.glob("*.safetensors")]
        entry = LowRankConfig.of_manifest({**msgspec.to_builtins(manifest), "files": weights})
        config |= {"quantization_config": entry.to_dict()}
        _write_json(folder / DECOMPOSITION, decomposition.to_json())
        with contextlib.suppress(DecompositionError):  # two different ranks of a Tucker form: no recipe states them
            (folder / RECIPE).write_text(recipe_text(decomposition, source.spec), encoding="utf-8")
    _write_json(folder / CONFIG, config)
    generation = [source.folder / GENERATION] if (source.folder / GENERATION).is_file() else []
    for path in (*generation, *tokenizer_files(source.folder)):
        copy = folder / path.relative_to(source.folder)
        copy.parent.mkdir(exist_ok=True)
        shutil.copyfile(path, copy)


def _write_json(path: Path, content: Any) -> None:
    path.write_text(f"{json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False)}\n", encoding="utf-8")
