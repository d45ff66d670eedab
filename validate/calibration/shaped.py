"""Fits a form by shape: base, correction and spread, with every error on shapes that the fit has not seen."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from costmodel.timing.calibration.base import Base
from costmodel.timing.calibration.net import Net
from costmodel.timing.calibration.shaped import Alignment, ShapedForm
from validate.calibration.base import fit_base
from validate.calibration.few import train_from_few
from validate.calibration.grown import grown_pairs
from validate.calibration.many import train_from_many
from validate.calibration.net import TrainedNet, Training, train
from validate.calibration.spread import fit_spread, no_spread
from validate.calibration.tables import Floats, OpTable

FOLDS = 5
FITS = FOLDS + 1
"""One with each fold held out, one of the whole."""
PAIRS = 40_000
FEW = 3000
"""Tables of fewer rows are fitted with more assumptions."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """What the features need to know of a device, and where the search for its achieved rates begins."""

    start: Base
    cores: int
    cache_bytes: float
    element_bytes: int
    output_bytes: int | None = None

    def work(self, table: OpTable) -> tuple[Floats, Floats]:
        """FLOPs and bytes of each row, in the types that were measured."""
        return table.work(self.element_bytes, self.output_bytes)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FittedForm:
    """A form, its weights as a file keeps them, and its predictions of the table by folds that had not seen them."""

    form: ShapedForm
    net: TrainedNet
    held_out_s: Floats

    def to_json(self, alignment_source: str = "") -> dict[str, Any]:
        """The form's entry in the file."""
        form, base, spread = self.form, self.form.base, self.form.spread
        alignment = None
        more: dict[str, Any] = {}
        if form.output_bytes is not None:
            more["output_bytes"] = form.output_bytes
        if form.cache_element_bytes != form.element_bytes:
            more["cache_element_bytes"] = form.cache_element_bytes
        if form.cold_bytes:
            more["cold_bytes"] = form.cold_bytes
        if form.alignment is not None:
            each = form.alignment
            alignment = {
                "compute_8": each.compute_8,
                "compute_1": each.compute_1,
                "memory_1": each.memory_1,
                "source": alignment_source,
            }
        return {
            "base": {name: rounded(getattr(base, name)) for name in base.__slots__},
            "cores": form.cores,
            "cache_bytes": form.cache_bytes,
            "element_bytes": form.element_bytes,
            **more,
            "low": form.low.tolist(),
            "high": form.high.tolist(),
            "multiple": form.multiple,
            "alignment": alignment,
            "spread": {
                "base_edges": spread.base_edges.tolist(),
                "size_edges": spread.size_edges.tolist(),
                "low": rounded(spread.low, 3),
                "high": rounded(spread.high, 3),
                "outside": spread.outside,
            },
            "net": {
                "centre": rounded(self.net.centre),
                "scale": rounded(self.net.scale),
                "weights": [rounded(each, 4) for each in self.net.weights],
                "biases": [rounded(each, 4) for each in self.net.biases],
            },
        }


def fit_shaped(
    table: OpTable,
    device: Device,
    settings: Training,
    *,
    alignment: Alignment | None,
    multiple: int,
    warm: OpTable | None = None,
    seed: int = 0,
    fitted: Callable[[], None] = lambda: None,
) -> FittedForm:
    """Fit a form to a table.

    Args:
        table: of one kind.
        device: see Device.
        settings: of the network's training.
        alignment: the prior for widths that the table lacks, if any.
        multiple: what all n and k of the table are multiples of.
        warm: GEMMs whose weights were measured in the cache; see `cooled`.
        seed: of the folds.
        fitted: called after each of the FITS fits.
    """
    held_out = cross_predict(table, device, settings, warm=warm, seed=seed, fitted=fitted)
    form, net = fit_once(table, device, settings, warm)
    fitted()
    spread = fit_spread(form.base_seconds(table.shape), table.rows(), np.log(table.seconds / held_out))
    return FittedForm(
        form=replace(form, spread=spread, alignment=alignment, multiple=multiple), net=net, held_out_s=held_out
    )


def cross_predict(
    table: OpTable,
    device: Device,
    settings: Training,
    *,
    folds: int = FOLDS,
    warm: OpTable | None = None,
    seed: int = 0,
    fitted: Callable[[], None] = lambda: None,
) -> Floats:
    """Seconds of every row, predicted by a form fitted on the other folds; groups of shapes stay together."""
    fold = folds_of(table.groups(), folds, seed)
    predicted = np.empty(len(table))
    for each in range(folds):
        rest = table.take(fold == each)
        if len(rest):
            form, _ = fit_once(table.take(fold != each), device, settings, warm)
            predicted[fold == each] = form.times(rest.shape, *device.work(rest)).latency_s
        fitted()
    return predicted


def folds_of(groups: npt.NDArray[np.int64], folds: int, seed: int) -> npt.NDArray[np.int64]:
    """The fold of each row; rows of a group share one."""
    order = np.random.default_rng(seed).permutation(int(groups.max()) + 1)
    return np.asarray(order[groups] % folds, dtype=np.int64)


def rounded(values: Any, digits: int = 6) -> Any:
    """Numbers of so many significant digits, arrays as nested lists."""
    if np.ndim(values):
        return [rounded(each, digits) for each in np.asarray(values).tolist()]
    return float(f"{float(values):.{digits}g}")


def cooled(warm: OpTable, base: Base, element_bytes: int) -> OpTable:
    """What GEMMs whose weights were read from the cache would have taken with the weights in memory.

    (measured^p + (weight bytes / bandwidth)^p)^(1/p), the overlap that the base found elsewhere: no measurement, but
    a kernel that has to fetch its weights takes no less than the fetch, nor less than it took without it.
    """
    fetch = warm.weight_bytes(element_bytes) / base.bytes_per_s
    return OpTable(kind=warm.kind, shape=warm.shape, seconds=base.busy(warm.seconds, fetch))


def fit_once(
    table: OpTable, device: Device, settings: Training, warm: OpTable | None = None
) -> tuple[ShapedForm, TrainedNet]:
    """A form fitted on the whole table, without interval or alignment, and its network as a file keeps it.

    The base stands on the table alone; the network learns from the `warm` rows too, as they would be `cooled`.
    """
    base = fit_base(*device.work(table), table.seconds, device.start)
    cold_bytes = 0.0
    if warm is not None:
        cold_bytes = float(table.weight_bytes(device.element_bytes).min())
        table = joined(table, cooled(warm, base, device.element_bytes))
    form = ShapedForm(
        kind=table.kind,
        base=base,
        net=Net(layers=()),
        spread=no_spread(),
        alignment=None,
        cores=device.cores,
        cache_bytes=device.cache_bytes,
        element_bytes=device.element_bytes,
        cache_element_bytes=device.element_bytes,
        output_bytes=device.output_bytes,
        cold_bytes=cold_bytes,
        low=table.shape.min(axis=1),
        high=table.shape.max(axis=1),
        multiple=1,
    )
    if len(table) < FEW:
        net = train_from_few(form, table, PAIRS // 4)
    else:
        target = np.log(table.seconds / form.base_seconds(table.shape))
        pairs = grown_pairs(form, table, PAIRS, settings.seed) if settings.order else None
        if table.kind == "gemm":
            net = train_from_many(form, table, target, settings, pairs)
        else:
            net = train(form.features(table.shape).T, target, settings, pairs)
    weights = [np.array(each, dtype=np.float64) for each in net.weights]
    biases = [np.array(each, dtype=np.float64) for each in net.biases]
    return replace(form, net=Net.of(weights, biases, net.centre, net.scale)), net


def joined(one: OpTable, other: OpTable) -> OpTable:
    """The rows of both."""
    shape = np.concatenate([one.shape, other.shape], axis=1)
    return OpTable(kind=one.kind, shape=shape, seconds=np.concatenate([one.seconds, other.seconds]))


def summary(predicted: Floats, table: OpTable) -> Mapping[str, float]:
    """Mean, median and 95th percentile of |predicted / measured - 1| and its bias, in percent."""
    error = 100 * (predicted / table.seconds - 1)
    size = np.abs(error)
    return {
        "points": len(table),
        "mean_pct": float(size.mean()),
        "median_pct": float(np.median(size)),
        "p95_pct": float(np.quantile(size, 0.95)),
        "bias_pct": float(error.mean()),
    }
