"""The stages of the loop in order; each keeps what it made, so that a loop can be killed at any time and continued."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from costmodel.decomposition.factors import Decomposition, check_rank
from costmodel.decomposition.text import Rank
from costmodel.files.write import write_file
from costmodel.forward.workload import Phase
from costmodel.model import ModelSpec
from costmodel.space.make import resolve_ranks
from validate.choose.baselines import baselines
from validate.choose.child import run_validate
from validate.choose.dropping import Dropping, search_dropping
from validate.choose.fitted import fit_name, write_quality
from validate.choose.measuring import TextQuality
from validate.choose.points import CONFIGS, Plan, Point, decompositions, distinct, found_keys, round_name
from validate.choose.points import NAME as PLAN
from validate.choose.refit import refit
from validate.choose.results import AGAIN, read_results
from validate.choose.search import Search
from validate.choose.settings import NAME as SETTINGS
from validate.choose.settings import Settings
from validate.choose.stages import Stages
from validate.choose.texts import SEARCH, VERIFY, check_texts, write_halves
from validate.choose.verdict import choice
from validate.cluster.connection import Cluster
from validate.quality.measure import ShowProgress
from validate.quality.records import QualityRecord
from validate.sensitivity.settings import SensitivitySettings
from validate.speed.records import Sample, read_samples

SENSITIVITY = "model.sensitivity"
REFIT = "refit.json"
SEARCHED, VERIFIED, LATENCY = "search", "verify", "latency"
"""Folders of records: quality on either half of the text, and times."""
DROP_SETS = 8
"""Sets of dropped layers beside which the other sites are searched; each takes as long as the whole per-site space."""


class Loop:
    """From a checkpoint to measured frontiers and baselines.

    Args:
        settings: what to do.
        folder: where everything is kept.
        tell: told one line about each stage.
        progress: shows how far measuring is.
        heard: told each line of progress of a process that measures, where stderr is no terminal.
        cluster: whose workers measure sensitivity and quality; None for this process. Times are taken here.

    Raises:
        CostModelError: when the inputs do not fit together, before anything is measured.
    """

    def __init__(
        self,
        settings: Settings,
        folder: Path,
        tell: Callable[[str], None],
        progress: ShowProgress,
        heard: Callable[[str], None],
        cluster: Cluster | None = None,
    ) -> None:
        self._settings, self._folder, self._progress, self._cluster = settings, folder, progress, cluster
        self._heard = heard
        self._setup = settings.setup()
        self._ranks = settings.rank_list
        _check_ranks(self._setup.model, self._ranks, settings.multiple)
        self._given = settings.baseline(self._setup.model)
        if not (folder / SETTINGS).exists():  # what cannot be measured must not leave a folder that refuses all else
            check_texts(settings, self._setup.model)
        folder.mkdir(parents=True, exist_ok=True)
        settings.keep(folder, self._setup)
        self._stages = Stages(folder, tell)
        self._texts: dict[str, TextQuality] = {}
        self._plan: Plan | None = None

    def run(self) -> None:
        """Do what is not done yet."""
        run = self._stages.run
        run("texts", self._halve)
        run("sensitivity", self._sensitivity)
        run("samples", self._samples)
        run("fit", lambda: self._fit(fit_name(0)))
        run("layer dropping", lambda: f"{len(self._dropped())} sets of layers")
        for number in range(1, self._settings.rounds + 1):
            run(f"round {number}, search", partial(self._search_round, number))
            run(f"round {number}, quality", partial(self._quality, SEARCHED, round_name(number)))
            run(f"round {number}, fit", partial(self._fit, fit_name(number)))
        run("search", self._search)
        run("quality, half searched on", lambda: self._quality(SEARCHED))
        run("quality, other half", lambda: self._quality(VERIFIED))
        self._close()  # nothing of the model stays in memory while times are taken
        run("latency", self._latency)
        run(f"latency again, choice within {self._settings.accept:g}", self._latency_again)
        run("refit", self._refit)

    def _halve(self) -> str:
        write_halves(self._settings.text, self._folder)
        return "the text cut in two halves"

    def _sensitivity(self) -> str:
        from validate.sensitivity.measure import measure_sensitivity

        settings = self._settings
        found = measure_sensitivity(
            settings.model,
            Path(settings.calibration_text),
            self._folder / SENSITIVITY,
            SensitivitySettings(
                length=self._text(SEARCHED).job.length,
                blocks=settings.calibration_blocks,
                batch=settings.batch,
                fisher=True,
                device=settings.device,
            ),
            cluster=self._cluster,
        )
        return f"{len(found.sites)} sites"

    def _samples(self) -> str:
        found = self._text(SEARCHED).sampled(self._settings.samples)
        failed = sum(record.failure is not None for record in found)
        return f"{len(found)} configurations" + (f", {failed} failed" if failed else "")

    def _fit(self, name: str) -> str:
        folder = self._folder
        return write_quality(self._settings, folder / SEARCHED, found_keys(folder), folder / SENSITIVITY, folder / name)

    def _dropped(self) -> list[Dropping]:
        def losses(configs: Sequence[Decomposition]) -> list[float]:
            return [_nll(record) for record in self._text(SEARCHED).measure(configs)]

        return search_dropping(self._setup.model.num_layers, losses)

    def _losses(self, dropped: Sequence[Dropping]) -> dict[frozenset[int], float]:
        """Measured increase of NLL of sets of dropped layers."""
        configs = [each.config for each in dropped]
        dense, *found = [_nll(record) for record in self._text(SEARCHED).measure([Decomposition(), *configs])]
        return {config.dropped: value - dense for config, value in zip(configs, found, strict=True)}

    def _search(self) -> str:
        settings = self._settings
        began = time.monotonic()
        dropped = self._dropped()
        search = self._searched(fit_name(settings.rounds), dropped)
        named = baselines(self._setup.model, search.homogeneous, dropped, count=settings.random, seed=settings.seed)
        if self._given is not None:
            named.append(("recipe", "as it was given", self._given))
        points = distinct(
            [*search.spread(settings.points), *search.matches(named), *(search.baseline(each) for each in named)]
        )
        self._write(search, points, PLAN)
        counts = {role: sum(point.role == role for point in points) for role in ("frontier", "match", "baseline")}
        took = time.monotonic() - began
        return ", ".join(f"{count} {role}" for role, count in counts.items()) + f" points, found in {took:.1f} s"

    def _search_round(self, number: int) -> str:
        search = self._searched(fit_name(number - 1), [])  # dropped sets take most of the time, and correct little
        points = distinct(search.spread(self._settings.points))
        self._write(search, points, round_name(number))
        return f"{len(points)} points"

    def _searched(self, quality: str, dropped: Sequence[Dropping]) -> Search:
        """The search with a quality file."""
        greedy = [each.config.dropped for each in dropped if each.rule == "greedy"]
        places = np.linspace(0, len(greedy) - 1, min(len(greedy), DROP_SETS)).round().astype(int)
        return Search(
            self._setup,
            self._ranks,
            self._folder / quality,
            self._losses(dropped),
            beside={greedy[place] for place in places},
            multiple=self._settings.multiple,
        )

    def _write(self, search: Search, points: Sequence[Point], name: str) -> None:
        Plan(
            points=list(points),
            curves=[each.curve() for each in search.frontiers],
            dense=search.dense(),
            dense_params=self._setup.model.num_params,
            metric=search.metric,
        ).write(self._folder, name)

    def _quality(self, name: str, plan_name: str = PLAN) -> str:
        plan = Plan.read(self._folder, plan_name)
        found = self._text(name).measure(decompositions(plan.points, self._setup.model))
        return f"{len(found)} configurations"

    def _latency(self) -> str:
        samples = self._timed(self._folder / CONFIGS, self._folder / LATENCY)
        return f"{len(samples)} timed, {sum(sample.status != 'ok' for sample in samples)} failed"

    def _latency_again(self) -> str:
        """The fastest of many measured ones is fastest by luck too: what was chosen is timed once more."""
        chosen = choice(read_results(self._folder), self._settings.accept)
        if chosen is None:
            return "the choice is dense"
        key = hashlib.sha256(chosen.point.key.encode()).hexdigest()[:12]
        (self._folder / AGAIN).mkdir(exist_ok=True)
        configs = self._folder / AGAIN / f"{key}.json"
        write_file(configs, chosen.point.key.encode() + b"\n")
        self._timed(configs, self._folder / AGAIN / key)
        found = read_results(self._folder).again.get(chosen.point.key, {})
        return ", ".join(f"{phase} {timing.ratio:.3f} of dense" for phase, timing in found.items()) or "failed"

    def _timed(self, configs: Path, folder: Path) -> list[Sample]:
        """Records of configurations beside dense, in turns, and of dense beside itself."""
        settings = self._settings
        lengths = []
        for work in self._setup.workloads:
            option = "--seq-len" if work.phase is Phase.PREFILL else "--kv-len"
            lengths += [option, str(work.kv_len)]
        words = [
            "--model",
            settings.model,
            "--configs",
            str(configs),
            "--phase",
            settings.phase,
            "--batch",
            str(settings.batch_size),
            *lengths,
            "--dtype",
            settings.dtype,
            "--runtime",
            "eager",
            "--device",
            settings.device,
            "--hw",
            settings.hw,
            "--calibration",
            settings.calibration,
            "--budget",
            str(settings.budget),
            "--precision",
            str(settings.precision),
            "--seed",
            str(settings.seed),
            "--out",
            str(folder),
            "--resume",
        ]
        if settings.threads is not None:
            words += ["--threads", str(settings.threads)]
        run_validate(words, folder.with_suffix(".txt"), self._heard)
        return read_samples(folder)

    def _refit(self) -> str:
        note = self._fit(REFIT)
        return f"{note}; {refit(self._searched(REFIT, self._dropped()), self._setup.model, self._folder)}"

    def _text(self, name: str) -> TextQuality:
        """Loaded when first needed; one model at a time."""
        if name not in self._texts:
            self._close()
            text = {SEARCHED: SEARCH, VERIFIED: VERIFY}[name]
            folder = self._folder
            self._texts[name] = TextQuality(self._settings, folder / text, folder / name, self._progress, self._cluster)
        return self._texts[name]

    def _close(self) -> None:
        for text in self._texts.values():
            text.close()
        self._texts.clear()


def _nll(record: QualityRecord) -> float:
    if record.text is None:
        raise AssertionError("measured without a text")
    return sum(record.text.nll) / sum(record.text.tokens)


def _check_ranks(model: ModelSpec, ranks: Sequence[Rank], multiple: int) -> None:
    for tensor, row in zip(model.tensors, resolve_ranks(model, "svd", ranks, multiple), strict=True):
        check_rank(max(row), tensor, f"--ranks: {tensor.name}")
