"""A configuration as options name it."""

from __future__ import annotations

from dataclasses import dataclass, field

from costmodel.decomposition.factors import Decomposition, load_decomposition
from costmodel.decomposition.held import held, other_than_held
from costmodel.decomposition.presets import Preset, preset_specs
from costmodel.decomposition.text import parse_decomposition
from costmodel.errors import InputError
from costmodel.model import ModelSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class DecompositionSettings:
    """Configuration file and SPECs; metadata is what `--help` says of each."""

    decompose: tuple[str, ...] = field(
        default=(),
        metadata={
            "metavar": "SPEC",
            "help": 'For example "layers=2,17,31 tensors=all rank=1 form=tucker"; repeatable, or joined by " + "; the '
            "later wins.",
        },
    )
    config: str | None = field(
        default=None, metadata={"metavar": "FILE", "help": "Configuration as JSON; SPECs apply on top."}
    )

    recipe: str | None = field(
        default=None, metadata={"metavar": "FILE.toml", "help": "Configuration as a recipe; SPECs apply on top."}
    )
    preset: Preset | None = field(
        default=None,
        metadata={"help": "Half of break-even everywhere, in the MLP, or in all but the first and last layer."},
    )

    @property
    def named(self) -> bool:
        """Whether any configuration is named."""
        return bool(self.decompose or self.config or self.recipe or self.preset)

    def load(self, model: ModelSpec) -> Decomposition:
        """The preset, the recipe or the configuration file, and every SPEC on top, each on those before it; what the
        model's folder holds where none is named.

        Raises:
            InputError: when more than one of preset, recipe and file is named.
            DecompositionError: when one cannot be read or does not fit the model.
        """
        if not self.named and (own := held(model)) is not None:
            return own
        named = [f"--{name}" for name in ("preset", "recipe", "config") if getattr(self, name) is not None]
        if len(named) > 1:
            raise InputError(f"{' and '.join(named)} each name the configuration", hint="leave one out")
        base = Decomposition()
        if self.preset is not None:
            base = parse_decomposition(preset_specs(self.preset, model), model)
        if self.recipe is not None:
            from costmodel.decomposition.recipe import load_recipe  # few name one

            base = parse_decomposition(load_recipe(self.recipe), model, base)
        if self.config is not None:
            base = load_decomposition(self.config, model)
        return parse_decomposition(self.decompose, model, base)

    def warnings(self, model: ModelSpec) -> tuple[str, ...]:
        """What a user should know of the names: a recipe that was written for another model, a configuration beside the
        one that the model's folder holds.

        Raises:
            CostModelError: as `load`.
        """
        beside = other_than_held(self.load(model), model) if model.factored is not None else ()
        return (*beside, *self.recipe_warnings(model))

    def recipe_warnings(self, model: ModelSpec) -> tuple[str, ...]:
        """A recipe that was written for another model.

        Raises:
            DecompositionError: when the recipe cannot be read.
        """
        if self.recipe is None:
            return ()
        from costmodel.decomposition.recipe import written_for_another

        return written_for_another(self.recipe, model)
