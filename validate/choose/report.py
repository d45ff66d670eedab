"""What a finished loop says: tables, page, figures, the configuration that was chosen; from records alone. No torch."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from costmodel.decomposition.factors import Decomposition
from costmodel.decomposition.recipe import recipe_text
from costmodel.families.load import load_model
from costmodel.files.write import write_file
from costmodel.show.site_map import SiteMap
from costmodel.show.site_map_plot import site_map_plot
from validate.checkpoint.choice import Choice, Chosen, ChosenText
from validate.choose.figures import duel_plot, optimism_plot, trade_off
from validate.choose.maps import choice_maps
from validate.choose.page import loop_page
from validate.choose.page_words import choice_latency
from validate.choose.refit import NAME as MOVED
from validate.choose.refit import Moved
from validate.choose.results import read_results
from validate.choose.settings import NAME, Settings
from validate.choose.stages import read_stages
from validate.choose.verdict import Verdict
from validate.errors import RunError
from validate.interval import interval_text
from validate.quality.job import LENGTH
from validate.store.settings import load_settings

PAGE, CHOICE, RECIPE, SUMMARY, FIGURES = "report.html", "choice.json", "recipe.toml", "verdict.json", "figures"


def write_report(folder: Path, accept: float | None = None) -> tuple[Verdict, list[str]]:
    """Write page, figures, verdict.json, choice.json and recipe.toml; return the verdict and what else is to be said.

    Args:
        folder: of the loop.
        accept: increase of NLL that the choice may have, from now on; None for that of the settings.

    Raises:
        CostModelError: when something is not there or damaged.
    """
    settings = Settings.read(folder)
    verdict = Verdict.of(read_results(folder), settings.accept if accept is None else accept)
    if accept is not None and accept != settings.accept:
        settings = settings.accepting(folder, accept)
    moved = Moved.read(folder) if (folder / MOVED).exists() else None
    maps = choice_maps(folder, settings, verdict)
    write_file(folder / PAGE, loop_page(settings, verdict, moved, read_stages(folder), maps).encode())
    content = {**verdict.to_json(), "refit": None if moved is None else moved.to_json()}
    write_file(folder / SUMMARY, json.dumps(content, indent=1, allow_nan=False).encode() + b"\n")
    _write_figures(folder / FIGURES, verdict, moved, maps)
    _write_choice(folder, settings, verdict)
    return verdict, _lines(folder, verdict, moved)


def _write_choice(folder: Path, settings: Settings, verdict: Verdict) -> None:
    """choice.json, and its configuration as a recipe. Where the checkpoint is gone, whose tensors a recipe names, the
    recipe of the same choice stays, and that of another one goes."""
    content = json.dumps(_choice(folder, settings, verdict), indent=1).encode() + b"\n"
    path, recipe = folder / CHOICE, folder / RECIPE
    changed = path.exists() and path.read_bytes() != content
    write_file(path, content)
    if not Path(settings.model).is_dir():
        if changed:
            recipe.unlink(missing_ok=True)
        return
    model, chosen = load_model(settings.model), verdict.choice
    config = Decomposition() if chosen is None else Decomposition.from_json(chosen.point.config, model)
    write_file(recipe, recipe_text(config, model).encode())


def _choice(folder: Path, settings: Settings, verdict: Verdict) -> dict[str, Any]:
    """A configuration, and all that `validate apply --choice` needs to make exactly what was verified."""
    chosen = verdict.choice
    if chosen is None:
        return {"form": "svd", "ranks": {}, "drop": []}
    digests = (load_settings(folder, NAME) or {}).get("digests", {})
    text = None
    if settings.factors != "plain":
        text = ChosenText(
            name=Path(settings.calibration_text).name,
            sha256=digests.get("calibration_text", ""),
            blocks=settings.calibration_blocks,
            length=settings.length or min(LENGTH, verdict.results.model.max_positions),
        )
    measured = {
        "nll_change": asdict(chosen.change),
        "nll_change_searched": asdict(chosen.change_searched),
        "latency_ratio": {phase: timing.ratio for phase, timing in chosen.timings.items()},
        "device": verdict.results.device,
        "accept": verdict.accept,
    }
    return Choice(
        config=dict(chosen.point.config),
        chosen=Chosen(
            model=verdict.results.name,
            checkpoint=digests.get("checkpoint", ""),
            factors=settings.factors,
            calibration=text,
            measured=measured,
        ),
    ).to_json()


def _write_figures(folder: Path, verdict: Verdict, moved: Moved | None, maps: Sequence[SiteMap]) -> None:
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise RunError("cannot write to folder", value=str(folder), hint=error.strerror or str(error)) from error
    for axis in verdict.axes:
        write_file(folder / f"{axis}.svg", trade_off(verdict, axis, moved))
        write_file(folder / f"{axis}_baselines.svg", duel_plot(verdict.duels, axis))
    write_file(folder / "optimism.svg", optimism_plot(verdict.results))
    write_file(folder / "weights.svg", site_map_plot(maps, verdict.results.name, "svg"))


def _lines(folder: Path, verdict: Verdict, moved: Moved | None) -> list[str]:
    survival, optimism = verdict.survival, verdict.optimism
    lines = [
        verdict.standing.sentence,
        f"frontier: {survival.share(survival.survived)} measured points survive, "
        "beaten by nothing measured that costs no more and clearly loses less; "
        f"{survival.share(survival.plain)} are not beaten even within noise",
    ]
    lines += [f"warning: {doubt}" for doubt in verdict.doubts]
    if optimism is not None:
        lines.append(
            f"optimism: {interval_text(optimism.verify)} nats, measured minus predicted over {optimism.points} points; "
            f"times what the half searched on says, {interval_text(optimism.left)} are left; times "
            f"{optimism.factor.value:.2f} the mean error goes from {optimism.error:.3f} to {optimism.corrected:.3f}"
        )
    if moved is not None and moved.shifts:
        lines.append(f"refit: {moved.sentence}")
    if verdict.choice is None:
        lines.append(f"choice: the dense model; nothing faster within {verdict.accept:g} nats, so nothing to apply")
    else:
        change = interval_text(verdict.choice.change)
        lines.append(f"choice within {verdict.accept:g} nats: {change}, {choice_latency(verdict)}; {folder / CHOICE}")
    return lines
