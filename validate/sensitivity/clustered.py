"""Sites of a layer factorised on the workers of a Ray cluster, to which their weights and moments are sent."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

import torch

from validate.cluster.connection import Cluster
from validate.cluster.places import Kind
from validate.cluster.pool import Pool
from validate.devices.environment import environment
from validate.devices.opening import open_device
from validate.errors import RunError
from validate.sensitivity.run import Factorise
from validate.sensitivity.site import SiteInput, site_spectra
from validate.sensitivity.spectra import SiteSpectra
from validate.store.record_format import Failure


@dataclass(frozen=True, slots=True)
class SpectraTask:
    """What a worker opens: its device, and no model."""

    def open(self, kind: Kind, node: str) -> SpectraBench:
        """The device."""
        return SpectraBench(kind)


class SpectraBench:
    """A device to factorise on."""

    def __init__(self, kind: Kind) -> None:
        device = open_device(kind, torch.get_num_threads())
        self.environment: Mapping[str, Any] = environment(device)
        """As records have it."""
        self._device = device.torch_device

    def measure(self, item: SiteInput) -> SiteSpectra:
        """The spectra of a site.

        Raises:
            MeasurementError: when an input is not finite or a decomposition fails.
        """
        site = item.to(self._device)
        return site_spectra(site.weight, site.moment, site.gradients)


@contextlib.contextmanager
def factorised_on(cluster: Cluster, device: str, sites: int) -> Iterator[Factorise]:
    """What factorises sites on a cluster's workers, which end with the context.

    Args:
        device: cpu or cuda.
        sites: of a layer; more workers would have nothing to do.

    Raises:
        InputError: when the cluster has no such device, or unlike ones.
        RunError: when it cannot be joined.
    """
    pool: Pool[SiteInput, SiteSpectra] = Pool(cluster, SpectraTask(), _lost, device=device, most=sites)

    def factorise(given: Iterable[SiteInput]) -> Iterator[SiteSpectra]:
        return pool.results(site.to("cpu") for site in given)

    try:
        yield factorise
    finally:
        pool.close()


def _lost(item: SiteInput, failure: Failure) -> NoReturn:
    hint = f"{failure.reason}; the same command continues"
    raise RunError("a weight could not be factorised", value=tuple(item.weight.shape), hint=hint)
