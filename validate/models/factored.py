"""Loads a folder that `validate apply` wrote; needs torch, transformers, safetensors, and no other file of the project.

    model = load_factored("factored")
    tokenizer = transformers.AutoTokenizer.from_pretrained("factored")
    print(tokenizer.decode(model.generate(**tokenizer("Once", return_tensors="pt"), max_new_tokens=20)[0]))

Whatever does not fit is refused in one line, before memory is taken for it. Nothing in a folder is run.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, NoReturn, cast

import torch
from safetensors import SafetensorError, safe_open
from torch import nn
from torch.overrides import TorchFunctionMode

FORMAT, SCHEMA = "factored-checkpoint", 1
MANIFEST, INDEX = "factored.json", "factored.safetensors.index.json"
GENERATION = "generation_config.json"
DTYPES = {"fp32": (torch.float32, "F32"), "bf16": (torch.bfloat16, "BF16"), "fp16": (torch.float16, "F16")}
"""A manifest's name of a type -> torch's, and that of safetensors."""
STAGES = {2: ("in", "out"), 3: ("in", "core", "out")}
"""Names of the factors by their number, in the order they run."""
_HEADS = ("AutoModelForCausalLM", "AutoModelForMaskedLM")
"""A model that has one of these heads in transformers is a language model."""
_CLASSES = ("AutoModel", *_HEADS, "AutoModelForSequenceClassification")
_FORMS = {"svd": 2, "tucker": 3}
_FILE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,200}", re.ASCII)
_MAX_JSON = 64 * 10**6
_MAX_LAYERS, _MAX_LABELS = 10_000, 100_000


class FactoredCheckpointError(ValueError):
    """A folder that is not as `validate apply` writes them; its text is one line."""


class FactoredLinear(nn.Module):
    """y = W_out (W_core) W_in x + bias with the factors never multiplied together; replaces nn.Linear and Conv1D.

    Its submodules are `in`, `core` (three factors only) and `out`; the bias belongs to `out`.

    Args:
        stages: weights in the order they run, each (out, in) of its own linear; two or three.
        bias: of (out_features,), shared with the layer replaced, or None.
    """

    def __init__(self, stages: Sequence[torch.Tensor], bias: nn.Parameter | None) -> None:
        super().__init__()
        self.in_features, self.out_features = stages[0].shape[1], stages[-1].shape[0]
        for name, weight in zip(STAGES[len(stages)], stages, strict=True):
            linear = nn.Linear(weight.shape[1], weight.shape[0], bias=False, device="meta", dtype=weight.dtype)
            linear.weight = nn.Parameter(weight.contiguous(), requires_grad=False)
            linear.bias = bias if name == "out" else None  # type: ignore[assignment]
            self.add_module(name, linear)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """(..., in_features) -> (..., out_features)."""
        for stage in self._modules.values():
            hidden = stage(hidden)  # type: ignore[misc]
        return hidden


class EmptyOnMeta(TorchFunctionMode):
    """Weights, which modules allocate with torch.empty, take no memory; buffers, which are computed, are real."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.empty:
            kwargs = {**(kwargs or {}), "device": "meta"}
        return func(*args, **(kwargs or {}))


class Checked(NamedTuple):
    """A folder that passed every check: the content of its JSON files, and the weight file of each tensor."""

    manifest: dict[str, Any]
    config: dict[str, Any]
    tensors: dict[str, Path]


def is_factored(folder: str | Path) -> bool:
    """Whether a folder claims to be a factored checkpoint."""
    return (Path(folder) / MANIFEST).exists()


def load_factored(
    folder: str | Path, *, dtype: torch.dtype | None = None, device: torch.device | str = "cpu", verify: bool = True
) -> nn.Module:
    """The model with its head, in evaluation mode and without gradients; `generate` works as ever.

    Args:
        dtype: of the weights in memory; None for the stored one.
        verify: compare the SHA-256 of files too, which reads them once more.

    Raises:
        FactoredCheckpointError: when the folder is not exactly what its manifest and config.json say.
    """
    checked = check_factored(folder, verify=verify)
    with EmptyOnMeta():
        model: Any = build_factored(checked.manifest, checked.config)
    places = tensor_places(model)
    for path in sorted(set(checked.tensors.values())):
        with safe_open(path, framework="pt", device="cpu") as file:
            for name in file.keys():  # noqa: SIM118 - it is no mapping
                tensor = file.get_tensor(name)
                kind = dtype if dtype is not None and tensor.is_floating_point() else tensor.dtype
                tensor = tensor.to(device=device, dtype=kind, copy=True)  # aligned, and no view of the file
                owner, key = places[name][0]
                value = nn.Parameter(tensor, requires_grad=False) if isinstance(owner[key], nn.Parameter) else tensor
                for owner, key in places[name]:
                    owner[key] = value
    if any(each["name"] == GENERATION for each in checked.manifest["files"]) and model.can_generate():
        model.generation_config = generation_config(model, _read_json(Path(folder), GENERATION))
    model.save_pretrained = _refuse_saving  # `from_pretrained` would take what it writes and make up the factors
    return cast(nn.Module, model.to(device).eval().requires_grad_(False))


def check_factored(folder: str | Path, *, verify: bool = True) -> Checked:
    """Every check of `load_factored`: manifest, files, names, shapes and types of tensors; takes no memory for weights.

    Raises:
        FactoredCheckpointError: naming the first thing that does not fit.
    """
    try:
        return _check(Path(folder), verify)
    except FactoredCheckpointError as error:
        raise FactoredCheckpointError(f"{folder}: {error}") from None
    except (SafetensorError, OSError, RecursionError) as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise FactoredCheckpointError(f"{folder}: damaged; {reason[:300]}") from error


def build_factored(manifest: dict[str, Any], config: dict[str, Any]) -> nn.Module:
    """The structure that a manifest and a config.json describe, on torch's default device.

    Raises:
        FactoredCheckpointError: when there is no such model, or a site or rank is not possible in it.
    """
    from transformers.pytorch_utils import Conv1D

    name, settings_of = manifest["architecture"], _settings_class(config)
    classes = _model_classes(settings_of)
    if name not in classes:
        _refuse(f"{MANIFEST}: architecture", name, ", ".join(classes))
    kind, dtype = classes[name], DTYPES[manifest["dtype"]][0]
    try:
        model: Any = kind._from_config(settings_of.from_dict(dict(config)), dtype=dtype, attn_implementation="sdpa")
        layers = len(model.get_submodule(manifest["layers"]))
    except Exception as error:  # any kind, for any field of the configuration
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        _refuse(f"config.json does not give a {kind.__name__} with {manifest['layers']}: {reason[:200]}")
    drop = manifest["drop"]
    if len(set(drop)) < len(drop) or not set(drop) <= set(range(layers)):
        _refuse(f"{MANIFEST}: drop", drop, f"different layers from 0 to {layers - 1}")
    for site in manifest["sites"]:
        path, (first, last) = f"{manifest['layers']}.{site['layer']}.{site['module']}", site["rank"]
        parent, _, child = path.rpartition(".")
        try:
            dense = model.get_submodule(path)
        except AttributeError:
            dense = None
        if not isinstance(dense, nn.Linear | Conv1D) or site["layer"] in drop:
            _refuse(f"{MANIFEST}: site", path, "different linear layers of the model, none of them dropped")
        n, k = dense.weight.shape if isinstance(dense, nn.Linear) else reversed(dense.weight.shape)
        if not (1 <= first <= min(n, k) and 1 <= last <= min(n, k)) or (site["form"] == "svd" and first != last):
            _refuse(f"{MANIFEST}: rank of {path}", site["rank"], f"1 to {min(n, k)}, twice the same with svd")
        shapes = [(first, k), (last, first), (n, last)] if site["form"] == "tucker" else [(first, k), (n, last)]
        stages = [torch.empty(shape, dtype=dtype, device="meta") for shape in shapes]
        setattr(model.get_submodule(parent), child, FactoredLinear(stages, cast(Any, dense.bias)))
    for owner, name, value in without_layers(model, manifest["layers"], drop) if drop else ():
        setattr(owner, name, value)
    return cast(nn.Module, model)


def _settings_class(config: Mapping[str, Any]) -> Any:
    """transformers' configuration class of a language model.

    Raises:
        FactoredCheckpointError: when `model_type` is none, or one whose configuration may hold whole models.
    """
    import transformers

    model_type = config.get("model_type")
    known: Any = transformers.CONFIG_MAPPING
    kind: Any = known[model_type] if isinstance(model_type, str) and model_type in known else None
    heads = [getattr(transformers, auto)._model_mapping for auto in _HEADS]
    if kind is None or kind.sub_configs or not any(kind in mapping for mapping in heads):
        _refuse("config.json: model_type", model_type, "a language model of transformers that holds no other models")
    return kind


def _model_classes(kind: Any) -> dict[str, Any]:
    """The classes that transformers has for a configuration class, without a head and with one, by their names."""
    import transformers

    mappings = [getattr(transformers, auto)._model_mapping for auto in _CLASSES]
    found = [mapping[kind] for mapping in mappings if kind in mapping]
    return {each.__name__: each for entry in found for each in (entry if isinstance(entry, tuple) else (entry,))}


def without_layers(model: nn.Module, path: str, dropped: Collection[int]) -> list[tuple[Any, str, Any]]:
    """What to set, as (owner, attribute, value), so that a transformers model skips layers of the list at `path`.

    The rest is renumbered, since a layer's number is its place in the KV cache.
    """
    parent, _, child = path.rpartition(".")
    layers: Any = model.get_submodule(path)
    kept = [index for index in range(len(layers)) if index not in dropped]
    found: list[tuple[Any, str, Any]] = [
        (model.get_submodule(parent), child, nn.ModuleList([layers[index] for index in kept]))
    ]
    for position, index in enumerate(kept):
        numbered = [each for each in layers[index].modules() if isinstance(getattr(each, "layer_idx", None), int)]
        found += [(module, "layer_idx", position) for module in numbered]
    config: Any = model.config
    found.append((config, "num_hidden_layers", len(kept)))
    if isinstance(getattr(config, "layer_types", None), list):
        found.append((config, "layer_types", [config.layer_types[index] for index in kept]))
    return found


def generation_config(model: Any, settings: Any) -> Any:
    """What generation_config.json says, as transformers wants it for a model that can generate.

    Raises:
        FactoredCheckpointError: when it is not possible.
    """
    try:
        return type(model.generation_config).from_dict(settings)
    except Exception as error:  # any kind, for any field
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        _refuse(f"{GENERATION}: {reason[:200]}")


def tensor_places(model: nn.Module) -> dict[str, list[tuple[dict[str, Any], str]]]:
    """The tensors that a checkpoint of `model` holds, tied ones once: name -> where they are, as (dictionary, key)."""
    names: dict[int, str] = {}
    places: dict[str, list[tuple[dict[str, Any], str]]] = {}
    for prefix, module in model.named_modules():
        saved = {key: each for key, each in module._buffers.items() if key not in module._non_persistent_buffers_set}
        for owner, tensors in ((module._parameters, module._parameters), (module._buffers, saved)):
            for key, tensor in tensors.items():
                if tensor is not None:
                    name = names.setdefault(id(tensor), f"{prefix}.{key}" if prefix else key)
                    places.setdefault(name, []).append((cast(Any, owner), key))
    return places


def _check(folder: Path, verify: bool) -> Checked:
    manifest = read_manifest(folder)
    for entry in manifest["files"]:
        path = _inside(folder, entry["name"])
        if path.stat().st_size != entry["bytes"]:
            _refuse(f"{path.name}: size", path.stat().st_size, f"{entry['bytes']} bytes")
        if verify:
            with path.open("rb") as stream:
                digest = hashlib.file_digest(stream, "sha256").hexdigest()
            if digest != entry["sha256"]:
                _refuse(f"{path.name}: SHA-256", digest, str(entry["sha256"]))
    listed = [entry["name"] for entry in manifest["files"]]
    shards = [name for name in listed if name.endswith(".safetensors")]
    for name in ("config.json", *([INDEX] if len(shards) != 1 else [])):
        if name not in listed:
            _refuse(f"{MANIFEST}: files lacks {name}")
    if stray := sorted({path.name for path in folder.glob("*.safetensors")} - set(shards)):
        _refuse(f"{MANIFEST}: files lacks a weight file of the folder", stray[0])
    config, stored = _read_json(folder, "config.json"), _read_headers(folder, shards)
    held = {name: shard for name, (shard, _, _) in stored.items()}
    if len(shards) > 1 and _read_json(folder, INDEX).get("weight_map") != held:
        _refuse(f"{INDEX}: weight_map is not what the weight files hold")
    names = ("num_hidden_layers", _settings_class(config).attribute_map.get("num_hidden_layers"))
    for layers in [config[key] for key in names if key in config] or [None]:
        if type(layers) is not int or not 0 < layers <= min(len(stored) + len(manifest["drop"]), _MAX_LAYERS):
            _refuse("config.json: number of layers", layers, "at most as many as there are tensors")
    labels = config.get("num_labels", 0)
    if type(labels) is not int or not 0 <= labels <= _MAX_LABELS:  # transformers gives each a name
        _refuse("config.json: num_labels", labels, f"0 to {_MAX_LABELS}")
    with torch.device("meta"):
        model: Any = build_factored(manifest, config)
    if GENERATION in listed and model.can_generate():
        generation_config(model, _read_json(folder, GENERATION))
    places = tensor_places(model)
    if missing := [name for name in places if name not in stored]:
        _refuse("missing tensor", missing[0])
    for name, (shard, shape, kind) in stored.items():
        if name not in places:
            _refuse(f"{shard}: extra tensor", name)
        owner, key = places[name][0]
        wanted = DTYPES[manifest["dtype"]][1]
        if shape != list(owner[key].shape):
            _refuse(f"{shard}: shape of {name}", shape, str(list(owner[key].shape)))
        if kind != wanted:
            _refuse(f"{shard}: type of {name}", kind, wanted)
    return Checked(manifest, config, {name: folder / shard for name, shard in held.items()})


def read_manifest(folder: Path) -> dict[str, Any]:
    """The content of factored.json, with the types that the rest relies on.

    Raises:
        FactoredCheckpointError: when it is damaged, of another schema or no manifest.
    """
    data = _read_json(folder, MANIFEST)
    if data.get("format") != FORMAT or type(data.get("schema")) is not int or data["schema"] != SCHEMA:
        _refuse(f"{MANIFEST}: format and schema", [data.get("format"), data.get("schema")], f"{FORMAT}, {SCHEMA}")
    fields = {"architecture": str, "layers": str, "dtype": str, "sites": list, "drop": list, "files": list}
    _typed(data, fields, MANIFEST)
    if data["dtype"] not in DTYPES:
        _refuse(f"{MANIFEST}: dtype", data["dtype"], ", ".join(DTYPES))
    for site in data["sites"]:
        _typed(site, {"layer": int, "module": str, "form": str, "rank": list}, f"{MANIFEST}: sites")
        if site["form"] not in _FORMS or [type(rank) for rank in site["rank"]] != [int, int]:
            _refuse(f"{MANIFEST}: site", site, f"form {' or '.join(_FORMS)} and two whole numbers as rank")
    if any(type(layer) is not int for layer in data["drop"]):
        _refuse(f"{MANIFEST}: drop", data["drop"], "whole numbers")
    for entry in data["files"]:
        _typed(entry, {"name": str, "bytes": int, "sha256": str}, f"{MANIFEST}: files")
    if len({entry["name"] for entry in data["files"]}) < len(data["files"]):
        _refuse(f"{MANIFEST}: a file twice")
    return data


def _read_headers(folder: Path, shards: list[str]) -> dict[str, tuple[str, list[int], str]]:
    """Tensor name -> file, shape and safetensors' name of its type; what the format itself forbids is refused too."""
    stored: dict[str, tuple[str, list[int], str]] = {}
    for shard in shards:
        with (folder / shard).open("rb") as stream:  # safetensors reads one of two tensors of a name
            length = int.from_bytes(stream.read(8), "little")
            _parse(stream.read(length) if length <= _MAX_JSON else b"", shard)
        with safe_open(folder / shard, framework="pt", device="cpu") as file:
            for name in file.keys():  # noqa: SIM118 - it is no mapping
                if name in stored:
                    _refuse(f"a tensor in both {stored[name][0]} and {shard}", name)
                part = file.get_slice(name)
                stored[name] = shard, part.get_shape(), part.get_dtype()
    return stored


def _read_json(folder: Path, name: str) -> dict[str, Any]:
    with _inside(folder, name).open("rb") as stream:
        return _parse(stream.read(_MAX_JSON + 1), name)


def _parse(content: bytes, name: str) -> dict[str, Any]:
    """A JSON object, with no key twice and no NaN in it."""

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len(found := dict(pairs)) < len(pairs):
            raise ValueError("a key twice in one object")
        return found

    def number(text: str) -> NoReturn:
        raise ValueError(f"{text} is not a JSON number")

    try:
        data = json.loads(content.decode(), object_pairs_hook=unique, parse_constant=number)
    except (ValueError, RecursionError) as error:
        _refuse(f"{name}: not JSON ({error})")
    if len(content) > _MAX_JSON or not isinstance(data, dict):
        _refuse(f"{name}: not a JSON object of at most {_MAX_JSON} bytes")
    return data


def _inside(folder: Path, name: str) -> Path:
    """The path of a plain file of the folder, not one that its name or a link leads to elsewhere."""
    path = folder / name
    try:
        inside = bool(_FILE_NAME.fullmatch(name)) and path.resolve().parent == folder.resolve()
    except (OSError, RuntimeError):  # links in a circle: RuntimeError until Python 3.13
        inside = False
    if not inside:
        _refuse("a file outside the folder", name, "plain names, and no links to other folders")
    if not path.is_file():
        _refuse("missing file", name)
    return path


def _typed(data: Any, fields: Mapping[str, type], where: str) -> None:
    for key, kind in fields.items():
        if not isinstance(data, dict) or type(data.get(key)) is not kind:
            got = data.get(key) if isinstance(data, dict) else data
            _refuse(f"{where}: {key}", got, f"a JSON {kind.__name__}")


def _refuse(what: str, value: object = ..., allowed: str = "") -> NoReturn:
    got = "" if value is ... else f": got {value!r:.120}"
    raise FactoredCheckpointError(f"{what}{got}" + (f"; allowed: {allowed}" if allowed else ""))


def _refuse_saving(*args: object, **options: object) -> NoReturn:
    raise FactoredCheckpointError("a factored model is not for save_pretrained: copy its folder instead")
