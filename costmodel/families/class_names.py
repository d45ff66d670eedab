"""Names of classes, compared whole: which type and head each is, and the refusal of one that no row has."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from costmodel.errors import ModelError
from costmodel.families.fields import Fields
from costmodel.families.heads import MakeHead
from costmodel.families.refused import what_is_lacking
from costmodel.families.row import FamilyRow

_RENAMED = {"BailingMoeV3": "BailingHybrid", "LlamaBidirectional": "Llama"}
"""How classes of a repository's own code begin -> how those of transformers of the same layers do."""

_MADE_CAUSAL = "an encoder's layers made to see the tokens before alone, and a cache"


def classes_of(fields: Fields) -> list[str]:
    """What `architectures` names; ModelError where it is no list of names."""
    value = fields.data.get("architectures")
    if value is None:
        return []
    if not isinstance(value, list) or not all(isinstance(entry, str) for entry in value):
        raise fields.error("architectures", "a list of names of classes")
    return [
        next((new + entry.removeprefix(old) for old, new in _RENAMED.items() if entry.startswith(old)), entry)
        for entry in value
    ]


def type_of(name: str, rows: Mapping[str, FamilyRow]) -> str | None:
    """The model_type whose class this is, by its whole name; None where there is no such one."""
    return next((each for each, row in rows.items() if head_of(name, each, row) is not None), None)


def head_of(name: str, model_type: str, row: FamilyRow) -> MakeHead | None:
    """The head of a class of the row; the name is compared whole, small and capital letters alike."""
    return next((make for each, make in row.heads_of(model_type).items() if name.lower() == each.lower()), None)


def named_head(fields: Fields, name: str, row: FamilyRow, rows: Mapping[str, FamilyRow]) -> MakeHead:
    """The head of a class of the row's, or of the fields' model_type alone."""
    make = head_of(name, fields.model_type, row)
    if make is not None:
        return make
    names, other = ", ".join(row.heads_of(fields.model_type)), type_of(name, rows)
    causal = not row.causal and name.endswith(("ForCausalLM", "LMHeadModel", "Decoder"))
    lacking = what_is_lacking(name, default=_MADE_CAUSAL if causal else "a head or layers of its own")
    hint = f"{name} lacks a row: {lacking}" if other is None else f"{name} is a class of model_type {other}"
    raise fields.error("architectures", f"a class of model_type {fields.model_type}: {names}", hint)


def unsupported(fields: Fields, name: str, rows: Iterable[str]) -> ModelError:
    """The error for a type or class that no row reads."""
    classes = [each for each in classes_of(fields)[:1] if each != name]
    return ModelError(
        f"{fields.source}: architecture not supported",
        value=name,
        allowed=some(rows),
        hint=f"{(*classes, 'it')[0]} lacks a row: {what_is_lacking(name, *classes)}",
    )


def some(rows: Iterable[str]) -> str:
    """The first few types, and where all are."""
    known = list(rows)
    return ", ".join(known[:4]) + (f" and {len(known) - 4} more: docs/families.md" if len(known) > 4 else "")
