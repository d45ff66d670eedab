"""A loaded factored model written back as a folder like those of `validate apply`."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import transformers
from huggingface_hub import split_torch_state_dict_into_shards
from safetensors.torch import save_file

from validate.hf.check import check_factored
from validate.hf.errors import refuse
from validate.hf.names import CONFIG, DECOMPOSITION, DTYPES, FORMAT, INDEX, MANIFEST, SCHEMA
from validate.hf.structure import tensor_places


def save_factored(
    model: Any,
    save_directory: str | Path,
    *,
    is_main_process: bool = True,
    state_dict: Mapping[str, torch.Tensor] | None = None,
    max_shard_size: int | str = "50GB",
    push_to_hub: bool = False,
    **ignored: Any,
) -> None:
    """What `save_pretrained` of a loaded factored model does; `from_pretrained` with `validate.hf` imported reads it.

    Other files of the directory stay; an earlier factored model in it goes.

    Args:
        is_main_process: whether this process writes.
        state_dict: tensors in place of the model's own, as sharded training gathers them.
        max_shard_size: of one weight file.
        push_to_hub: not here; `model.push_to_hub(NAME)` saves and uploads.

    Raises:
        FactoredCheckpointError: when the weights are offloaded, or of a type that folders do not hold.
    """
    if push_to_hub:
        refuse("push_to_hub of save_pretrained", push_to_hub, "False; call push_to_hub of the model")
    names = {dtype: name for name, (dtype, _) in DTYPES.items()}
    tensors = _tensors(model, state_dict)
    floats = {tensor.dtype for tensor in tensors.values() if tensor.is_floating_point()}
    if len(floats) != 1 or not floats <= set(names):
        refuse("types of the weights", sorted(map(str, floats)), f"one of {', '.join(map(str, names))}")
    if not is_main_process:
        return
    folder = Path(save_directory)
    folder.mkdir(parents=True, exist_ok=True)
    for path in [folder / MANIFEST, folder / INDEX, *folder.glob("factored*.safetensors")]:
        path.unlink(missing_ok=True)
    written = _write_weights(folder, tensors, max_shard_size)
    model.hf_quantizer.quantization_config.shards = sum(name.endswith(".safetensors") for name in written)
    written += _write_settings(folder, model, next(iter(floats)))
    manifest = _manifest(model, names[next(iter(floats))])
    manifest["files"] = [_record(folder / name) for name in sorted(written)]
    (folder / MANIFEST).write_text(f"{json.dumps(manifest, indent=1)}\n", encoding="utf-8")
    check_factored(folder, verify=False)


def _tensors(model: Any, state_dict: Mapping[str, torch.Tensor] | None) -> dict[str, torch.Tensor]:
    """What a folder holds, tied tensors once, on the CPU."""
    own = {name: owner[key] for name, ((owner, key), *_) in tensor_places(model).items()}
    tensors = own if state_dict is None else {name: state_dict[name] for name in own}
    if away := [name for name, tensor in tensors.items() if tensor.is_meta]:
        refuse("a weight that is offloaded", away[0], "weights in memory")
    return {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}


def _write_weights(folder: Path, tensors: dict[str, torch.Tensor], max_shard_size: int | str) -> list[str]:
    pattern = "factored{suffix}.safetensors"
    split = split_torch_state_dict_into_shards(tensors, filename_pattern=pattern, max_shard_size=max_shard_size)
    for name, keys in split.filename_to_tensors.items():
        save_file({key: tensors[key] for key in keys}, folder / name, metadata={"format": FORMAT})
    written = list(split.filename_to_tensors)
    if split.is_sharded:
        index = {"metadata": split.metadata, "weight_map": split.tensor_to_filename}
        (folder / INDEX).write_text(f"{json.dumps(index, indent=2)}\n", encoding="utf-8")
        written.append(INDEX)
    return written


def _write_settings(folder: Path, model: Any, dtype: torch.dtype) -> list[str]:
    """config.json as the dense model has it, with the entry that says how it is factored."""
    quantizer, written = model.hf_quantizer, [CONFIG]
    config = model.config
    changed = {name: getattr(config, name) for name in quantizer.dense_fields}
    try:
        for name, value in quantizer.dense_fields.items():
            setattr(config, name, value)
        config.architectures, config.dtype = [type(model).__name__], str(dtype).removeprefix("torch.")
        config.save_pretrained(folder)
    finally:
        for name, value in changed.items():
            setattr(config, name, value)
    if model.can_generate():
        model.generation_config.save_pretrained(folder)
        written.append("generation_config.json")
    if quantizer.decomposition is not None:
        (folder / DECOMPOSITION).write_bytes(quantizer.decomposition)
        written.append(DECOMPOSITION)
    return written


def _manifest(model: Any, dtype: str) -> dict[str, Any]:
    config = model.hf_quantizer.quantization_config
    sites = [
        {"layer": layer, "module": module, "form": form, "rank": list(rank)}
        for layer, module, form, rank in config.sites()
    ]
    return {
        "format": FORMAT,
        "schema": SCHEMA,
        "architecture": type(model).__name__,
        "layers": config.layers,
        "num_layers": config.num_layers,
        "dtype": dtype,
        "weight_dtype": config.weight_dtype,
        "int8": list(config.int8),
        "sites": sites,
        "drop": list(config.drop),
        "versions": {"torch": torch.__version__, "transformers": transformers.__version__},
    }


def _record(path: Path) -> dict[str, Any]:
    with path.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    with contextlib.suppress(OSError):  # safetensors' own are for the owner alone
        path.chmod(0o644)
    return {"name": path.name, "bytes": path.stat().st_size, "sha256": digest}
