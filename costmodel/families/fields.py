"""Typed, bounded access to the fields of a config.json; an error names file, field, value and what is allowed."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from costmodel.errors import InputError, ModelError, nearest
from costmodel.forward.cost import ACTIVATIONS
from costmodel.units import DType

_LENGTHS = (
    "max_position_embeddings",
    "original_max_position_embeddings",
    "max_context_length",
    "max_seq_len",
    "max_sequence_length",
    "model_max_length",
    "n_positions",
    "seq_length",
    "sliding_window",
)
"""Fields that count positions, of which some models have a million and more."""
LIMITS = {
    "num_hidden_layers": 1_000,
    "n_layer": 1_000,
    "vocab_size": 10**8,
    **dict.fromkeys(_LENGTHS, 10**9),
}
"""Largest believable value of a field; 1,000,000 for every field that is not listed."""

_REQUIRED = -1
_CHECKPOINT_DTYPES = (DType.FP32, DType.FP16, DType.BF16)


class Fields:
    """The fields of one configuration, with Hugging Face's rules: unknown keys are ignored, absent ones take a default,
    and null is an error except where a class of transformers accepts it.

    Args:
        data: the decoded JSON object.
        name: what the model is called.
        source: what error messages call the configuration, usually its path.
        num_layers: a number of layers to use in place of the configuration's own.
        path: where in the file the object is, for errors; empty, or up to a dot.
    """

    def __init__(
        self, data: Mapping[str, object], *, name: str, source: str, num_layers: int | None = None, path: str = ""
    ) -> None:
        self.data = data
        self.name = name
        self.source = source
        self.num_layers = num_layers
        self.path = path

    def with_data(self, data: Mapping[str, object]) -> Fields:
        """Other fields of the same file."""
        return self.at(data, self.path)

    def at(self, data: Mapping[str, object], path: str) -> Fields:
        """The fields of an object inside, by its path."""
        return Fields(data, name=self.name, source=self.source, num_layers=self.num_layers, path=path)

    def with_values(self, **values: object) -> Fields:
        """The same fields with these values."""
        return self.with_data({**self.data, **values})

    @property
    def model_type(self) -> str:
        """The field `model_type`, which says which row reads the others."""
        return str(self.data["model_type"])

    def error(self, name: str, allowed: str, hint: str = "") -> ModelError:
        """The error for the value that field `name` has now."""
        if name not in self.data:
            return ModelError(f"{self.source}: field {self.path}{name} is missing", allowed=allowed, hint=hint)
        return ModelError(f"{self.source}: field {self.path}{name}", value=self.data[name], allowed=allowed, hint=hint)

    def renamed(self, aliases: Mapping[str, str]) -> Fields:
        """The same fields with the generic names in `aliases` replaced by the names native to a class.

        A generic name that is null says nothing beside a native one.

        Raises:
            ModelError: when both names are present and disagree.
        """
        data = dict(self.data)
        for generic, native in aliases.items():
            if data.get(generic) is None and native in data:
                continue
            if generic in data and data.setdefault(native, data[generic]) != data[generic]:
                raise self.error(generic, f"the value of {native}, {data[native]!r}, which means the same")
        return self.with_data(data)

    def without(self, *names: str) -> Fields:
        """The other fields."""
        return self.with_data({name: value for name, value in self.data.items() if name not in names})

    def with_defaults(self, values: Mapping[str, object]) -> Fields:
        """The same fields, and these where there are none."""
        return self.with_data({**values, **self.data})

    def require(self, *names: str) -> None:
        """Raise a ModelError that lists every one of `names` that is absent."""
        missing = [name for name in names if name not in self.data]
        if missing:
            raise ModelError(
                f"{self.source}: missing {', '.join(self.path + name for name in missing)}",
                allowed=f"a config.json with {', '.join(names)}",
            )

    def given(self, *names: str) -> bool:
        """Whether one of the fields is there and not null."""
        return any(self.data.get(name) is not None for name in names)

    def nested(self, name: str) -> Fields:
        """The fields of the object that a field is; none where it is absent or null."""
        value = self.data.get(name)
        if value is None:
            value = {}
        if not isinstance(value, Mapping):
            raise self.error(name, "an object or null")
        return self.at(value, f"{self.path}{name}.")

    def count(self, name: str, default: int = _REQUIRED, minimum: int = 1) -> int:
        """A whole number from `minimum` to the field's limit; an absent field without a default is an error."""
        if name not in self.data and default != _REQUIRED:
            return default
        limit = LIMITS.get(name, 10**6)
        value = self.data.get(name)
        if type(value) is not int or not minimum <= value <= limit:
            raise self.error(name, f"a whole number from {minimum:,} to {limit:,}")
        return value

    def count_or_none(self, name: str, default: int | None = None, minimum: int = 1) -> int | None:
        """As `count`, but null, and an absent field without a default, is None."""
        if name in self.data and self.data[name] is None:
            return None
        return default if name not in self.data else self.count(name, minimum=minimum)

    def count_or_auto(self, name: str, automatic: int) -> int:
        """As `count`; `automatic` where the field is absent or "auto"."""
        return automatic if name not in self.data or self.says(name, "auto") else self.count(name)

    def is_text(self, name: str) -> bool:
        """Whether the field is a text."""
        return isinstance(self.data.get(name), str)

    def text(self, name: str, default: str = "") -> str:
        """A text; null means the default."""
        value = self.data.get(name)
        if value is not None and not isinstance(value, str):
            raise self.error(name, "a text")
        return default if value is None else value

    def says(self, name: str, value: str | bool) -> bool:
        """Whether the field is this value, of the same type."""
        return type(self.data.get(name)) is type(value) and self.data[name] == value

    def layers(self, name: str) -> int:
        """The number of layers: the override when there is one, within the field's limits too, else field `name`."""
        if self.num_layers is None:
            return self.count(name)
        self.count(name)
        return self.with_values(**{name: self.num_layers}).count(name)

    def flag(self, name: str, default: bool) -> bool:
        """true or false; null is neither."""
        value = self.data.get(name, default)
        if not isinstance(value, bool):
            raise self.error(name, "true or false")
        return value

    def flag_or(self, name: str, default: bool) -> bool:
        """As `flag`, but null means the default, as where transformers asks whether a value is set."""
        return default if self.data.get(name) is None else self.flag(name, default)

    def number_or_none(self, name: str, most: float) -> float | None:
        """A number above 0 and up to `most`; None where the field is absent or null."""
        value = self.data.get(name)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= most:
            raise self.error(name, f"a number above 0 and up to {most:,.0f}")
        return value

    def share(self, name: str, default: float) -> float:
        """A share above 0 and up to 1: the field's, that of `rope_parameters` or `rope_scaling`, else the default."""
        value = self.number_or_none(name, 1)
        for outer in ("rope_parameters", "rope_scaling"):
            if value is None:
                value = self.nested(outer).number_or_none("partial_rotary_factor", 1)
        return default if value is None else float(value)

    def labels(self) -> int:
        """Classes that a classifier tells apart: `num_labels`, else as many as `id2label` names, else 2."""
        named = len(self.nested("id2label").data)
        return self.count_or_none("num_labels") or named or 2

    def choice(self, name: str, default: str, allowed: Collection[str]) -> str:
        """One of the strings in `allowed`."""
        value = self.data.get(name, default)
        if not isinstance(value, str) or value not in allowed:
            hint = nearest(value, allowed) if isinstance(value, str) else ""
            raise self.error(name, ", ".join(sorted(allowed)), hint if "mean" in hint else "")
        return value

    def choice_or(self, name: str, default: str, allowed: Collection[str]) -> str:
        """As `choice`, but null means the default."""
        return self.choice(name, default, allowed) if self.given(name) else default

    def activation(self, name: str, default: str) -> str:
        """The name of an MLP activation; one with parameters of its own (xIELU) where it is the default alone."""
        return self.choice(name, default, [each for each in ACTIVATIONS if each != "xielu" or default == each])

    def head_dim(self, heads_name: str, hidden_name: str) -> int:
        """Width of a head: the hidden size over the number of heads, which must divide it."""
        hidden, heads = self.count(hidden_name), self.count(heads_name)
        if hidden % heads:
            raise self.error(heads_name, f"a divisor of {hidden_name} {hidden}")
        return hidden // heads

    def refuse(self, name: str, why: str) -> None:
        """Raise a ModelError unless the field is absent or empty: null, false, 0 or an empty object or list."""
        if self.data.get(name):
            kind = self.data.get("model_type")
            raise self.error(name, "absent, null or false", f"{kind}: {why}" if isinstance(kind, str) else why)

    def dtype(self) -> DType | None:
        """The checkpoint's type: `dtype`, or `torch_dtype` as older versions wrote it; None when neither says."""
        name = "torch_dtype" if self.data.get("dtype") is None else "dtype"
        value = self.data.get(name)
        if value is None or value == "auto":
            return None
        try:
            if isinstance(value, str):
                return DType.parse(value, allowed=_CHECKPOINT_DTYPES)
        except InputError:
            pass
        raise self.error(name, "float32, float16, bfloat16")
