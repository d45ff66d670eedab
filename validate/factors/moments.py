"""Second moments E[x x^T] of what goes into each weight, over calibration tokens, in float64."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from costmodel.decomposition.factors import Site
from costmodel.errors import InputError
from costmodel.model import ModelSpec
from costmodel.tensors import WeightTensor
from validate.errors import MeasurementError
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
        """The matrix of a site, float64 (in, in).

        Raises:
            InputError: when the site's layer was left out of the collection.
        """
        if site not in self.matrices:
            layers = sorted({each.layer for each in self.matrices})
            raise InputError("no input moments for this site", value=str(site), allowed=f"layers {layers}")
        return self.matrices[site]


class LayerMoments:
    """Sums x x^T in front of each weight of one layer while it runs; a context manager that takes its hooks away.

    Memory: 8 bytes x in^2 for each distinct input, on the layer's device.

    Args:
        layer: a layer with dense weights.
        tensors: its weights.
    """

    def __init__(self, layer: nn.Module, tensors: Iterable[WeightTensor]) -> None:
        self._source: dict[str, str] = {}
        self._sums: dict[str, torch.Tensor] = {}
        self._rows: dict[str, int] = {}
        self._last: tuple[torch.Tensor, str] | None = None
        self._hooks = [
            layer.get_submodule(tensor.path).register_forward_pre_hook(self._hook(tensor.name)) for tensor in tensors
        ]

    def __enter__(self) -> LayerMoments:
        return self

    def __exit__(self, *error: object) -> None:
        for hook in self._hooks:
            hook.remove()
        self._last = None

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
        return {name: means[source] for name, source in self._source.items()}

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
    """The tensors of a kind of layer whose inputs can be seen: modules of their own, no stacks of experts."""
    return tuple(tensor for tensor in kind.tensors if not tensor.experts)


@torch.no_grad()
def collect_moments(
    pretrained: Pretrained, blocks: torch.Tensor, *, batch: int = 8, layers: Collection[int] | None = None
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
    recorders = {index: LayerMoments(stack[index], single_weights(spec.kind_of(index))) for index in wanted}
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
