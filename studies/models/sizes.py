"""The recipes by size: small for two cores, large for a GPU. How long the large ones take is not measured."""

from __future__ import annotations

from dataclasses import replace

from studies.models.recipe import RECIPES, Recipe

LARGE = {
    name: replace(
        recipe,
        vocab_size=4096,
        layers=16,
        hidden=768,
        intermediate=2048,
        heads=12,
        kv_heads=4 if name == "llama" else 12,
        length=512,
        batch=32,
        steps=2000,
        warmup=200,
        matrix_rate=recipe.matrix_rate / 2,
        rate=recipe.rate / 2,
    )
    for name, recipe in RECIPES.items()
}
"""Wider than the small ones, so at half their rates; some ten times through the standard library."""
SIZES: dict[str, dict[str, Recipe]] = {"small": RECIPES, "large": LARGE}
