"""Ours beside baselines at the same size, on a pretrained model: loss above dense, in nats per token.

    validate import gguf SmolLM2-135M-Instruct.Q4_1.gguf --out smollm2
    python -m studies.smollm2.run --model smollm2 --text wikitext2_raw.test.txt \\
        --calibration-text wikitext2_raw.valid.txt --out studies/smollm2

Records go to DIR/compared.jsonl as they are measured; the same command continues, with `--methods` and `--removed` for
a part. From the records alone come DIR/compared.md and DIR/compared.png.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path

import click
import torch

from costmodel.cli import run
from costmodel.decomposition.factors import Decomposition
from studies.comparison.allocate import allocate, curvatures
from studies.comparison.baselines import AsvdFactors, FwsvdFactors, dropped, share_removed, uniform
from studies.comparison.record import measure_missing
from studies.comparison.statistics import Statistics, causal_statistics
from studies.smollm2.page import write_page
from studies.smollm2.record import Measured
from validate.factors.kinds import Factors
from validate.factors.replace import Replacement, StageMaker, WeightFactors
from validate.factors.sequential import SequentialFactors
from validate.models.blocks import Blocks, text_blocks
from validate.models.pretrained import Pretrained, open_pretrained
from validate.quality.job import TextFile
from validate.quality.opening import calibrated_factors
from validate.quality.text import TextMeasure
from validate.sensitivity.file import Sensitivity
from validate.sensitivity.measure import measure_sensitivity
from validate.sensitivity.settings import SensitivitySettings
from validate.store.digests import Source, checkpoint_sha256

METHODS = {
    "svd": ("uniform", "plain"),
    "fwsvd": ("uniform", "fwsvd"),
    "asvd": ("uniform", "asvd"),
    "svd-llm": ("uniform", "whitened"),
    "drop late": ("late", ""),
    "drop influence": ("influence", ""),
    "drop alone": ("alone", ""),
    "uniform, sequential": ("uniform", "sequential"),
    "ours, whitened": ("allocated", "whitened"),
    "ours, fisher": ("allocated", "fisher"),
    "ours, sequential": ("allocated", "sequential"),
    "ours, layers too": ("joint", "sequential"),
}
"""By name: how ranks or layers are chosen, and how factors are computed."""
SIZES = (0.05, 0.1, 0.2, 0.3, 0.4)
FILE = "compared.jsonl"


class Comparison:
    """A model, its texts, and what is computed of them once, when it is first needed.

    Args:
        model: folder of a causal checkpoint.
        text, calibration: files to judge on, and to fit to.
        blocks, length: of the text; `calibration_blocks` of the same length.
        scratch: where the sensitivity file is kept.
    """

    def __init__(
        self,
        model: str,
        text: str,
        calibration: str,
        *,
        blocks: int,
        calibration_blocks: int,
        length: int,
        scratch: Path,
    ) -> None:
        self._model, self._scratch = model, scratch
        self._pretrained: Pretrained = open_pretrained(model)
        self._length, self._blocks = length, calibration_blocks
        self._calibration_path = Path(calibration)
        judged, self._calibration = TextFile.read(text), TextFile.read(calibration)
        assert judged is not None
        assert self._calibration is not None
        asked, self._fitted = self._cut(judged, blocks), self._cut(self._calibration, calibration_blocks)
        self.text, self.calibration = self._name(asked), self._name(self._fitted)
        self.weights = checkpoint_sha256(Path(model))
        self._measure = TextMeasure(self._pretrained, asked, judged.source, batch=4)

    def measure(self, method: str, removed: float) -> Measured:
        """One line."""
        began = time.monotonic()
        spec = self._pretrained.spec
        dense = self._measure.dense
        decomposition, found = Decomposition(), dense
        if method != "dense":
            chosen, factors = METHODS[method]
            decomposition = self._configuration(chosen, removed)
            make = self._maker(factors) if factors else WeightFactors()
            stages = make.fitted(decomposition) if isinstance(make, SequentialFactors) else make
            with Replacement(self._pretrained.body, spec, decomposition, stages):
                found = self._measure.measure()
        return Measured(
            method=method,
            asked=removed,
            removed=share_removed(spec, decomposition),
            nll=found.nll,
            kl=found.kl,
            tokens=found.tokens,
            text=self.text,
            calibration=self.calibration,
            weights=self.weights,
            config=decomposition.to_json(),
            seconds=round(time.monotonic() - began, 1),
        )

    def _cut(self, text: TextFile, count: int) -> Blocks:
        pretrained = self._pretrained
        asked = (pretrained.model, pretrained.spec, pretrained.tokenizer, text.content)
        return text_blocks(*asked, self._length, count)

    def _name(self, blocks: Blocks) -> str:
        digest = hashlib.sha256(blocks.inputs.numpy().tobytes()).hexdigest()
        return f"{digest} {len(blocks.inputs)} x {self._length}"

    def _configuration(self, chosen: str, removed: float) -> Decomposition:
        spec = self._pretrained.spec
        if chosen == "uniform":
            return uniform(spec, removed)
        if chosen == "allocated":
            return allocate(spec, curvatures(self._sensitivity()), removed)
        if chosen == "joint":
            tokens = sum(self._fitted.tokens)
            drops = {layer: loss / tokens for layer, loss in self._alone().items()}
            return allocate(spec, curvatures(self._sensitivity()), removed, drops=drops)
        rules: Mapping[str, Callable[[], Mapping[int, float]]] = {
            "late": dict,
            "influence": lambda: {layer: 1 - cosine for layer, cosine in self._statistics().similarities.items()},
            "alone": self._alone,
        }
        return dropped(spec, removed, chosen, rules[chosen]())

    @cache  # noqa: B019 - one comparison a process
    def _statistics(self) -> Statistics:
        return causal_statistics(self._pretrained, self._fitted)

    @cache  # noqa: B019
    def _alone(self) -> Mapping[int, float]:
        """Loss on the calibration text without each layer alone."""
        spec = self._pretrained.spec
        found: dict[int, float] = {}
        measure = TextMeasure(self._pretrained, self._fitted, Source(name="calibration", sha256="0"), batch=4)
        dense = sum(measure.dense.nll)
        for layer in range(spec.num_layers):
            without = Decomposition(dropped=frozenset({layer}))
            with Replacement(self._pretrained.body, spec, without, WeightFactors()):
                found[layer] = sum(measure.measure(layer).nll) - dense
        return found

    @cache  # noqa: B019
    def _sensitivity(self) -> Sensitivity:
        settings = SensitivitySettings(blocks=self._blocks, length=self._length, fisher=True, batch=4)
        return measure_sensitivity(self._model, self._calibration_path, self._scratch / "model.sensitivity", settings)

    @cache  # noqa: B019
    def _maker(self, factors: str) -> StageMaker | SequentialFactors:
        if factors in ("fwsvd", "asvd"):
            return (FwsvdFactors if factors == "fwsvd" else AsvdFactors)(self._statistics())
        kind: Factors = factors  # type: ignore[assignment]
        assert self._calibration is not None
        return calibrated_factors(kind, self._pretrained, self._calibration, length=self._length, blocks=self._blocks)


@click.command(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
@click.option("--model", required=True, metavar="DIR", help="Causal checkpoint with a tokenizer.")
@click.option("--text", required=True, metavar="FILE", help="Text to judge on.")
@click.option("--calibration-text", "calibration", required=True, metavar="FILE", help="Text to fit and choose on.")
@click.option("--blocks", type=click.IntRange(2), default=64, show_default=True, help="Of the text.")
@click.option("--calibration-blocks", type=click.IntRange(1), default=32, show_default=True)
@click.option("--length", type=click.IntRange(2), default=512, show_default=True, help="Tokens of a block.")
@click.option("--methods", type=click.Choice(list(METHODS)), multiple=True, help="A part of them.")
@click.option("--removed", type=click.FloatRange(0, 1, min_open=True), multiple=True, help="Shares of the parameters.")
@click.option("--stop-after", type=click.FloatRange(1), metavar="SECONDS", help="Start no further one after this long.")
@click.option(
    "--scratch", default="smollm2-scratch", show_default=True, metavar="DIR", help="For the sensitivity file."
)
@click.option("--out", required=True, metavar="DIR", help="Where records, page and figure go.")
def command(
    model: str,
    text: str,
    calibration: str,
    blocks: int,
    calibration_blocks: int,
    length: int,
    methods: tuple[str, ...],
    removed: tuple[float, ...],
    stop_after: float | None,
    scratch: str,
    out: str,
) -> None:
    """Measure ours and the baselines at the same shares of parameters removed; continue where a call stopped."""
    began = time.monotonic()
    torch.manual_seed(0)
    folder, kept = Path(out), Path(scratch)
    for each in (folder, kept):
        each.mkdir(parents=True, exist_ok=True)
    comparison = Comparison(
        model, text, calibration, blocks=blocks, calibration_blocks=calibration_blocks, length=length, scratch=kept
    )
    rows = measure_missing(
        folder / FILE,
        Measured,
        comparison,
        [(method, size) for size in removed or SIZES for method in methods or METHODS],
        until=None if stop_after is None else began + stop_after,
        told=lambda row: f"{row.method} at {100 * row.removed:.1f} %: {row.loss:.4f} nats, {row.seconds:.0f} s",
    )
    write_page(rows, folder)


if __name__ == "__main__":
    run(command)
