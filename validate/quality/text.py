"""Negative log-likelihood, divergence and flips on text, block by block, of the model as it is at the moment."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from validate.errors import MeasurementError
from validate.factors.replace import clone
from validate.models.blocks import IGNORED, Blocks
from validate.models.pretrained import Pretrained
from validate.quality.prefix import DensePrefix
from validate.quality.records import TextRecord
from validate.store.digests import Source

SAME = 1e-5
"""Nats by which log-probabilities may differ when layers are skipped; where they do by more, none are."""
KEPT_BYTES = 4 * 2**30
"""Dense predictions that are kept in memory; larger ones are computed again for each case, by the head alone from the
states after the last layer."""


class TextMeasure:
    """Measures a model against itself before anything was replaced in it.

    Make it, and ask for `dense`, while the model is dense: that computes the predictions which all candidates are
    compared with.

    Args:
        pretrained: a model with a language-modelling head, dense.
        blocks: what to predict.
        source: where the text is from.
        batch: blocks that run together; the same for all that is compared, since roundings depend on it.
        kept_bytes: see KEPT_BYTES.
        reuse: whether to start from the dense model's hidden states; else every layer runs each time.
    """

    def __init__(
        self,
        pretrained: Pretrained,
        blocks: Blocks,
        source: Source,
        *,
        batch: int = 8,
        kept_bytes: int = KEPT_BYTES,
        reuse: bool = True,
    ) -> None:
        self._model, self._device = pretrained.model, pretrained.device
        self._blocks, self._source, self._batch = blocks, source, batch
        self._cached = {} if pretrained.spec.is_encoder else {"use_cache": False}
        size = 4 * sum(blocks.tokens) * pretrained.spec.vocab_size
        self._twin: Any = clone(self._model) if size > kept_bytes else None
        self._twin_body = self._twin if pretrained.body is pretrained.model else getattr(self._twin, "base_model", None)
        self._kept: list[torch.Tensor] = []
        self._prefix = DensePrefix(pretrained, blocks.inputs.numel())
        self._prefix.usable &= reuse
        self._layers = pretrained.spec.num_layers
        self._dense: TextRecord | None = None

    @property
    def dense(self) -> TextRecord:
        """The dense model's own record, computed at the first call: no divergence, no flips.

        Raises:
            MeasurementError: when a prediction is not finite.
        """
        if self._dense is None:
            with torch.inference_mode():
                self._dense = self._measure(remember=True)
                self._check_prefix()
        return self._dense

    def measure(self, first: int = 0) -> TextRecord:
        """The record of the model as it is now, after `dense` was computed.

        Args:
            first: number of the first layer that is not the dense one; those before it are not run again.

        Raises:
            MeasurementError: when a prediction is not finite.
        """
        with torch.inference_mode():
            return self._measure(remember=False, first=first)

    def _check_prefix(self) -> None:
        """Skip layers from now on only where the dense model, started at its last or behind it, predicts what it does
        whole."""
        inputs, targets = next(self._batches())
        whole = self._kept[0] if self._twin is None else self._predict(self._model, inputs, targets)
        for start in (self._layers - 1, self._layers):
            with self._prefix.starting(start, 0):
                own = self._predict(self._model, inputs, targets)
            if not torch.allclose(own, whole, rtol=0, atol=SAME):
                self._prefix.forget()
                return

    def _measure(self, *, remember: bool, first: int = 0) -> TextRecord:
        rows: list[torch.Tensor] = []
        for index, (inputs, targets) in enumerate(self._batches()):
            with self._prefix.recording(index) if remember else self._prefix.starting(first, index):
                own = self._predict(self._model, inputs, targets)
            if remember:
                dense = own
                if self._twin is None:
                    self._kept.append(own)
            else:
                dense = self._kept[index] if self._twin is None else self._predict_dense(index, inputs, targets)
            rows.append(_sums(own, dense, targets))
        nll, kl, flips, hits = torch.cat(rows, dim=1)
        tokens = self._blocks.tokens
        for name, sums in (("negative log-likelihood", nll), ("divergence from dense", kl)):
            bad = int((~torch.isfinite(sums)).sum())
            if bad:
                raise MeasurementError("non-finite", f"{name} is NaN or infinite in {bad} of {len(tokens)} blocks")
        return TextRecord(
            kind=self._blocks.kind,
            source=self._source,
            length=self._blocks.inputs.shape[1],
            tokens=tokens,
            nll=_rounded(nll),
            kl=_rounded(kl),
            flips=_counts(flips),
            hits=_counts(hits),
        )

    def _batches(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        blocks = self._blocks
        parts = (torch.split(each, self._batch) for each in (blocks.inputs, blocks.targets))
        for inputs, targets in zip(*parts, strict=True):
            yield inputs.to(self._device), targets.to(self._device)

    def _predict_dense(self, batch: int, inputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """The dense model's log-probabilities, again."""
        with self._prefix.starting(self._layers, batch, body=self._twin_body):
            return self._predict(self._twin, inputs, targets)

    def _predict(self, model: nn.Module, inputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Log-probabilities where something is asked: float32 (predictions, vocabulary)."""
        logits = model(input_ids=inputs, **self._cached).logits
        return torch.log_softmax(logits[targets != IGNORED].float(), dim=-1)


def _sums(own: torch.Tensor, dense: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """nll, kl, flips and hits of each block: float64 (4, blocks).

    KL(dense || own) = sum_v p_dense (log p_dense - log p_own), exactly 0 where both are the same bits.
    """
    asked = targets != IGNORED
    truth, best = targets[asked], own.argmax(-1)
    nll = -own.gather(1, truth[:, None])[:, 0]
    kl = (dense - own).mul_(dense.exp()).sum(-1)
    values = torch.stack([each.to(torch.float64) for each in (nll, kl, best != dense.argmax(-1), best == truth)])
    block = asked.nonzero()[:, 0]
    return torch.zeros(4, len(targets), dtype=torch.float64, device=own.device).index_add_(1, block, values).cpu()


def _rounded(sums: torch.Tensor) -> list[float]:
    """Nats to 1e-6, far below what fp32 resolves in a sum over a block."""
    return [round(value, 6) for value in sums.tolist()]


def _counts(sums: torch.Tensor) -> list[int]:
    return [round(value) for value in sums.tolist()]
