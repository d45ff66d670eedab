"""`costmodel models`: the built-in models, and the structure of any model."""

from __future__ import annotations

import dataclasses
import itertools

import click

from costmodel.cli.common import NamingGroup, format_option, print_table, write_csv, write_json
from costmodel.decomposition.factors import break_even_rank
from costmodel.decomposition.held import held
from costmodel.decomposition.text import describe
from costmodel.families.load import HUB_NAMES, builtin_models, load_model
from costmodel.model import ModelSpec
from costmodel.tensors import WeightTensor


@click.group(cls=NamingGroup)
def command() -> None:
    """List the built-in models and show the structure of any model.

    Example: costmodel models show llama2-7b
    """


@command.command("list")
@format_option
def list_models(fmt: str) -> None:
    """List the built-in models.

    Example: costmodel models list --format csv
    """
    rows = [_summary(load_model(name)) for name in builtin_models()]
    if fmt == "json":
        write_json({"schema": 1, "models": rows})
    elif fmt == "csv":
        write_csv(rows)
    else:
        columns = [key for key in rows[0] if key not in ("family", "max_positions", "hugging_face")]
        cells = [[f"{row['params']:,}" if key == "params" else row[key] for key in columns] for row in rows]
        print_table("Built-in models", [key.replace("_", " ") for key in columns], cells, left=2)


@command.command()
@click.argument("model", metavar="NAME|PATH")
@format_option
def show(model: str, fmt: str) -> None:
    """Show the structure of a model.

    The model is a built-in name, a Hugging Face config.json or a folder with one, or a name on the hub.

    The break-even ranks are the largest at which the factors hold no more parameters than the dense weight: two
    factors (svd) and three (tucker). CSV has the tensors only, JSON what the model has none of, too.

    Example: costmodel models show ./my-model/config.json --format json
    """
    spec = load_model(model)
    tensors = [_tensor_row(tensor) for tensor in spec.tensors]
    if fmt == "json":
        document = {**_fields(spec), "outer_params": spec.outer_params, "kinds": _kinds(spec), "tensors": tensors}
        write_json({"schema": 1, **document})
    elif fmt == "csv":
        write_csv(tensors)
    else:
        has = {name: value for name, value in _fields(spec).items() if isinstance(value, bool) or value}
        fields = [(name.replace("_", " "), _cell(value)) for name, value in has.items()]
        print_table(spec.name, ["field", "value"], fields, left=2)
        outside = [(part.replace("_", " "), f"{count:,}") for part, count in spec.outer_params.items() if count]
        print_table("Outside the layers", ["part", "parameters"], outside)
        columns = ["tensor", "path", "group", "out", "in", "bias", "experts", "parameters"]
        columns += ["break-even svd", "break-even tucker"]
        for name, layers in _layers_by_kind(spec).items():
            kind = spec.kind_of(layers[0])
            cells = [[_cell(value) for value in _tensor_row(tensor).values()] for tensor in kind.tensors]
            which = f"the {len(layers)} layers" if not name else f"the {len(layers)} layers of kind {name}"
            print_table(f"Tensors of each of {which}", columns, cells, left=3, fold=False)


def _layers_by_kind(spec: ModelSpec) -> dict[str, list[int]]:
    """The layers of each kind; one kind without a name where all are alike."""
    layers: dict[str, list[int]] = {}
    for layer in range(spec.num_layers):
        layers.setdefault(spec.layer_kinds[layer] if spec.kinds else "", []).append(layer)
    return layers


def _kinds(spec: ModelSpec) -> list[dict[str, object]]:
    """The kinds of layers: which they are and what each has."""
    return [
        {
            "name": name or "all",
            "layers": layers,
            "params_per_layer": spec.layer_params(layers[0]),
            "tensors": [tensor.name for tensor in spec.kind_of(layers[0]).tensors],
        }
        for name, layers in _layers_by_kind(spec).items()
    ]


def _summary(spec: ModelSpec) -> dict[str, object]:
    return {
        "name": spec.name,
        "family": spec.family.name,
        "model_type": spec.model_type,
        "layers": spec.num_layers,
        "hidden": spec.hidden_size,
        "intermediate": spec.intermediate_size,
        "heads": spec.num_heads,
        "kv_heads": spec.num_kv_heads,
        "vocab": spec.vocab_size,
        "max_positions": spec.max_positions,
        "params": spec.num_params,
        "hugging_face": HUB_NAMES.get(spec.name, ""),
    }


def _fields(spec: ModelSpec) -> dict[str, object]:
    """Every field of the spec but the tensors, as JSON values, then the totals, which are the dense model's."""
    own = held(spec)
    left_out = ("tensors", "kinds", "kind_fields", "layer_kinds", "words")
    values = {item.name: getattr(spec, item.name) for item in dataclasses.fields(spec) if item.name not in left_out}
    blocks = {
        name: dataclasses.asdict(block)
        for name in ("experts", "latent", "recurrent", "altup")
        if (block := getattr(spec, name))
    }
    return {
        **values,
        **blocks,
        "own_experts": list(spec.own_experts),
        "plain_tensors": sorted(spec.plain_tensors),
        "family": spec.family.name,
        "sliding_windows": list(spec.sliding_windows),
        "head": spec.head.kind,
        "weights": spec.weights.text if spec.weights else None,
        "factored": None if own is None else {"configuration": describe(own, spec), "params": own.params(spec)},
        "notes": list(spec.notes),
        "dtype": spec.dtype.value if spec.dtype else None,
        "is_encoder": spec.is_encoder,
        "layer_prefix": spec.layer_prefix,
        "verified": spec.family.verified,
        "params_per_layer": None if spec.kinds else spec.params_per_layer,
        "params": spec.num_params,
    }


def _tensor_row(tensor: WeightTensor) -> dict[str, object]:
    return {
        "name": tensor.name,
        "path": tensor.path,
        "group": tensor.group,
        "out_features": tensor.out_features,
        "in_features": tensor.in_features,
        "bias": tensor.bias,
        "experts": tensor.experts,
        "params": tensor.params,
        "break_even_svd": break_even_rank(tensor.out_features, tensor.in_features, "svd"),
        "break_even_tucker": break_even_rank(tensor.out_features, tensor.in_features, "tucker"),
    }


def _cell(value: object) -> object:
    """A value for the table: yes or no, thousands separated, equal neighbours of a list counted; None without any."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, dict):
        return ", ".join(f"{name.replace('_', ' ')} {_cell(part)}" for name, part in value.items())
    if isinstance(value, list | tuple):
        runs = [(len(list(run)), entry) for entry, run in itertools.groupby(value)]
        return ", ".join(f"{count} x {'none' if entry is None else entry}" for count, entry in runs) or None
    return value if value != "" else None
