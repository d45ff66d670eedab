"""Tiny dense checkpoints on disk, and factored ones made from them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
import transformers
from made_once import copied, made_once

from costmodel.decomposition.factors import Decomposition
from costmodel.decomposition.text import parse_decomposition
from validate.checkpoint.makers import Makers, plain_makers
from validate.checkpoint.manifest import FactorsRecord
from validate.checkpoint.plan import plan_checkpoint
from validate.checkpoint.source import open_source
from validate.checkpoint.write import Checkpoint, write_checkpoint
from validate.factors.replace import Replacement, StageMaker
from validate.hf.names import INDEX, MANIFEST
from validate.models.pretrained import Pretrained

CPU = torch.device("cpu")


def dense_folder(
    folder: Path,
    config: dict[str, Any],
    auto: Any = None,
    *,
    dtype: torch.dtype = torch.float32,
    max_shard_size: str = "5GB",
    seed: int = 0,
) -> Path:
    """A random model saved by transformers, the same each time; biases and norms are random too, so that losing one
    would show."""
    masked = transformers.AutoModelForMaskedLM
    auto = auto or (masked if config["model_type"] == "bert" else transformers.AutoModelForCausalLM)

    def make(part: Path) -> None:
        settings = transformers.CONFIG_MAPPING[config["model_type"]].from_dict({**config, "eos_token_id": None})
        generator = torch.Generator().manual_seed(seed)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = auto.from_config(settings, dtype=dtype).requires_grad_(False)
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator).to(dtype) * 0.1)
        model.save_pretrained(part, max_shard_size=max_shard_size)

    what = repr((config, auto, dtype, max_shard_size, seed))
    return copied(made_once("dense", what, make), folder)


def factored_folder(
    dense: Path,
    out: Path,
    specs: Sequence[str],
    *,
    dtype: str = "",
    int8: bool = False,
    max_shard_bytes: int = 5 * 10**9,
    makers: Makers = plain_makers,
    factors: FactorsRecord | None = None,
    progress: Any = None,
) -> Checkpoint:
    """What `validate apply` does."""
    source = open_source(str(dense))
    decomposition = of(dense, specs) if specs else Decomposition()
    plan = plan_checkpoint(source, decomposition, dtype or source.weights.dtype, max_shard_bytes, int8=int8)
    return write_checkpoint(
        source,
        decomposition,
        plan,
        out,
        makers=makers,
        factors=factors or FactorsRecord(kind="plain"),
        device=CPU,
        **({"progress": progress} if progress else {}),
    )


def of(dense: Path, specs: Sequence[str]) -> Decomposition:
    """SPECs read for a folder's model."""
    return parse_decomposition(specs, open_source(str(dense)).spec)


def logits(model: Any, tokens: torch.Tensor) -> torch.Tensor:
    with torch.inference_mode():
        found: torch.Tensor = model(tokens).logits
    return found


def in_memory(pretrained: Pretrained, decomposition: Decomposition, make: StageMaker, run: Callable[[Any], Any]) -> Any:
    """What `run` gives for the model that is factored in memory."""
    with Replacement(pretrained.body, pretrained.spec, decomposition, make):
        return run(pretrained.model)


def random_tokens(seed: int = 0) -> torch.Tensor:
    return torch.randint(1, 128, (2, 12), generator=torch.Generator().manual_seed(seed))


def manifest_of(folder: Path) -> dict[str, Any]:
    data: dict[str, Any] = json.loads((folder / MANIFEST).read_text())
    return data


def change_manifest(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Edit factored.json in place."""
    data = manifest_of(folder)
    change(data)
    (folder / MANIFEST).write_text(json.dumps(data))


def sign(folder: Path) -> None:
    """Make sizes and hashes in factored.json right again after a file was changed, so that later checks are reached."""

    def resign(data: dict[str, Any]) -> None:
        for entry in data["files"]:
            content = (folder / entry["name"]).read_bytes()
            entry["bytes"], entry["sha256"] = len(content), hashlib.sha256(content).hexdigest()

    change_manifest(folder, resign)


def change_json(folder: Path, name: str, change: Callable[[dict[str, Any]], None]) -> None:
    """Edit a JSON file of the folder and sign it."""
    data = json.loads((folder / name).read_text())
    change(data)
    (folder / name).write_text(json.dumps(data))
    sign(folder)


__all__ = [
    "CPU",
    "INDEX",
    "MANIFEST",
    "change_json",
    "change_manifest",
    "dense_folder",
    "factored_folder",
    "in_memory",
    "logits",
    "manifest_of",
    "of",
    "random_tokens",
    "sign",
]
