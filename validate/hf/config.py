"""The entry of config.json that says how a folder is factored: `quantization_config` of method `low_rank`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from transformers.quantizers.auto import register_quantization_config
from transformers.utils.quantization_config import QuantizationConfigMixin

from validate.hf.errors import refuse
from validate.hf.names import FORMS, INDEX, METHOD, WEIGHTS

WHERE = f"quantization_config of {METHOD}"


@register_quantization_config(METHOD)
@dataclass(kw_only=True)
class LowRankConfig(QuantizationConfigMixin):
    """Which linears are factored, to which ranks, which layers are left out, and which linears are in int8.

    Attributes:
        layers: path of the list of layers in the model's class, such as `model.layers`.
        num_layers: of the dense model.
        modules: `LAYER.PATH` of each factored linear, the layer as the dense model counts it -> its `form` (svd or
            tucker) and `rank`, after the first factor and before the last.
        drop: layers of the dense model that are left out.
        weight_dtype: int8 for weights in int8 with a scale for each output, or None.
        shards: number of weight files.
        int8: with int8, the path inside a layer of each linear, factored or not, that is in it.
        quant_method: always `low_rank`.

    Raises:
        FactoredCheckpointError: when a field is missing, unknown or of the wrong type.
    """

    layers: str
    num_layers: int
    modules: dict[str, dict[str, Any]]
    drop: list[int] = field(default_factory=list)
    weight_dtype: str | None = None
    int8: list[str] = field(default_factory=list)
    shards: int = 1
    quant_method: str = METHOD  # type: ignore[assignment]

    def __post_init__(self) -> None:
        kinds = {"layers": str, "num_layers": int, "modules": dict, "drop": list, "int8": list, "shards": int}
        for name, kind in kinds.items():
            if type(getattr(self, name)) is not kind:
                refuse(f"{WHERE}: {name}", getattr(self, name), f"a JSON {kind.__name__}")
        if self.quant_method != METHOD or self.weight_dtype not in (None, "int8"):
            refuse(f"{WHERE}: weight_dtype", self.weight_dtype, "int8, or null")
        if any(type(layer) is not int for layer in self.drop):
            refuse(f"{WHERE}: drop", self.drop, "whole numbers")
        if any(type(name) is not str for name in self.int8) or bool(self.int8) != (self.weight_dtype == "int8"):
            refuse(f"{WHERE}: int8", self.int8, "names of linears with weight_dtype int8, none without")
        for name, entry in self.modules.items():
            check_entry(entry, f"{WHERE}: modules: {name:.80}")
            if not name.partition(".")[0].isdecimal():
                refuse(f"{WHERE}: modules", name, "LAYER.PATH")

    @classmethod
    def from_dict(cls, config_dict: Any, return_unused_kwargs: bool = False, **kwargs: Any) -> Any:
        """The entry from JSON; nothing in it is ignored."""
        if not isinstance(config_dict, Mapping):
            refuse(WHERE, config_dict, "a JSON object")
        known = cls.__dataclass_fields__
        for name in config_dict:
            if name not in known:
                refuse(f"{WHERE}: {name}", config_dict[name], f"one of {', '.join(known)}")
        for name in ("layers", "num_layers", "modules"):
            if name not in config_dict:
                refuse(f"{WHERE}: {name}", None, "given")
        return super().from_dict(dict(config_dict), return_unused_kwargs, **kwargs)  # type: ignore[no-untyped-call]

    @classmethod
    def of_manifest(cls, manifest: Mapping[str, Any]) -> LowRankConfig:
        """The entry that belongs to a factored.json."""
        modules = {
            f"{site['layer']}.{site['module']}": {"form": site["form"], "rank": list(site["rank"])}
            for site in manifest["sites"]
        }
        return cls(
            layers=manifest["layers"],
            num_layers=manifest["num_layers"],
            modules=modules,
            drop=list(manifest["drop"]),
            weight_dtype=manifest.get("weight_dtype"),
            int8=list(manifest.get("int8", [])),
            shards=sum(entry["name"].endswith(".safetensors") for entry in manifest["files"]),
        )

    def to_dict(self) -> dict[str, Any]:
        """The content of `quantization_config` in config.json."""
        modules = {name: {"form": each["form"], "rank": list(each["rank"])} for name, each in self.modules.items()}
        return {
            "quant_method": METHOD,
            "layers": self.layers,
            "num_layers": self.num_layers,
            "modules": modules,
            "drop": list(self.drop),
            "weight_dtype": self.weight_dtype,
            "int8": list(self.int8),
            "shards": self.shards,
        }

    @property
    def weights_name(self) -> str:
        """The file that is, or names, all weights."""
        return WEIGHTS if self.shards == 1 else INDEX

    def sites(self) -> Iterator[tuple[int, str, str, Sequence[int]]]:
        """Layer, path inside it, form and both ranks of each factored linear."""
        for name, entry in self.modules.items():
            layer, _, path = name.partition(".")
            yield int(layer), path, entry["form"], entry["rank"]


def check_entry(entry: Any, where: str) -> None:
    """Raise FactoredCheckpointError unless an object has a known form and two whole numbers as rank."""
    rank = entry.get("rank") if isinstance(entry, Mapping) else None
    if not isinstance(rank, list) or [type(each) for each in rank] != [int, int] or entry.get("form") not in FORMS:
        refuse(where, entry, f"form {' or '.join(FORMS)} and two whole numbers as rank")
