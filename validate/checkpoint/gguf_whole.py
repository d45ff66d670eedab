"""Whether a model takes all that a GGUF file holds: what transformers finds no place for it leaves out, and what the
file lacks it makes up, both without a word."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from costmodel.errors import ModelError

_OF_POSITIONS = re.compile(r"rope_(freqs|factors_long|factors_short)\.weight")
"""Tensors that scale rotary positions; transformers reads none of them."""
_SCALING = re.compile(r"[^.]+\.rope\.scaling\.\w+|[^.]+\.rope\.scale_linear")
_READ_BY = "gpt-oss."
"""The one architecture whose scaling of positions transformers reads."""
_BLOCK = re.compile(r"blk\.(\d+)\.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """What a GGUF file holds.

    Attributes:
        types: how many tensors are stored in each type, the most frequent first.
        sizes: numbers of each tensor by its name, of those that are a model's weights.
        of_positions: tensors and entries that scale rotary positions, and that no model is given.
    """

    types: dict[str, int]
    sizes: dict[str, int]
    of_positions: tuple[str, ...]

    @classmethod
    def read(cls, file: Path) -> Held:
        """Of a file whose header was held to its length.

        Raises:
            ValueError: when tensors overlap, or its blocks are not those that its header says.
            Exception: of other kinds, for a file that is no GGUF.
        """
        import gguf

        reader = gguf.GGUFReader(file)
        end, last = 0, ""
        for tensor in sorted(reader.tensors, key=lambda each: each.data_offset):
            if tensor.data_offset < end:
                raise ValueError(f"tensors {last} and {tensor.name} overlap")
            end, last = tensor.data_offset + tensor.n_bytes, tensor.name
        sizes = {tensor.name: tensor.n_elements for tensor in reader.tensors}
        _require_blocks(reader, sizes)
        scaled = [name for name in sizes if _OF_POSITIONS.fullmatch(name)]
        entries = [key for key in reader.fields if _SCALING.fullmatch(key) and not key.startswith(_READ_BY)]
        return cls(
            types=dict(Counter(tensor.tensor_type.name for tensor in reader.tensors).most_common()),
            sizes={name: size for name, size in sizes.items() if name not in scaled},
            of_positions=(*scaled, *entries),
        )

    def require_taken(self, shell: Any) -> None:
        """Make sure that a model has a place for every number, and none for more: before any memory is taken for it.

        Args:
            shell: the model that the file's metadata describe, without memory.

        Raises:
            ModelError: naming tensors that it has no place for, or weights that the file lacks.
        """
        wanted, held = sum(each.numel() for each in shell.parameters()), sum(self.sizes.values())
        if wanted == held:
            return
        from transformers.modeling_gguf_pytorch_utils import TENSOR_PROCESSORS, TensorProcessor, get_gguf_hf_weights_map

        config = shell.config.to_dict()
        kind: Any = TENSOR_PROCESSORS.get(shell.config.model_type, TensorProcessor)
        processor = kind(config=config)
        places = get_gguf_hf_weights_map(shell, processor)
        if lacking := [place for name, place in places.items() if name not in self.sizes and _is_own(shell, place)]:
            raise ModelError("the file lacks weights of the model", value=lacking[0], hint=f"{len(lacking)} in all")
        known = {*places, *(f"{name}.weight" for name in places)}
        if odd := [name for name in self.sizes if name not in known]:
            where = type(shell).__name__
            raise ModelError(
                f"{where} of transformers has no place for a tensor", value=odd[0], hint=f"{len(odd)} in all"
            )
        hint = "its metadata and its tensors are at odds"
        raise ModelError("numbers in the tensors", value=f"{held:,}", allowed=f"{wanted:,}", hint=hint)


def _is_own(shell: Any, place: str) -> bool:
    """Whether a name is the first of its weight, not that of one tied to it or of a buffer."""
    return place in dict(shell.named_parameters())


def _require_blocks(reader: Any, names: dict[str, int]) -> None:
    found = sorted({int(match[1]) for name in names if (match := _BLOCK.match(name))})
    said = {key: field for key, field in reader.fields.items() if re.fullmatch(r"[^.]+\.block_count", key)}
    counts = [int(field.parts[field.data[0]][0]) for field in said.values()]
    if len(counts) != 1:
        raise ValueError(f"{len(counts)} entries of block_count instead of one")
    if not found or [len(found), found[-1] + 1] != [counts[0], counts[0]]:
        raise ValueError(f"block_count is {counts[0]}, and the tensors are of {len(found)} blocks")
