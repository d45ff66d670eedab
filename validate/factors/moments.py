"""Second moments E[x x^T] of what goes into each weight, over calibration tokens, in float64."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from costmodel.decomposition.factors import Site
from costmodel.errors import InputError
from costmodel.model import ModelSpec
from costmodel.tensors import WeightTensor, expert_address
from validate.errors import MeasurementError
from validate.hf.errors import FactoredCheckpointError
from validate.hf.experts import FactoredExperts
from validate.models.pretrained import Pretrained


@dataclass(frozen=True, slots=True, kw_only=True)
class Moments:
    """E[x x^T] of each site's input; sites that read the same input (q, k and v) share one matrix.

    Attributes:
        matrices: float64 (in, in) on the CPU, symmetric and positive semi-definite; singular with fewer tokens than
            features, or where features depend on each other.
    """

    matrices: Mapping[Site, torch.Tensor]

    def of(self, site: Site) -> torch.Tensor:
        """The matrix of a site, float64 (in, in); of one expert that has none of its own its stack's.

        Raises:
            InputError: when the site's layer was left out of the collection.
        """
        address = expert_address(site.tensor)
        if site not in self.matrices and address is not None:
            site = Site(site.layer, address[0])
        if site not in self.matrices:
            layers = sorted({each.layer for each in self.matrices})
            raise InputError("no input moments for this site", value=str(site), allowed=f"layers {layers}")
        return self.matrices[site]


class LayerMoments:
    """Sums x x^T in front of each weight of one layer while it runs; a context manager that takes its hooks away.

    Memory: 8 bytes x in^2 for each distinct input, on the layer's device. What experts read first are states of the
    same kind, so all rows that go to any of them share one matrix; the inner features before an expert's last linear
    are its own, and so is their matrix (zeros where no token reached it). Meanwhile experts run one after the other.

    Args:
        layer: a layer with dense weights.
        tensors: its weights; stacks of experts in a layout that is not known are left out.
    """

    def __init__(self, layer: nn.Module, tensors: Iterable[WeightTensor]) -> None:
        tensors = tuple(tensors)
        self._widths: dict[str, int] = {}
        self._device = next(layer.parameters()).device
        self._swapped: list[tuple[nn.Module, str, nn.Module]] = []
        self._source: dict[str, str] = {}
        self._sums: dict[str, torch.Tensor] = {}
        self._rows: dict[str, int] = {}
        self._last: tuple[torch.Tensor, str] | None = None
        self._hooks = [
            layer.get_submodule(tensor.path).register_forward_pre_hook(self._hook(tensor.name))
            for tensor in tensors
            if not tensor.experts
        ]
        self._watch_experts(layer, [tensor for tensor in tensors if tensor.experts])

    def __enter__(self) -> LayerMoments:
        return self

    def __exit__(self, *error: object) -> None:
        for hook in self._hooks:
            hook.remove()
        for parent, child, dense in self._swapped:
            setattr(parent, child, dense)
        self._swapped = []
        self._last = None

    def _watch_experts(self, layer: nn.Module, stacks: Iterable[WeightTensor]) -> None:
        """Run the experts as linears of their own, and see what goes into each."""
        for path, group in itertools.groupby(stacks, key=lambda tensor: tensor.path.rpartition(".")[0]):
            dense = layer.get_submodule(path)
            try:
                linears = FactoredExperts(dense, {})
            except FactoredCheckpointError:
                continue
            before, _, child = path.rpartition(".")
            parent = layer.get_submodule(before)
            setattr(parent, child, linears)
            self._swapped.append((parent, child, dense))
            for tensor in group:
                stack, _, linear = tensor.name.rpartition(".")
                for number, module in enumerate(linears.get_submodule(linear).children()):
                    name = f"{stack}.{number}.{linear}" if linear == "down_proj" else tensor.name
                    self._widths[name] = tensor.in_features
                    self._hooks.append(module.register_forward_pre_hook(self._hook(name)))

    def means(self) -> dict[str, torch.Tensor]:
        """E[x x^T] by tensor name, float64 (in, in) where the layer is; the same matrix where the input is the same.

        To be called once: the sums become the means in place.

        Raises:
            MeasurementError: when an input was not finite.
        """
        means: dict[str, torch.Tensor] = {}
        while self._sums:
            name, total = self._sums.popitem()
            if not bool(torch.isfinite(total).all()):
                raise MeasurementError("non-finite", f"input of {name} holds NaN or infinity")
            means[name] = total.div_(self._rows[name])
        found = {name: means[source] for name, source in self._source.items()}
        for name, width in self._widths.items():
            if name not in found:  # an expert that no token reached
                found[name] = torch.zeros(width, width, dtype=torch.float64, device=self._device)
        return found

    def _hook(self, name: str) -> Any:
        def add(module: nn.Module, args: tuple[torch.Tensor, ...]) -> None:
            if self._last is not None and args[0] is self._last[0]:  # q, k and v one after the other
                self._source[name] = self._last[1]
                return
            self._source[name] = name
            self._last = args[0], name
            rows = args[0].detach().reshape(-1, args[0].shape[-1]).to(torch.float64)
            if name not in self._sums:
                self._sums[name] = torch.zeros(rows.shape[1], rows.shape[1], dtype=torch.float64, device=rows.device)
            self._sums[name].addmm_(rows.T, rows)
            self._rows[name] = self._rows.get(name, 0) + len(rows)

        return add


def single_weights(kind: ModelSpec) -> tuple[WeightTensor, ...]:
    """The tensors of a kind of layer that are modules of their own, no stacks of experts."""
    return tuple(tensor for tensor in kind.tensors if not tensor.experts)


def watched(kind: ModelSpec, experts: bool) -> tuple[WeightTensor, ...]:
    """The tensors of a kind of layer, with stacks of experts or without them."""
    return kind.tensors if experts else single_weights(kind)


@torch.no_grad()
def collect_moments(
    pretrained: Pretrained,
    blocks: torch.Tensor,
    *,
    batch: int = 8,
    layers: Collection[int] | None = None,
) -> Moments:
    """Run the dense model on calibration text and average x x^T in front of each weight.

    Memory: 8 bytes x in^2 for each distinct input of each layer (Llama-7B: 1.4 GB a layer), so give `layers`, or use
    `validate sensitivity`, which holds one layer at a time.

    Args:
        blocks: int64 (blocks, length), as `token_blocks` gives them.
        batch: blocks that run together.
        layers: the layers wanted; None for all.

    Raises:
        MeasurementError: when an input is not finite.
    """
    spec = pretrained.spec
    stack: Any = pretrained.body.get_submodule(spec.layer_prefix)
    wanted = range(spec.num_layers) if layers is None else sorted(set(layers))
    recorders = {index: LayerMoments(stack[index], spec.kind_of(index).tensors) for index in wanted}
    body: Any = pretrained.model.base_model  # without the head, whose logits nobody reads
    try:
        for part in torch.split(blocks, batch):
            body(input_ids=part.to(pretrained.device), **({} if spec.is_encoder else {"use_cache": False}))
    finally:
        for recorder in recorders.values():
            recorder.__exit__()
    matrices = {}
    for index, recorder in recorders.items():
        moved: dict[int, torch.Tensor] = {}
        for name, mean in recorder.means().items():
            matrices[Site(index, name)] = moved.setdefault(id(mean), mean.cpu())
    return Moments(matrices=matrices)
