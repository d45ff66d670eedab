"""A checkpoint's layers one at a time: weights are read when a layer runs and forgotten after it.

What is in memory: the weights of one layer and of the modules outside the layers, and the hidden states of the
calibration tokens.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import nn

from costmodel.errors import ModelError
from costmodel.families.load import load_model, read_config
from validate.hf.modules import EmptyOnMeta
from validate.models.blocks import IGNORED
from validate.models.build import TORCH_DTYPES
from validate.models.classes import layers_path, measured_class, whole_class
from validate.models.headers import StoredTensors
from validate.models.pretrained import locate, open_pretrained
from validate.models.reading import require_dense, require_own_weights
from validate.models.tokenizers import read_tokenizer
from validate.models.weights import KindError, ShapeError, SourceWeights

ReadWeight = Callable[[str, torch.dtype], torch.Tensor]
"""From a tensor's name in the model to the tensor, in memory of its own."""


class LayerStream:
    """The layers of a checkpoint, run one after the other over the same tokens.

    Args:
        path_or_id: a folder with safetensors, or a name on the hub.
        dtype: that layers compute in; their weights are widened or rounded to it as they are read.
        device: where layers run.
        batch: sequences that run together.

    Attributes:
        whole: why the model had to be read whole; empty where it is streamed.

    Raises:
        ModelError: when the checkpoint is missing, factored, of an unsupported architecture or lacks weights, or its
            layer runs several times, as ALBERT's does.
    """

    def __init__(
        self, path_or_id: str, *, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu", batch: int = 8
    ) -> None:
        self.folder = locate(path_or_id)
        require_dense(self.folder)
        self.spec, self.config = load_model(self.folder), read_config(self.folder)
        require_own_weights(self.spec, self.config)
        if self.spec.loops > 1:
            hint = "take plain factors, which need no text"
            raise ModelError("a layer that runs several times is not streamed", value=self.spec.loops, hint=hint)
        self.dtype, self.device, self._batch = dtype, torch.device(device), batch
        stored = StoredTensors(self.folder)
        whole = whole_class(self.spec, self.config, stored)
        with EmptyOnMeta():
            model: Any = measured_class(whole).build(dtype=dtype)
        self.model: nn.Module = _emptied(model.eval())
        self.whole = ""
        try:
            self._read: ReadWeight = SourceWeights(stored, model).read
        except (ShapeError, KindError):
            raise
        except ModelError as error:  # names that only transformers knows, or nobody
            self._read = _read_whole(path_or_id)
            self.whole = str(error)
        else:
            whole.require_whole()
        self._layers: Any = model.get_submodule(layers_path(model, self.spec))
        self._names = _parameter_names(model)
        self._calls: dict[tuple[int, int], tuple[tuple[Any, ...], dict[str, Any]]] = {}

    def tokenizer(self) -> Any:
        """The checkpoint's tokenizer, None where the folder has none.

        Raises:
            ModelError: when it cannot be read.
        """
        return read_tokenizer(self.folder)

    @torch.no_grad()
    def start(self, blocks: torch.Tensor) -> torch.Tensor:
        """Run what comes before the first layer, and note what else the model hands to each layer.

        Args:
            blocks: int64 (blocks, length), on the CPU.

        Returns:
            Hidden states before layer 0, (blocks, length, hidden), on the CPU.
        """
        base: Any = self.model.base_model
        found: list[torch.Tensor] = []
        inside = {id(module) for module in self._layers.modules()}
        outside = [module for module in base.modules() if id(module) not in inside]
        with self._filled(outside), self._relayed(self._note(found)):
            for part in _parts(blocks, self._batch):
                base(input_ids=part.to(self.device), **({} if self.spec.is_encoder else {"use_cache": False}))
        return torch.cat(found)

    @contextlib.contextmanager
    def layer(self, index: int) -> Iterator[nn.Module]:
        """One layer with its weights, which go when the context ends."""
        with self._filled(self._layers[index].modules()):
            yield self._layers[index]

    def run(self, index: int, layer: nn.Module, hidden: torch.Tensor) -> torch.Tensor:
        """Hidden states after one batch of a layer, on the device.

        Args:
            layer: what `layer(index)` gave.
            hidden: before the layer, (batch, length, hidden); as many sequences as `start` ran at once, or its rest.
        """
        args, options = self._calls[index, len(hidden)]
        output = layer(hidden.to(self.device), *args, **options)
        after: torch.Tensor = output[0] if isinstance(output, tuple) else output
        return after

    @torch.no_grad()
    def run_all(self, index: int, layer: nn.Module, hidden: torch.Tensor) -> torch.Tensor:
        """Hidden states after a layer of all blocks, (blocks, length, hidden), on the CPU."""
        return torch.cat([self.run(index, layer, part).cpu() for part in _parts(hidden, self._batch)])

    def require_rest(self) -> None:
        """Read what follows the layers and no run of them needs, the head, as whoever predicts text would.

        Raises:
            MeasurementError: naming a weight that is not finite.
        """
        base: Any = self.model.base_model
        body = {id(module) for module in base.modules()}
        with self._filled(module for module in self.model.modules() if id(module) not in body):
            pass

    def parts(self, hidden: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Hidden states of all blocks as the batches that run together."""
        return _parts(hidden, self._batch)

    def loss_gradient(self, blocks: torch.Tensor, targets: torch.Tensor, hidden: torch.Tensor) -> tuple[float, Any]:
        """The summed negative log-likelihood, and its gradient at the hidden states after the last layer.

        Args:
            blocks: what `start` was given.
            targets: int64 (blocks, length), IGNORED where nothing is predicted.
            hidden: after the last layer, (blocks, length, hidden).

        Returns:
            Nats, and (blocks, length, hidden) on the CPU.
        """
        last = len(self._layers) - 1
        inside = {id(module) for module in self._layers.modules()}
        outside = [module for module in self.model.modules() if id(module) not in inside]
        total, found = 0.0, []
        with self._filled(outside):
            for ids, wanted, states in zip(_parts(blocks, 1), _parts(targets, 1), _parts(hidden, 1), strict=True):
                states = states.to(self.device).requires_grad_()

                def relay(index: int, before: torch.Tensor, *args: Any, **options: Any) -> torch.Tensor:
                    return states if index == last else before  # noqa: B023 - used before the next turn

                with self._relayed(relay):
                    options = {} if self.spec.is_encoder else {"use_cache": False}
                    logits = self.model(input_ids=ids.to(self.device), **options).logits
                loss = nn.functional.cross_entropy(
                    logits[0].float(), wanted[0].to(self.device), ignore_index=IGNORED, reduction="sum"
                )
                total += float(loss.detach())
                found.append(torch.autograd.grad(loss, states)[0].cpu())
        return total, torch.cat(found)

    def run_back(self, index: int, layer: nn.Module, hidden: torch.Tensor, gradient: torch.Tensor) -> torch.Tensor:
        """Run a layer again and backward.

        Args:
            hidden: before the layer, (blocks, length, hidden).
            gradient: of the loss at the hidden states after it.

        Returns:
            Gradient at the hidden states before it, (blocks, length, hidden) on the CPU.
        """
        found = []
        for part, above in zip(_parts(hidden, self._batch), _parts(gradient, self._batch), strict=True):
            before = part.to(self.device).requires_grad_()
            after = self.run(index, layer, before)
            found.append(torch.autograd.grad(after, before, above.to(self.device))[0].cpu())
        return torch.cat(found)

    def _note(self, found: list[torch.Tensor]) -> Callable[..., torch.Tensor]:
        def relay(index: int, hidden: torch.Tensor, *args: Any, **options: Any) -> torch.Tensor:
            if index == 0:
                found.append(hidden.cpu())
            self._calls.setdefault((index, len(hidden)), (args, options))
            return hidden

        return relay

    @contextlib.contextmanager
    def _relayed(self, relay: Callable[..., torch.Tensor]) -> Iterator[None]:
        """Layers that do nothing but call `relay` with their number and what they were called with."""
        for index, layer in enumerate(self._layers):
            layer.forward = partial(relay, index)
        try:
            yield
        finally:
            for layer in self._layers:
                del layer.forward

    @contextlib.contextmanager
    def _filled(self, modules: Any) -> Iterator[None]:
        """Weights of modules (without their submodules) on the device; tied ones once."""
        empty: list[tuple[nn.Module, str, nn.Parameter]] = []
        made: dict[str, nn.Parameter] = {}
        try:
            for module in list(modules):
                for key, parameter in module._parameters.items():
                    if parameter is None or id(parameter) not in self._names:  # RMSNorm's ones are not on meta
                        continue
                    name = self._names[id(parameter)]
                    if name not in made:
                        weight = self._read(name, self.dtype).to(self.device)
                        made[name] = nn.Parameter(weight, requires_grad=False)
                    empty.append((module, key, parameter))
                    module._parameters[key] = made[name]
                for key, buffer in module._buffers.items():
                    if buffer is not None:
                        module._buffers[key] = buffer.to(self.device)
            yield
        finally:
            for module, key, parameter in empty:
                module._parameters[key] = parameter


def _emptied(model: nn.Module) -> nn.Module:
    """The model with every parameter on the meta device, tied ones still one; norms make theirs with torch.ones."""
    made: dict[int, nn.Parameter] = {}
    for module in model.modules():
        for key, parameter in module._parameters.items():
            if parameter is not None:
                meta = made.setdefault(id(parameter), nn.Parameter(parameter.to("meta"), requires_grad=False))
                module._parameters[key] = meta
    return model


def _parts(tensor: torch.Tensor, size: int) -> tuple[torch.Tensor, ...]:
    """The tensor in pieces of `size` sequences."""
    parts: tuple[torch.Tensor, ...] = torch.split(tensor, size)
    return parts


def _parameter_names(model: nn.Module) -> dict[int, str]:
    """The name that `SourceWeights` knows each parameter by: the first of its names."""
    names: dict[int, str] = {}
    for name, tensor in model.state_dict(keep_vars=True).items():
        names.setdefault(id(tensor), name)
    return names


def _read_whole(path_or_id: str) -> ReadWeight:
    """Weights of a checkpoint that only transformers knows how to read, kept in the CPU's memory as they are stored."""
    spec = load_model(locate(path_or_id))
    stored = torch.float32 if spec.dtype is None else TORCH_DTYPES.get(spec.dtype, torch.float32)
    tensors = open_pretrained(path_or_id, dtype=stored).model.state_dict()

    def read(name: str, dtype: torch.dtype) -> torch.Tensor:
        tensor: torch.Tensor = tensors[name].to(dtype=dtype, copy=True)
        return tensor

    return read
