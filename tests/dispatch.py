"""What PyTorch really does in a pass: the kernels it dispatches and the storage it keeps alive."""

from __future__ import annotations

import collections
import weakref
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

NO_KERNEL = {
    "aten.empty.memory_format",
    "aten.empty_like.default",
    "aten.lift_fresh.default",
    "aten.detach.default",
    "aten._unsafe_view.default",
}


def storages(values: Any) -> dict[int, Any]:
    tensors = [leaf for leaf in tree_leaves(values) if isinstance(leaf, torch.Tensor)]
    return {id(tensor.untyped_storage()): tensor.untyped_storage() for tensor in tensors}


class Kernels(TorchDispatchMode):
    """Counts operations that write: all but views, metadata and bare allocations."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: collections.Counter[str] = collections.Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        aliases = [each.alias_info for each in func._schema.returns]
        view = bool(aliases) and all(alias is not None and not alias.is_write for alias in aliases)
        if not view and str(func) not in NO_KERNEL:
            self.counts[str(func)] += 1
        return result


class LiveBytes(TorchDispatchMode):
    """Most bytes of storage alive after any operation, of storage that operations of the pass made."""

    def __init__(self) -> None:
        super().__init__()
        self.live = self.peak = 0
        self.alive: dict[int, int] = {}
        self.log: list[tuple[int, str]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        known = set(storages((args, kwargs)))
        result = func(*args, **(kwargs or {}))
        for key, storage in storages(result).items():
            if key not in known and key not in self.alive:
                self.alive[key] = storage.nbytes()
                self.live += storage.nbytes()
                weakref.finalize(storage, self._freed, key)
        self.peak = max(self.peak, self.live)
        self.log.append((self.live, str(func)))
        return result

    def _freed(self, key: int) -> None:
        self.live -= self.alive.pop(key)
