"""Sensitivity of a whole checkpoint, layer by layer; what is finished is kept, so that a killed run continues."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator

import torch
from torch import nn

from costmodel.decomposition.factors import Site
from costmodel.errors import InputError
from validate.errors import MeasurementError
from validate.factors.moments import LayerMoments
from validate.models.blocks import IGNORED
from validate.models.stream import LayerStream
from validate.models.weights import dense_weight
from validate.sensitivity.file import sites_from, to_arrays
from validate.sensitivity.gradients import LayerGradients
from validate.sensitivity.site import SiteInput, site_spectra
from validate.sensitivity.spectra import SiteSpectra
from validate.store.steps import WorkFolder

Advance = Callable[[int], None]
"""Told how many sites are finished, those of an earlier part of the run at once."""

_SECONDS: dict[str, tuple[int, ...]] = {"seconds": ()}
"""Beside the arrays of a layer, which are held to their own shapes."""

Factorise = Callable[[Iterable[SiteInput]], Iterator[SiteSpectra]]


def _in_turn(sites: Iterable[SiteInput]) -> Iterator[SiteSpectra]:
    return (site_spectra(site.weight, site.moment, site.gradients) for site in sites)


class SensitivityRunner:
    """Runs calibration text through a checkpoint one layer at a time and factorises each layer's weights.

    Without targets, one pass from the first layer to the last; on disk are the hidden states before the next layer.
    With targets, that pass only keeps the hidden states before every layer, and the work is done in a second one from
    the last layer to the first, in which each layer runs again and backward.

    Args:
        stream: the checkpoint.
        blocks: int64 (blocks, length), what goes in.
        targets: int64 (blocks, length), what is predicted, for loss terms; or None.
        work: where finished steps are kept.
        advance: told of progress.
        factorise: from a layer's sites to their spectra, in their order.
    """

    def __init__(
        self,
        stream: LayerStream,
        blocks: torch.Tensor,
        targets: torch.Tensor | None,
        work: WorkFolder,
        advance: Advance = lambda sites: None,
        factorise: Factorise | None = None,
    ) -> None:
        if stream.spec.kinds or stream.spec.experts is not None:
            raise InputError(
                "sensitivity is measured of models whose layers are all alike, without experts", value=stream.spec.name
            )
        self._stream, self._blocks, self._targets, self._work, self._advance = stream, blocks, targets, work, advance
        self._factorise = factorise or _in_turn
        self._layers, self._tensors = stream.spec.num_layers, stream.spec.tensors

    def run(self) -> dict[Site, SiteSpectra]:
        """Spectra of every site.

        Raises:
            MeasurementError: when an activation, weight or gradient is not finite.
            RunError: when results cannot be kept.
        """
        self._advance(len(self._work.steps("layer")) * len(self._tensors))
        hidden = self._stream.start(self._blocks)
        self._shape = hidden.shape
        if self._targets is None:
            self._stream.require_rest()
            self._forward(hidden)
        else:
            if not self._work.steps("gradient"):
                self._start_back(self._keep(hidden), self._targets)
            self._backward(int((self._targets != IGNORED).sum()))
        found: dict[Site, SiteSpectra] = {}
        for index in range(self._layers):
            arrays = {name: tensor.numpy() for name, tensor in self._work.load("layer", index, _SECONDS).items()}
            arrays.pop("seconds")
            sites = [Site(index, tensor.name) for tensor in self._tensors]
            found |= sites_from(arrays, self._stream.spec, sites, self._work.path, loss=self._targets is not None)
        return found

    @property
    def seconds(self) -> float:
        """Time spent on layers, over all parts of the run."""
        return sum(float(self._work.load("layer", index, _SECONDS)["seconds"]) for index in self._work.steps("layer"))

    @property
    def nll(self) -> float | None:
        """Mean negative log-likelihood of the dense model's predictions in nats; None without targets."""
        steps = self._work.steps("gradient")
        return float(self._work.load("gradient", steps[0], {"nll": ()})["nll"]) if steps else None

    def _hidden(self, index: int) -> torch.Tensor:
        """Kept states before a layer."""
        return self._work.load("hidden", index, {"hidden": self._shape})["hidden"]

    def _forward(self, hidden: torch.Tensor) -> None:
        first = max(self._work.steps("hidden"), default=0)
        if first:
            hidden = self._hidden(first)
        for index in range(first, self._layers):
            started = time.monotonic()
            with self._stream.layer(index) as layer, LayerMoments(layer, self._tensors) as moments:
                hidden = self._finite(self._stream.run_all(index, layer, hidden), index)
                self._finish(index, layer, moments, None, started)
            self._work.save("hidden", index + 1, {"hidden": hidden})
            self._work.forget("hidden", index)

    def _keep(self, hidden: torch.Tensor) -> torch.Tensor:
        """Hidden states after the last layer; those before every layer are kept."""
        first = max(self._work.steps("hidden"), default=0)
        if first:
            hidden = self._hidden(first)
        else:
            self._work.save("hidden", 0, {"hidden": hidden})
        for index in range(first, self._layers):
            with self._stream.layer(index) as layer:
                hidden = self._finite(self._stream.run_all(index, layer, hidden), index)
            self._work.save("hidden", index + 1, {"hidden": hidden})
        return hidden

    def _start_back(self, hidden: torch.Tensor, targets: torch.Tensor) -> None:
        total, gradient = self._stream.loss_gradient(self._blocks, targets, hidden)
        nll = torch.tensor(total / int((targets != IGNORED).sum()), dtype=torch.float64)
        self._work.save("gradient", self._layers, {"gradient": gradient, "nll": nll})

    def _backward(self, predictions: int) -> None:
        last = self._work.steps("gradient")[0]
        kept = self._work.load("gradient", last, {"gradient": self._shape, "nll": ()})
        for index in reversed(range(last)):
            started = time.monotonic()
            hidden = self._hidden(index)
            with self._stream.layer(index) as layer, LayerMoments(layer, self._tensors) as moments:
                with LayerGradients(layer, self._tensors, predictions) as gradients:
                    kept["gradient"] = self._stream.run_back(index, layer, hidden, kept["gradient"])
                self._finish(index, layer, moments, gradients, started)
            self._work.save("gradient", index, kept)
            self._work.forget("gradient", index + 1)
            self._work.forget("hidden", index + 1)

    def _finish(
        self, index: int, layer: nn.Module, moments: LayerMoments, gradients: LayerGradients | None, started: float
    ) -> None:
        """Factorise the weights of a layer and keep the spectra."""
        means, found = moments.means(), {}
        fresh = index not in self._work.steps("layer")
        given = (
            SiteInput(
                weight=dense_weight(layer.get_submodule(tensor.path)),
                moment=means[tensor.name],
                gradients=None if gradients is None else gradients.sites.pop(tensor.name),
            )
            for tensor in self._tensors
        )
        for tensor, spectra in zip(self._tensors, self._factorise(given), strict=True):
            found[Site(index, tensor.name)] = spectra
            self._advance(int(fresh))
        arrays = {name: torch.tensor(array) for name, array in to_arrays(found).items()}  # a worker's are read-only
        arrays["seconds"] = torch.tensor(time.monotonic() - started, dtype=torch.float64)
        self._work.save("layer", index, arrays)

    def _finite(self, hidden: torch.Tensor, index: int) -> torch.Tensor:
        if not bool(torch.isfinite(hidden).all()):
            hint = "" if self._stream.dtype is torch.float32 else "try --dtype fp32"
            what = f"hidden states after layer {index} hold NaN or infinity"
            raise MeasurementError("non-finite", what, hint=hint)
        return hidden
