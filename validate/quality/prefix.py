"""Hidden states that the dense model has before its layers on a text, and after them: configurations that leave the
first layers dense start from them, and the dense model's own predictions take its head alone."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from functools import partial
from typing import Any

import torch

from validate.models.pretrained import Pretrained

KEPT_BYTES = 2 * 2**30
"""Hidden states that are kept in memory; of more, those before every second layer, or every third."""


class DensePrefix:
    """States before each layer and after the last, a tensor per batch; none where layers hand on more than these.

    Args:
        pretrained: dense.
        tokens: of the text.
        kept_bytes: see KEPT_BYTES.
    """

    def __init__(self, pretrained: Pretrained, tokens: int, *, kept_bytes: int = KEPT_BYTES) -> None:
        spec = pretrained.spec
        self._body, self._path, self._layers = pretrained.body, spec.layer_prefix, spec.num_layers
        size = tokens * spec.hidden_size * next(pretrained.model.parameters()).element_size()
        room = kept_bytes // size
        self._stride = math.ceil(self._layers / max(room, 1))
        self._states: dict[tuple[int, int], torch.Tensor] = {}
        self._tuples = False
        self.usable = room > 0

    @contextlib.contextmanager
    def recording(self, batch: int) -> Iterator[None]:
        """Keep the states of one batch while the dense model runs on it."""
        layers: Any = self._body.get_submodule(self._path)
        hooks = []
        for index, layer in enumerate(layers):
            if index and index % self._stride == 0:
                hooks.append(layer.register_forward_pre_hook(partial(self._keep, index, batch), with_kwargs=True))
            hooks.append(layer.register_forward_hook(partial(self._look, index, batch)))
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    @contextlib.contextmanager
    def starting(self, first: int, batch: int, *, body: Any = None) -> Iterator[bool]:
        """Let the model, as it is now, run from the states before its first layer that is not the dense one.

        Args:
            first: number of that layer; that of all layers where none is to run.
            body: of another model with the same dense layers; None for the one that states were recorded of.

        Yields:
            Whether some layers are skipped.
        """
        start = first if first == self._layers else first - first % self._stride
        layers: Any = (self._body if body is None else body).get_submodule(self._path)
        if not self.usable or start == 0 or start > len(layers) or (start, batch) not in self._states:
            yield False
            return
        known = self._states[start, batch]
        for layer in layers[:start]:
            layer.forward = partial(self._give, known)
        try:
            yield True
        finally:
            for layer in layers[:start]:
                del layer.forward

    def forget(self) -> None:
        """Keep nothing, and skip nothing from now on."""
        self.usable = False
        self._states.clear()

    def _give(self, known: torch.Tensor, *_: Any, **__: Any) -> Any:
        return (known,) if self._tuples else known

    def _keep(self, index: int, batch: int, _: Any, args: tuple[Any, ...], __: dict[str, Any]) -> None:
        if not args or not isinstance(args[0], torch.Tensor):
            self.forget()
        elif self.usable:
            self._states[index, batch] = args[0].detach()

    def _look(self, index: int, batch: int, _: Any, __: Any, output: Any) -> None:
        self._tuples = isinstance(output, tuple)
        if self._tuples and len(output) > 1:
            self.forget()
        elif self.usable and index == self._layers - 1:
            self._states[self._layers, batch] = (output[0] if self._tuples else output).detach()
