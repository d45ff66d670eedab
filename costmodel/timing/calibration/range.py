"""Where a pass leaves what a calibration has seen, as warnings of one line each."""

from __future__ import annotations

from costmodel.decomposition.factors import Decomposition
from costmodel.forward.work import AttentionShape, keys_held
from costmodel.forward.workload import Attention, Workload
from costmodel.model import ModelSpec
from costmodel.timing.calibration.record import GENERATION, Calibration
from costmodel.units import DType

_SHOWN = 4


def leaves(
    calibration: Calibration, model: ModelSpec, work: Workload, decomposition: Decomposition | None = None
) -> list[str]:
    """One line per way in which a pass leaves the measured range; empty when all of it lies inside, and at the level of
    a generation, of which nothing was measured."""
    if calibration.level == GENERATION:
        return []
    if calibration.passes is not None:
        return [f"calibration {calibration.name}: {text}" for text in calibration.passes.reach.outside(model, work)]
    form = calibration.shaped["gemm"]
    (m_low, n_low, k_low), (m_high, n_high, k_high) = form.low, form.high
    texts = []
    if not m_low <= work.tokens <= m_high:
        texts.append(f"batch x length {work.tokens} is outside the {m_low:g} to {m_high:g} that were measured")
    widest = max([model.vocab_size, *(size for t in model.tensors for size in (t.out_features, t.in_features))])
    if widest > max(n_high, k_high):
        texts.append(f"a weight of width {widest} is beyond the {max(n_high, k_high):g} measured")
    ranks = {rank for factor in decomposition.factors.values() for rank in factor.ranks} if decomposition else set()
    below = sorted(rank for rank in ranks if rank < min(n_low, k_low))
    if below:
        texts.append(f"ranks below {min(n_low, k_low):g} were not measured: {_some(below)}")
    crooked = sorted(rank for rank in ranks if rank % form.multiple and rank not in below)
    if crooked:
        known = "priced by a stated prior" if form.alignment else "priced as if aligned"
        texts.append(f"only ranks that are multiples of {form.multiple} were measured, {known}: {_some(crooked)}")
    texts += _attention(calibration, model, work)
    if work.dtype not in (calibration.dtypes[0], DType.FP8):
        texts.append(f"measured in {calibration.dtypes[0].value}, taken to hold for {work.dtype.value}")
    if work.quantised:
        texts.append(f"{work.site_dtype.value} weights were not measured: fewer bytes, else as {work.dtype.value}")
    return [f"calibration {calibration.name}: {text}" for text in texts]


def _attention(calibration: Calibration, model: ModelSpec, work: Workload) -> list[str]:
    kind = "decode" if work.q_len == 1 else "prefill"
    form = calibration.shaped.get(kind)  # type: ignore[call-overload]
    if work.attention is Attention.UNFUSED or form is None:
        return ["attention of this form was not measured: priced as the GEMMs and copies that it consists of"]
    texts = []
    for window in dict.fromkeys(model.sliding_windows):
        keys = keys_held(work.q_len, work.kv_len, window)
        shape = AttentionShape(work.batch, work.q_len, keys, model.num_heads, model.num_kv_heads, model.head_dim)
        texts += [
            f"attention's {name} {value} is outside the {low:g} to {high:g} that were measured"
            for name, value, low, high in zip(shape._fields, shape, form.low, form.high, strict=True)
            if not low <= value <= high
        ]
    return list(dict.fromkeys(texts))


def _some(values: list[int]) -> str:
    shown = ", ".join(str(value) for value in values[:_SHOWN])
    return f"{shown} and {len(values) - _SHOWN} more" if len(values) > _SHOWN else shown
