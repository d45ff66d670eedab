"""Whole passes as a linear problem: what each is the sum of, the factors that fit, predictions held out."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy.optimize import nnls

from costmodel.arrays import Floats
from costmodel.decomposition.factors import Decomposition
from costmodel.forward.frame import LM_HEAD
from costmodel.forward.passes import forward_ops
from costmodel.forward.workload import LmHead, Phase, Workload
from costmodel.model import ModelSpec
from costmodel.timing.columns import OpColumns
from validate.calibration.whole.basis import Basis
from validate.errors import FitError
from validate.speed.metrics import measured
from validate.speed.records import Sample

MIN_SAMPLES = 8
FOLDS = 10
_RIDGE = 0.3
"""Weight of the pull towards what was known before, in passes."""
_LEAST_PULL = 0.05
"""The same for a factor whose operations take little of any measured pass: its size is hardly known, and elsewhere they
may take most of it."""
_DIFFERENCE = 2.0
"""Weight of the difference between configuration and dense, which drift of the machine leaves alone."""
_DENSE = Decomposition()
Indices = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Passes:
    """Samples as arrays; axis 1 is configuration, dense.

    Attributes:
        parts: (samples, 2, parts); `seconds` (samples, 2).
        start: the factors without measurements.
        kernel_spread_s: see `Basis`.
        configurations: of each sample, whatever its workload; of a dense one, with its workload.
        references: the dense pass of each sample.
    """

    parts: Floats
    seconds: Floats
    start: Floats
    kernel_spread_s: float
    configurations: tuple[str, ...]
    references: tuple[str, ...]

    @classmethod
    def of(cls, samples: Sequence[Sample], basis: Basis, *, heads_in_pairs: bool = False) -> Passes:
        """The arrays of samples that `usable` let pass.

        `heads_in_pairs`: their prefills read the LM head once for every two sequences, as a weight that wants no
        gradient is multiplied: one product a sequence, two at a time on two cores.
        """
        parts, configurations, references = [], [], []
        for sample in samples:
            spec, work = sample.spec(), sample.work()
            decomposition = sample.decomposition(spec)
            parts.append([_parts(basis, spec, each, work, heads_in_pairs) for each in (decomposition, _DENSE)])
            model = f"{sample.model.name} {sample.model.num_layers}"
            reference = f"{model} {json.dumps(sample.workload, sort_keys=True)}"
            dense = sample.strata.form == "dense"
            configurations.append(reference if dense else f"{model} {json.dumps(decomposition.to_json())}")
            references.append(reference)
        return cls(
            parts=np.array(parts),
            seconds=np.array([seconds_of(each) for each in samples]),
            start=basis.start,
            kernel_spread_s=basis.kernel_spread_s,
            configurations=tuple(configurations),
            references=tuple(references),
        )

    def solve(self, own: Indices, dense: Indices) -> Floats:
        """The factors that fit the configurations of samples `own` and the dense passes of samples `dense`.

        Passes of other models say little of what a kernel costs beside its work: where nothing is added for it, what
        the factors leave over of large passes becomes seconds of kernels, which decide over small ones. They are pulled
        to their start by how far passes scatter over how far they may lie from it.

        Raises:
            FitError: when they are not found.
        """
        shares = self.parts / self.seconds[..., None]
        passes = np.concatenate([shares[own, 0], shares[dense, 1]])
        both = np.intersect1d(own, dense)
        difference = _DIFFERENCE * (shares[both, 0] - shares[both, 1])
        scale = np.sqrt((passes**2).mean(axis=0))
        # columns of like size, so that the seconds of a kernel are not lost beside the factors
        unit = np.where(scale > 0, scale, 1.0)
        weight = _RIDGE * unit
        weight[:-1] = np.maximum(weight[:-1], _LEAST_PULL)

        def solved() -> Floats:
            pull = np.diag(weight)
            known = np.concatenate([np.ones(len(passes)), np.zeros(len(both)), pull @ self.start])
            try:
                solution, _ = nnls(np.concatenate([passes, difference, pull]) / unit, known)
            except RuntimeError as error:
                raise FitError("the fit does not converge", hint=str(error)) from error
            return np.asarray(solution / unit, dtype=np.float64)

        scatter = float(np.sqrt(((passes @ solved() - 1) ** 2).mean()))
        weight[-1] = max(weight[-1], scatter / self.kernel_spread_s)
        return solved()

    def held_out(self, groups: Sequence[str]) -> tuple[Floats, int]:
        """Seconds of both passes of each sample from fits that saw none of its group; and the number of folds.

        Such a fit sees neither the group's configurations under other workloads nor its dense passes.

        Args:
            groups: the group of each sample; groups of one configuration are not in two folds.

        Returns:
            float64 (samples, 2), NaN where too little was left to fit; folds.
        """
        names = list(dict.fromkeys(groups))
        folds = min(FOLDS, len(names))
        place = {name: index % folds for index, name in enumerate(names)}
        fold_of = np.array([place[name] for name in groups])
        predicted = np.full(self.seconds.shape, np.nan)
        for fold in range(folds):
            test = np.flatnonzero(fold_of == fold)
            own, dense = self.unseen(test)
            if len(own) + len(dense) >= MIN_SAMPLES:
                predicted[test] = self.parts[test] @ self.solve(own, dense)
        predicted[~(predicted > 0).all(axis=1)] = np.nan
        return predicted, folds

    def unseen(self, test: Indices) -> tuple[Indices, Indices]:
        """Samples whose own pass, and those whose dense pass, may be fitted to when samples `test` are predicted."""
        gone = {self.configurations[index] for index in test} | {self.references[index] for index in test}
        own = [index for index, name in enumerate(self.configurations) if name not in gone]
        dense = [index for index, name in enumerate(self.references) if name not in gone]
        return np.array(own, dtype=np.int64), np.array(dense, dtype=np.int64)


def seconds_of(sample: Sample) -> tuple[float, float]:
    """Median seconds of the configuration and of dense."""
    timing = measured(sample)
    return timing.candidate.median_s, timing.dense.median_s


def _parts(
    basis: Basis, spec: ModelSpec, decomposition: Decomposition, work: Workload, in_pairs: bool = False
) -> Floats:
    """What a pass is the sum of, float64 (parts,); `in_pairs` as in `Passes.of`."""

    def summed(part: Workload, head: bool) -> Floats:
        ops = [op for op in forward_ops(spec, decomposition, part) if (op.name == LM_HEAD) is head]
        return np.asarray(basis.parts(OpColumns.of(ops)).sum(axis=-1), dtype=np.float64) if ops else np.zeros(1)

    last = work.phase is Phase.PREFILL and work.lm_head is LmHead.LAST and spec.generates
    if in_pairs and last:
        return summed(work, head=False) + -(-work.batch // 2) * summed(replace(work, batch=1), head=True)
    return summed(work, head=False) + summed(work, head=True)
